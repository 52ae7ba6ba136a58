"""Notebook 02's tables on judges whose faults were planted."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from lib.study import calibration
from lib.study.pairs import CLEAR, GRADED, IDENTICAL, NO_GAP


def verdicts(gap, p_ab, p_ba, case=GRADED, judge="X", objects=30):
    """Answers as `lib.study.pairs.ask` gives them; arrays (n,), pairs dealt out to objects in turn."""
    frame = pd.DataFrame({"judge": judge, "case": case, "gap": gap, "p_ab": p_ab, "p_ba": p_ba})
    frame["object"] = [f"object {index % objects}" for index in range(len(frame))]
    a_ab, a_ba = frame.p_ab >= 0.5, frame.p_ba < 0.5
    mean = (frame.p_ab + 1 - frame.p_ba) / 2
    return frame.assign(
        right=(a_ab.astype(float) + a_ba) / 2,
        outcome=np.select([a_ab & a_ba, ~a_ab & ~a_ba], ["win", "loss"], "flip"),
        averaged=np.select([mean > 0.5, mean < 0.5], ["win", "loss"], "tie"),
        p_a=mean,
    )


def judge(seed=0, n=600, pull=0.0, slope=10.0, noise=0.0, name="X"):
    """A judge of known slope and pull to the first. noise: of opinions that have nothing to do with the gap."""
    rng = np.random.default_rng(seed)
    gap, opinion = rng.uniform(0, 0.6, n), rng.normal(0, noise, n) if noise else np.zeros(n)
    logit = slope * gap + opinion
    return verdicts(gap, expit(pull + logit), expit(pull - logit), np.where(gap > 0.3, CLEAR, GRADED), name)


def controls(clear, nothing, n_identical=5):
    """Outcomes ("win", "loss", "flip") of the two controls as answers."""
    p = {"win": (0.9, 0.1), "loss": (0.1, 0.9), "flip": (0.9, 0.9)}
    rows = [(CLEAR, 0.4, *p[one]) for one in clear] + [(NO_GAP, 0.0, *p[one]) for one in nothing]
    rows += [(IDENTICAL, 0.0, 0.6, 0.6)] * n_identical
    case, gap, ab, ba = zip(*rows, strict=True)
    return verdicts(gap, ab, ba, list(case))


@pytest.mark.parametrize(
    ("clear", "nothing", "gates", "reading"),
    [
        (["win"] * 19 + ["flip"], ["win", "loss"] * 10, ["passed", "passed"], "interpretable"),
        (["win"] * 15 + ["flip"] * 5, ["win", "loss"] * 10, ["failed", "passed"], "not interpretable"),
        (["win"] * 16 + ["loss"] * 4, ["win", "loss"] * 10, ["failed", "passed"], "not interpretable"),
        (["win"] * 20, ["win"] * 18 + ["loss"] * 2, ["passed", "failed"], "not interpretable"),
        (["win"] * 20, ["flip"] * 20, ["passed", "passed"], "interpretable"),
    ],
)
def test_a_judge_that_fails_a_control_is_not_interpretable(clear, nothing, gates, reading):
    table = calibration.controls_table(controls(clear, nothing), 0).set_index("control")
    assert table.gate.tolist() == [*gates, ""]
    assert set(table.reading) == {reading}
    row = table.loc[CLEAR]
    assert (row.wins, row.losses, row.flips) == tuple(clear.count(one) for one in ("win", "loss", "flip"))
    assert row.win_all == clear.count("win") / len(clear)
    assert row.win_all_low < row.win_all
    assert row.win_half == pytest.approx((clear.count("win") + clear.count("flip") / 2) / len(clear))
    assert row.flip_rate_low <= row.flip_rate <= row.flip_rate_high
    assert (table.loc[IDENTICAL, "flips"], table.loc[IDENTICAL, "win_half"]) == (5, 0.5)


def test_one_judge_failing_does_not_condemn_the_other():
    good = controls(["win"] * 20, ["win", "loss"] * 10)
    bad = controls(["loss"] * 20, ["win", "loss"] * 10).assign(judge="Y")
    table = calibration.controls_table(pd.concat([good, bad]), 0)
    assert table.groupby("judge").reading.first().to_dict() == {"X": "interpretable", "Y": "not interpretable"}


def test_only_pairs_with_a_better_side_are_graded():
    frame = verdicts([0.1, 0.3, 0.0, 0.2, 0.0], 0.9, 0.1, [GRADED, CLEAR, GRADED, NO_GAP, IDENTICAL])
    assert calibration.with_gap(frame).gap.tolist() == [0.1, 0.3]


def test_accuracy_and_flips_stand_in_the_bin_of_their_gap():
    narrow = verdicts([0.06] * 40, [0.9] * 10 + [0.1] * 10 + [0.9] * 20, [0.1] * 10 + [0.9] * 30)
    wide = verdicts([0.25] * 30, 0.9, 0.1)
    table = calibration.by_gap(pd.concat([narrow, wide]), 0)
    assert table[["gap_from", "gap_to", "n"]].to_numpy().tolist() == [[0.05, 0.1, 40], [0.2, 0.3, 30]]
    assert table.right.tolist() == [0.5, 1]
    assert table.consistent.tolist() == [0.5, 1]
    assert table.flips.tolist() == [0.5, 0]
    for name in ("right", "consistent", "flips"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    assert (table.flips_high - table.flips_low > 0.05).all()


def test_a_pull_to_the_first_shows_in_the_position_and_not_in_a_fair_judge():
    same = verdicts([0.0] * 30, 0.7, 0.7, IDENTICAL)
    fair, pulled = (calibration.position_table(pd.concat([judge(pull=pull), same]), 0) for pull in (0, 1))
    assert fair.set_index("case").p_first[[GRADED, CLEAR]].tolist() == pytest.approx([0.5, 0.5])
    assert pulled.set_index("case").p_first_low[GRADED] > 0.51
    # the pull is worth a gap of .1, and gaps reach .3: it decides a third of the pairs
    assert pulled.set_index("case").named_first[[GRADED, IDENTICAL]].tolist() == [pytest.approx(2 / 3, abs=0.03), 1]
    assert fair.set_index("case").p_first[IDENTICAL] == pytest.approx(0.7)


def test_the_sign_of_the_gap_follows_the_order():
    both = calibration.single_answers(verdicts([0.3, 0.1], [0.8, 0.7], [0.4, 0.6]))
    assert both[["p", "gap"]].to_numpy().tolist() == [[0.8, 0.3], [0.7, 0.1], [0.4, -0.3], [0.6, -0.1]]


def test_a_calibrated_judge_lies_on_the_diagonal_and_one_that_is_too_sure_does_not():
    """Single answers whose first is better as often as the probability says."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 4000)
    a_better = rng.random(4000) < p
    ab = np.where(a_better, p, 1 - p)  # the first shown has probability p of being a, the better
    calibrated = verdicts([0.2] * 4000, ab, 1 - ab, objects=100)
    table = calibration.reliability_table(calibrated, 0)
    assert table.n.sum() == 8000
    assert ((table.low <= table.said) & (table.said <= table.high)).mean() >= 0.8
    sure = calibrated.assign(p_ab=np.round(ab) * 0.98 + 0.01, p_ba=0.99 - np.round(ab) * 0.98)
    table = calibration.reliability_table(sure, 0)
    assert table.said.tolist() == pytest.approx([0.01, 0.99])
    assert table.share.tolist() == pytest.approx([0.25, 0.75], abs=0.03)


def test_brier_of_a_judge_that_always_says_half_is_a_quarter_and_averaging_mends_a_pull():
    half = calibration.brier_table(verdicts(np.linspace(0.01, 0.5, 60), 0.5, 0.5), 0)
    assert half.gap.tolist() == ["all", "under 0.1", "from 0.1"]
    assert half.n[1] + half.n[2] == half.n[0] == 60
    assert half.one_order.tolist() == half.averaged.tolist() == [0.25] * 3
    pulled = calibration.brier_table(verdicts([0.2] * 30, 0.9, 0.5), 0)
    assert pulled.one_order[0] == pytest.approx((0.1**2 + 0.5**2) / 2)
    assert pulled.averaged[0] == pytest.approx(0.3**2)


def table_of_agreement(x, y):
    return calibration.agreement_table(pd.concat([x.assign(judge="X"), y.assign(judge="Y")]), 0).set_index("gap")


def test_judges_that_err_alone_agree_as_often_as_their_accuracies_say():
    rng = np.random.default_rng(0)
    gap, right = rng.uniform(0.01, 0.5, 2000), rng.random((2, 2000)) < [[0.8], [0.7]]
    x, y = (verdicts(gap, np.where(one, 0.9, 0.1), np.where(one, 0.1, 0.9), objects=100) for one in right)
    row = table_of_agreement(x, y).loc["all with a gap"]
    assert row.independent == pytest.approx(0.8 * 0.7 + 0.2 * 0.3, abs=0.03)
    assert row.agreement_low < row.independent < row.agreement_high
    assert row.kappa == pytest.approx(2 * row.agreement - 1)
    assert row.kappa_right_low < 0 < row.kappa_right_high


def test_judges_with_one_mind_agree_beyond_their_accuracies():
    x = judge(slope=4, noise=2)
    table = table_of_agreement(x, x)
    assert (table.agreement.dropna() == 1).all()
    assert (table.kappa.dropna() == 1).all()
    assert table.kappa_right["all with a gap"] == 1
    assert table.independent["all with a gap"] < 0.95


def test_agreement_counts_pairs_that_both_decide_and_knows_no_right_without_a_gap():
    x = verdicts([0.3, 0.3, 0.3, 0.0], [0.9, 0.9, 0.1, 0.9], [0.1, 0.9, 0.9, 0.1], [GRADED] * 3 + [NO_GAP])
    y = verdicts([0.3, 0.3, 0.3, 0.0], [0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1], [GRADED] * 3 + [NO_GAP])
    table = table_of_agreement(x, y)
    assert table.index.tolist() == ["redrawn, no gap", "0.2 to 0.3", "all with a gap"]
    assert table.pairs.tolist() == [1, 3, 3]
    assert table.n.tolist() == [1, 2, 2]
    assert table.agreement.tolist() == [1, 0.5, 0.5]
    assert table.independent.isna().tolist() == [True, False, False]


def test_options_compare_pair_by_pair_with_the_first_way():
    """Half the pairs flip; the averaged orders get all of these right, the other way of asking loses what was won."""
    first = verdicts([0.05, 0.2] * 30, [0.9] * 60, [0.1] * 30 + [0.8] * 30)
    worse = verdicts([0.05, 0.2] * 30, [0.1] * 60, [0.9] * 60)
    nothing = verdicts([0.0] * 20, 0.9, 0.1, NO_GAP)
    table = calibration.options_table({"one": pd.concat([first, nothing]), "other": pd.concat([worse, nothing])}, 0)
    table = table.set_index(["gap", "way", "reading"]).sort_index()
    base, mean, other = (
        table.loc["all", way, reading]
        for way, reading in (("one", "flips discarded"), ("one", "orders averaged"), ("other", "flips discarded"))
    )
    assert (base.n, base.decided, base.right, base.score) == (60, 0.5, 1, 0.75)
    assert np.isnan(base.change)
    assert (mean.decided, mean.right, mean.score) == (1, 1, 1)
    assert mean.change == pytest.approx(0.25)
    assert mean.change_low < 0.25 < mean.change_high
    assert other.change == pytest.approx(-0.75)
    assert table.loc["under 0.1", "one", "flips discarded"].n == 30
    without = table.loc["no gap", "one", "flips discarded"]
    assert without.decided == 1
    assert np.isnan(without.right)


def test_a_tie_is_no_verdict_and_counts_half():
    tied = verdicts([0.2] * 20, 0.9, 0.1).assign(outcome=["tie"] * 10 + ["win"] * 10, averaged="tie")
    table = calibration.options_table({"tie label": tied}, 0).set_index(["gap", "reading"])
    assert table.loc[("all", "flips discarded"), ["decided", "right", "score"]].tolist() == [0.5, 1, 0.75]
    assert table.loc[("all", "orders averaged"), ["decided", "score"]].tolist() == [0, 0.5]


def silent(frame, places):
    """The same answers, the judge abstaining in the second order at these places."""
    frame = frame.reset_index(drop=True)
    frame.loc[places, ["p_ba", "p_a", "right"]] = np.nan
    frame.loc[places, ["outcome", "averaged"]] = "abstention"
    return frame


def test_abstentions_are_in_no_share_of_any_table():
    nothing = verdicts([0.0] * 40, [0.9, 0.2] * 20, [0.3, 0.7] * 20, NO_GAP)
    whole = pd.concat([judge(noise=2), nothing, verdicts([0.0] * 9, 0.6, 0.6, IDENTICAL)], ignore_index=True)
    some = np.arange(0, len(whole), 7)
    for table in (
        calibration.by_gap,
        calibration.position_table,
        calibration.reliability_table,
        calibration.brier_table,
    ):
        pd.testing.assert_frame_equal(table(silent(whole, some), 0), table(whole.drop(some), 0))
    found, expected = (calibration.controls_table(one, 0) for one in (silent(whole, some), whole.drop(some)))
    assert (found.n - found.wins - found.losses - found.flips).sum() > 10
    columns = found.columns.drop(["n", "gate", "reading"])  # the gate of the clear gap counts them as flips
    pd.testing.assert_frame_equal(found[columns], expected[columns])


def test_where_one_judge_abstains_the_two_cannot_agree():
    x, y = judge(noise=2), judge(noise=2, seed=1, name="Y")
    some = np.arange(0, len(y), 7)
    found = calibration.agreement_table(pd.concat([x, silent(y, some)]), 0)
    expected = calibration.agreement_table(pd.concat([x.drop(some), y.drop(some)]), 0)
    pd.testing.assert_frame_equal(found.drop(columns="pairs"), expected.drop(columns="pairs"))


def test_ways_of_asking_are_compared_on_the_pairs_that_both_answered():
    first, other = verdicts([0.2] * 6, 0.9, 0.1), verdicts([0.2] * 6, [0.9] * 3 + [0.1] * 3, [0.1] * 3 + [0.9] * 3)
    table = calibration.options_table({"one": silent(first, [0]), "other": silent(other, [1, 5])}, 0)
    table = table.set_index(["gap", "way", "reading"])
    row = table.loc["all", "other", "flips discarded"]
    assert (row.n, row.score, row.change) == (4, 0.5, pytest.approx(-2 / 3))
