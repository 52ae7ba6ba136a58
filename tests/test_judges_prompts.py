from itertools import product

import pytest

from lib.errors import BadInput
from lib.judges.prompts import FIRST, LAYOUTS, PHOTO, SECOND, WORDINGS, prompt

EVERY = [prompt(*choice) for choice in product(LAYOUTS, WORDINGS, (False, True))]


def test_every_prompt_has_its_own_id_and_digest():
    assert len({one.id for one in EVERY}) == len({one.digest for one in EVERY}) == len(EVERY) == 30


def test_the_default_is_the_papers_two_images_without_a_reference():
    assert prompt().id == "montage/better"
    assert prompt().parts.count(FIRST) == prompt().parts.count(SECOND) == 1
    assert PHOTO not in prompt().parts


@pytest.mark.parametrize(
    ("layout", "images"), [("montage", 2), ("montage_ref", 3), ("seven_images", 7), ("splat", 2), ("turntable24", 2)]
)
def test_messages_have_a_place_for_every_image_of_the_layout(layout, images):
    (turn,) = prompt(layout).messages()
    assert [part["type"] for part in turn["content"]].count("image") == images
    assert turn["role"] == "user"


def test_the_photo_comes_first_and_each_candidate_after_its_label():
    parts = prompt("montage_ref").parts
    assert parts.index(PHOTO) < parts.index(FIRST) < parts.index(SECOND)
    assert "A" in parts[parts.index(FIRST) - 1]
    assert "B" in parts[parts.index(SECOND) - 1]


def test_a_tie_is_offered_only_where_it_is_asked_for():
    assert prompt().labels == ("A", "B")
    assert prompt(tie=True).labels == ("A", "B", "C")
    assert "C if they are equal" in str(prompt(tie=True))
    assert "equal" not in str(prompt())


@pytest.mark.parametrize("wrong", [{"layout": "montages"}, {"wording": "beter"}])
def test_a_wrong_name_is_an_error_that_lists_the_right_ones(wrong):
    with pytest.raises(BadInput, match=r"montage, montage_ref|better, faults"):
        prompt(**wrong)
