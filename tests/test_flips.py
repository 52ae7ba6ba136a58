"""Notebook 03's tables on judges whose flips and errors were planted, and the papers' numbers beside them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from lib.study import flips
from lib.study.pairs import CLEAR, GRADED, IDENTICAL, NO_GAP


def verdicts(gap, p_ab, p_ba, case=GRADED, objects=30):
    """Answers as `lib.study.pairs.ask` gives them; arrays (n,), pairs dealt out to objects in turn."""
    frame = pd.DataFrame({"judge": "X", "case": case, "gap": gap, "p_ab": p_ab, "p_ba": p_ba})
    a_ab, a_ba = frame.p_ab >= 0.5, frame.p_ba < 0.5
    outcome = np.select([a_ab & a_ba, ~a_ab & ~a_ba], ["win", "loss"], "flip")
    return frame.assign(outcome=outcome, object=[f"object {index % objects}" for index in range(len(frame))])


def measured(frame):
    table = flips.flip_table(frame, 0)
    return table[table.source == "judge X"].set_index("pairs")


def test_pairs_are_told_apart_by_what_they_are():
    gap = [0.0, 0.005, -0.2, 0.008, 0.3, 0.5]
    groups = flips.groups_of(verdicts(gap, 0.9, 0.1, [IDENTICAL, NO_GAP, NO_GAP, GRADED, GRADED, CLEAR]))
    assert {name: part.gap.tolist() for name, part in groups.items()} == {
        "identical images": [0.0],
        "same damage, drawn again": [0.005, -0.2],
        "different, gap under 0.01": [0.005, 0.008],
        "gap 0 to 0.025": [0.008],
        "gap 0.2 to 0.3": [0.3],
        "gap 0.4 to 1": [0.5],
    }


def test_a_stable_taste_flips_less_than_independent_answers_would_and_is_wrong_half_the_time():
    """Without regard to the gap, one of two is preferred in either order: consistent is not correct."""
    taste = np.tile([0.9, 0.1], 30)
    table = measured(verdicts([0.03] * 60, taste, 1 - taste))
    row = table.loc["gap 0.025 to 0.05"]
    assert (row.n, row.flips, row.independent, row.wrong) == (60, 0, 0.5, 0.5)
    assert row.wrong_low < 0.5 < row.wrong_high


def test_answers_without_a_taste_flip_as_often_as_independent_ones():
    rng = np.random.default_rng(0)
    ab, ba = rng.random((2, 3000)) < [[0.8], [0.3]]  # names a in 80% of one order, 70% of the other
    table = measured(verdicts([0.15] * 3000, np.where(ab, 0.9, 0.1), np.where(ba, 0.9, 0.1), objects=100))
    row = table.loc["gap 0.1 to 0.2"]
    assert row.independent == pytest.approx(0.8 * 0.3 + 0.2 * 0.7, abs=0.03)
    assert row.flips_low < row.independent < row.flips_high


def test_wrong_is_a_share_of_the_consistent_verdicts():
    ab = np.repeat([0.9, 0.1, 0.9], [30, 10, 20])
    ba = np.repeat([0.1, 0.9, 0.9], [30, 10, 20])
    row = measured(verdicts([0.25] * 60, ab, ba)).loc["gap 0.2 to 0.3"]
    assert row.flips == pytest.approx(1 / 3)
    assert row.wrong == 0.25


def test_nothing_is_wrong_where_nothing_is_better():
    table = measured(verdicts([0.0, 0.002, 0.3], [0.6, 0.9, 0.9], [0.6, 0.1, 0.1], [IDENTICAL, NO_GAP, GRADED]))
    assert table.wrong.isna().tolist() == [True, True, True, False]
    assert table.flips["identical images"] == 1
    assert np.isnan(table.independent["identical images"])


def test_the_papers_flip_rates_stand_beside_with_what_their_counts_allow():
    table = flips.flip_table(verdicts([0.1] * 4, 0.9, 0.1), 0)
    printed = table[table.source != "judge X"].set_index(["source", "pairs"])
    iid = printed.loc["main paper", "flips of i.i.d. pairs, judge X"]
    assert (iid.n, iid.flips) == (16, 15 / 16)
    assert [round(iid.flips_low, 3), round(iid.flips_high, 3)] == [0.698, 0.998]
    raw = printed.loc["companion paper", "flips of raw verdicts"]
    assert raw.flips == 0.26
    assert pd.isna(raw.flips_low)
    counted = printed.loc["companion paper, from its counts", "flips of raw verdicts"]
    assert counted.flips == pytest.approx(98 / 360)
    assert counted.flips_low < 98 / 360 < counted.flips_high


def biased(seed, position=0.7, slope=8.0, n=900):
    rng = np.random.default_rng(seed)
    gap, drawn = rng.uniform(-0.1, 0.5, n), rng.random((2, n))
    ab, ba = drawn < expit(position + slope * np.stack([gap, -gap]))
    return verdicts(gap, np.where(ab, 0.9, 0.1), np.where(ba, 0.9, 0.1), np.where(gap < 0, NO_GAP, GRADED), 60)


def test_the_model_finds_planted_position_and_slope():
    fits = [flips.position_model(biased(seed)) for seed in range(40)]
    assert fits[0].term.tolist() == ["first position", "gap, per 0.1"]
    planted = np.array([0.7, 0.8])
    assert np.mean([fit.coefficient for fit in fits], 0) == pytest.approx(planted, rel=0.05)
    assert np.mean([(fit.low < planted) & (fit.high > planted) for fit in fits]) > 0.88
    assert fits[0].odds_ratio.tolist() == pytest.approx(np.exp(fits[0].coefficient).tolist())
    assert (fits[0].n == 1800).all()
    assert (fits[0].n_objects == 60).all()


def test_identical_images_say_nothing_of_the_gap_and_are_left_out_of_the_model():
    frame = biased(0)
    same = verdicts([0.0] * 300, 0.9, 0.9, IDENTICAL)
    pd.testing.assert_frame_equal(flips.position_model(pd.concat([frame, same])), flips.position_model(frame))


def test_the_first_is_named_more_often_the_better_it_is():
    table = flips.first_by_gap(biased(0), 0)
    assert table.gap.is_monotonic_increasing
    assert table.gap.min() < -0.4
    assert table["first"].iloc[0] < 0.2
    assert table["first"].iloc[-1] > 0.9
    middle = table[table.gap.abs() < 0.03]
    assert middle.first_low.item() < expit(0.7) < middle.first_high.item()


def test_abstentions_are_neither_flips_nor_answers():
    whole = biased(0, n=300)
    some = whole.index[::5]
    silent = whole.copy()
    silent.loc[some, "p_ba"] = np.nan
    silent.loc[some, "outcome"] = "abstention"
    for table in (measured, flips.position_model, lambda frame: flips.first_by_gap(frame, 0)):
        pd.testing.assert_frame_equal(table(silent), table(whole.drop(some)))
