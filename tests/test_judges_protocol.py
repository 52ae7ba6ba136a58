import numpy as np
import pytest
from PIL import Image

from lib.errors import BadInput
from lib.judges.candidates import Candidate, Pair, Picture
from lib.judges.prompts import LAYOUTS
from lib.judges.protocol import judge_pairs
from lib.judges.roles import EvaluationJudge, Scorer, TrainingJudge, label
from lib.judges.verdicts import Answer, Verdict
from lib.study.records import Records


class Brightness:
    """A judge that prefers the brighter picture, with a bias to the first; its clock stands still."""

    def __init__(self, family="fake", layout="montage", bias=0.0, batch=4):
        self.family, self.layout, self.bias, self.batch, self.asked = family, LAYOUTS[layout], bias, batch, []
        self.settings = {"model": family, "bias": bias, "batch": batch}

    def ask(self, questions):
        self.asked.append(len(questions))
        return [self.answer(*(c.pictures(self.layout)[0].pixels.mean() for c in q.candidates)) for q in questions]

    def answer(self, first, second):
        p = round(1 / (1 + np.exp((second - first) / 10 - self.bias)), 6)
        return Answer((p, round(1 - p, 6)), 0.9, 0.001)


def candidate(level, object="chair", **facts):
    return Candidate(object, {"montage": [np.full((4, 4, 3), level, np.uint8)]}, facts)


def pairs(count=5, step=10):
    return [Pair(candidate(100 + step * index), candidate(120)) for index in range(count)]


def answer(*p):
    return Answer(p, 1.0, 0.0)


@pytest.mark.parametrize(
    ("ab", "ba", "outcome", "averaged"),
    [
        ((0.9, 0.1), (0.2, 0.8), "win", "win"),
        ((0.1, 0.9), (0.8, 0.2), "loss", "loss"),
        ((0.9, 0.1), (0.6, 0.4), "flip", "win"),
        ((0.6, 0.4), (0.9, 0.1), "flip", "loss"),
        ((0.4, 0.6), (0.3, 0.7), "flip", "win"),
        ((0.7, 0.3), (0.7, 0.3), "flip", "tie"),
        ((0.5, 0.5), (0.5, 0.5), "flip", "tie"),
        ((0.1, 0.1, 0.8), (0.2, 0.1, 0.7), "tie", "tie"),
        ((0.7, 0.1, 0.2), (0.1, 0.3, 0.6), "flip", "win"),
        ((0.5, 0.1, 0.4), (0.1, 0.2, 0.7), "flip", "tie"),
        ((0.6, 0.1, 0.3), (0.1, 0.5, 0.4), "win", "win"),
    ],
)
def test_only_what_survives_the_swap_counts_and_averaging_discards_nothing(ab, ba, outcome, averaged):
    verdict = Verdict(answer(*ab), answer(*ba))
    assert (verdict.outcome, verdict.averaged) == (outcome, averaged)


def test_every_pair_is_asked_in_both_orders(tmp_path):
    judge, records = Brightness(), Records(tmp_path / "r.jsonl")
    verdicts = judge_pairs(judge, pairs(), records)
    assert [one.outcome for one in verdicts] == ["loss", "loss", "flip", "win", "win"]
    assert verdicts[0].ab.p == pytest.approx(verdicts[0].ba.p[::-1], abs=2e-6)
    assert judge.asked == [4, 4, 2]
    assert records.frame().groupby("order").size().to_dict() == {"ab": 5, "ba": 5}


def test_a_biased_judge_flips_where_the_bias_is_larger_than_the_gap(tmp_path):
    verdicts = judge_pairs(Brightness(bias=1.5), pairs(), Records(tmp_path / "r.jsonl"))
    assert [one.outcome for one in verdicts] == ["loss", "flip", "flip", "flip", "win"]


def test_identical_images_flip_and_are_still_asked_twice(tmp_path):
    judge = Brightness(bias=0.1)
    (verdict,) = judge_pairs(judge, [Pair(candidate(9), candidate(9))], Records(tmp_path / "r.jsonl"))
    assert verdict.outcome == "flip"
    assert verdict.averaged == "tie"
    assert judge.asked == [2]


def test_a_rerun_asks_nothing_and_says_the_same(tmp_path):
    first = judge_pairs(Brightness(), pairs(), Records(tmp_path / "r.jsonl"))
    text = (tmp_path / "r.jsonl").read_bytes()
    again = Brightness()
    assert judge_pairs(again, pairs(), Records(tmp_path / "r.jsonl")) == first
    assert again.asked == []
    assert (tmp_path / "r.jsonl").read_bytes() == text
    more = Brightness()
    judge_pairs(more, pairs(6), Records(tmp_path / "r.jsonl"))
    assert more.asked == [2]


def test_anything_that_can_change_the_answer_is_asked_anew(tmp_path):
    records = Records(tmp_path / "r.jsonl")
    one = Pair(candidate(10, seed=1), candidate(20))
    judge_pairs(Brightness(), [one], records)
    for judge, pair in [
        (Brightness(bias=0.1), one),
        (Brightness(batch=5), one),
        (Brightness(), Pair(candidate(11, seed=1), candidate(20))),
        (Brightness(), Pair(candidate(10, seed=2), candidate(20))),
        (Brightness(), Pair(candidate(20), candidate(10, seed=1))),
    ]:
        judge_pairs(judge, [pair], records)
        assert judge.asked == [2]


def test_the_photo_is_part_of_the_question(tmp_path):
    records = Records(tmp_path / "r.jsonl")
    a, b = candidate(1), candidate(2)
    for one in (a, b):
        one.images["montage_ref"] = one.images["montage"]
    for level, asked in ((0, [2]), (0, []), (1, [2])):
        judge = Brightness(layout="montage_ref")
        judge_pairs(judge, [Pair(a, b, np.full((4, 4, 3), level, np.uint8))], records)
        assert judge.asked == asked
    with pytest.raises(BadInput, match="photo"):
        judge_pairs(Brightness(layout="montage_ref"), [Pair(a, b)], records)


def test_a_photo_whose_digest_is_known_is_made_where_a_judge_looks_at_it(tmp_path):
    looked, records, photo = [], Records(tmp_path / "r.jsonl"), np.zeros((4, 4, 3), np.uint8)
    a, b = candidate(1), candidate(2)
    for one in (a, b):
        one.images["montage_ref"] = one.images["montage"]
    known = Pair(a, b, lambda: looked.append(1) or Image.fromarray(photo), Picture(photo).digest)
    judge_pairs(Brightness(layout="montage_ref"), [Pair(a, b, photo)], records)
    judge_pairs(Brightness(layout="montage_ref"), [known], records)
    assert looked == [], "the question is on record"
    assert (known.reference.pixels == Picture(photo).pixels).all()
    assert looked == [1]


def test_bad_pairs_are_found_before_the_first_question(tmp_path):
    judge = Brightness()
    with pytest.raises(BadInput, match="montage"):
        judge_pairs(judge, [*pairs(), Pair(Candidate("x", {}), Candidate("x", {}))], Records(tmp_path / "r.jsonl"))
    assert judge.asked == []


def test_an_answer_line_is_short_and_tells_what_who_and_when(tmp_path):
    facts = {"generator": "trellis-image-large", "adapter": "dpo", "budget": 25, "seed": 12345678, "weights": "f" * 16}
    a, b = (candidate(level, "3d-future/test/0123456789abcdef", **facts, run=level) for level in (3, 4))
    for one in (a, b):
        one.images["montage_ref"] = one.images["montage"]
    judge, records = Brightness(layout="montage_ref"), Records(tmp_path / "r.jsonl")
    judge_pairs(judge, [Pair(a, b, np.zeros((4, 4, 3), np.uint8))], records)
    lines = [line for line in (tmp_path / "r.jsonl").read_bytes().splitlines() if b'"key"' in line]
    assert len(lines) == 2
    assert max(map(len, lines)) < 270  # a third probability still fits into 300
    row = records.frame().query("order == 'ba'").iloc[0]
    assert row["object"] == "3d-future/test/0123456789abcdef"
    assert row["judge"] == judge.settings
    assert row["a"] == a.describe(judge.layout)
    assert row["b"]["run"] == 4
    assert (row["p"], row["pick"], row["mass"]) == ([0.524979, 0.475021], 0, 0.9)
    assert {"code", "torch", "transformers", "python"} <= row["session"].keys()
    assert len(row["photo"]) == 16


def test_the_training_judge_may_not_score_nor_the_evaluation_judge_label(tmp_path):
    records = Records(tmp_path / "r.jsonl")
    x, y = TrainingJudge(Brightness("qwen")), EvaluationJudge(Brightness("internvl"))
    assert [one.outcome for one in label(x, pairs(), records)] == [
        o.outcome for o in Scorer(y, x).score(pairs(), records)
    ]
    with pytest.raises(BadInput, match=r"TrainingJudge may not score: it would reward"):
        Scorer(x, x)
    with pytest.raises(BadInput, match=r"EvaluationJudge may not label"):
        label(y, pairs(), records)
    with pytest.raises(BadInput, match=r"Brightness may not score"):
        Scorer(y.judge, x)
    with pytest.raises(BadInput, match=r"not from a TrainingJudge"):
        Scorer(y, y)


def test_one_family_may_not_do_both():
    x, y = TrainingJudge(Brightness("qwen")), EvaluationJudge(Brightness("qwen"))
    with pytest.raises(BadInput, match=r"family qwen: relatives share their biases"):
        Scorer(y, x)
