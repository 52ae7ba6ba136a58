from dataclasses import replace

import pytest

from lib import profiles
from lib.errors import BadInput
from lib.profiles import load_profile, profile_names


def test_the_profiles_load():
    assert profile_names() == ["mini", "paper", "paper_n8", "smoke"]
    assert all(load_profile(name).name == name for name in profile_names())


def test_smoke_is_mini_made_smaller():
    mini, smoke = load_profile("mini"), load_profile("smoke")
    assert smoke.seed == mini.seed
    assert smoke.n_objects < mini.n_objects


def test_override_replaces_and_none_keeps():
    assert load_profile("mini", n_objects=64).n_objects == 64
    assert load_profile("mini", n_objects=None) == load_profile("mini")


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("mimi", {}, "mini, paper, paper_n8, smoke"),
        ("mini", {"n_objectz": 3}, "n_objects"),
        ("mini", {"n_objects": "many"}, "not of type int"),
        ("mini", {"n_objects": True}, "not of type int"),
        ("mini", {"n_objects": 0}, "less than 1"),
    ],
)
def test_bad_names_and_values_say_what_is_right(name, overrides, said):
    with pytest.raises(BadInput, match=said):
        load_profile(name, **overrides)


def test_a_file_with_a_missing_or_unknown_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "FOLDER", tmp_path)
    (tmp_path / "short.toml").write_text("seed = 1\n")
    with pytest.raises(BadInput, match=r"short\.toml: lacks .*n_objects"):
        load_profile("short")
    (tmp_path / "long.toml").write_text((profiles.ROOT / "lib/profiles/mini.toml").read_text() + "\ncolour = 3\n")
    with pytest.raises(BadInput, match=r"long\.toml: there is no setting 'colour'"):
        load_profile("long")


def test_paper_n8_is_the_profile_paper_on_as_many_objects_as_the_paper_judged():
    assert load_profile("paper_n8") == replace(load_profile("paper"), name="paper_n8", n_evaluated=8)
