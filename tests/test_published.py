from math import comb, sqrt

import numpy as np
import pandas as pd
import pytest

from lib.study.published import load_published, proportions, recomputed, rounds_to, sample_size, table_1, table_2
from lib.study.published_checks import denominators, does_not_add_up, flips_by_subgroup

PUBLISHED = load_published()
COLUMNS = ["paper", "item", "k", "n", "estimate", "low", "high", "method", "p_half", "power_065", "n_needed_065"]


def tail(k, n, p):
    """P(at least k of n)."""
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def item(name):
    (row,) = PUBLISHED[PUBLISHED["item"] == name].itertuples()
    return row


def test_table_1_is_the_papers():
    """Copied from the paper a second time, apart from the file."""
    rows = [
        ("SFT-on-best", "clean", "", 0.00, -0.06),
        ("DPO beta 0.1", "clean", "", 0.00, 0.00),
        ("DPO beta 0.5", "clean", "", 0.00, -0.44),
        ("ORPO", "clean", "", 0.00, 0.00),
        ("SFT-on-clean", "hard", "severe", 0.00, -0.06),
        ("DPO beta 0.1", "hard", "severe", 0.00, 0.00),
        ("conditioner repair", "hard", "mild", 0.125, 0.06),
        ("conditioner repair", "hard", "medium", 0.25, 0.00),
        ("conditioner repair", "hard", "severe", 0.50, 0.06),
    ]
    frame = table_1(PUBLISHED)[["method", "regime", "severity", "win", "geometry_delta"]]
    assert list(frame.itertuples(index=False, name=None)) == rows


def test_table_2_is_the_papers_and_only_mild_passes_the_gate():
    frame = table_2(PUBLISHED)
    assert frame.drop(columns="passes_gate").to_numpy().tolist() == [
        ["mild", 0.125, 1.00, 0.06, 0.077, 0.047],
        ["medium", 0.25, 0.50, 0.00, 0.284, 0.226],
        ["severe", 0.50, 0.83, 0.06, 0.668, 0.503],
    ]
    assert frame.passes_gate.tolist() == [True, False, False]


def test_every_row_says_where_it_is_printed_and_items_of_shares_are_distinct():
    assert PUBLISHED[PUBLISHED.paper != "related"].printed.notna().all()
    assert not proportions(PUBLISHED).duplicated(["paper", "item"]).any()


def test_counts_come_in_pairs_and_round_to_the_printed_value():
    assert (PUBLISHED.k.isna() == PUBLISHED.n.isna()).all()
    counted = PUBLISHED[PUBLISHED.k.notna()]
    assert set(counted.counts) == {"printed", "n printed; k derived"}
    assert PUBLISHED[PUBLISHED.k.isna()].counts.isna().all()
    assert rounds_to(counted.k / counted.n, counted.value, counted.decimals).all()


def test_derived_counts_are_the_only_ones_that_fit_or_the_sum_of_the_subgroups():
    for row in PUBLISHED[PUBLISHED.counts == "n printed; k derived"].itertuples():
        fits = [k for k in range(row.n + 1) if rounds_to(k / row.n, row.value, row.decimals)]
        if len(fits) > 1 and row.item != "X-Y agreement":  # 100/120: 99/120 would be a tie, and its interval differs
            parts = PUBLISHED[(PUBLISHED.printed == "subgroup table") & (PUBLISHED.method == row.method)]
            fits = [int(parts.k.sum())]
            assert parts.n.sum() == row.n
        assert row.k in fits


def test_proportions_has_the_agreed_columns_and_gaps_only_where_counts_are_not_printed():
    frame = proportions(PUBLISHED)
    assert list(frame) == COLUMNS
    unknown = frame.n.isna()
    assert frame[unknown][["k", "p_half", "power_065"]].isna().all(axis=None)
    assert frame[~unknown].notna().all(axis=None)
    assert {"clear gap, severe", "high budget preferred over low, judge X"} <= set(frame["item"][unknown])
    assert frame.estimate.between(0, 1).all()
    assert (frame.n_needed_065 == 69).all()


def test_proportions_against_sums_by_hand():
    counted = proportions(PUBLISHED).dropna(subset="n").astype({"k": int, "n": int})
    assert len(counted) > 20
    for row in counted.itertuples():
        assert row.estimate == row.k / row.n
        assert row.p_half == pytest.approx(tail(row.k, row.n, 0.5))
        critical = next(k for k in range(row.n + 2) if tail(k, row.n, 0.5) <= 0.05)
        assert row.power_065 == pytest.approx(tail(critical, row.n, 0.65))
        if row.paper == "main":
            assert row.method == "Clopper-Pearson"
            assert tail(row.k, row.n, row.low) == pytest.approx(0.025 if row.k else 1)
            assert 1 - tail(row.k + 1, row.n, row.high) == pytest.approx(0.025 if row.k < row.n else 1)
        else:
            assert row.method == "Wilson"
            for end in (row.low, row.high):
                assert abs(row.estimate - end) / sqrt(end * (1 - end) / row.n) == pytest.approx(1.959964)


def test_confidence_reaches_the_computed_intervals_and_leaves_the_printed_ones():
    wide, narrow = (proportions(PUBLISHED, confidence).set_index("item") for confidence in (0.95, 0.8))
    repair, clustered = "conditioner repair, hard, severe", "geometry proxy, clustered"
    assert wide.low[repair] < narrow.low[repair]
    assert (
        (wide.low[clustered], wide.high[clustered]) == (narrow.low[clustered], narrow.high[clustered]) == (0.55, 0.69)
    )
    assert wide.method[clustered] == "printed, clustered by object"


def test_table_1_tests_name_their_side_and_are_corrected_over_nine_rows():
    frame = table_1(PUBLISHED).set_index(["method", "severity"])
    severe, clean = frame.loc[("conditioner repair", "severe")], frame.loc[("SFT-on-best", "")]
    assert severe.p_half == pytest.approx(tail(4, 8, 0.5))
    assert severe.p_target == pytest.approx(1 - tail(5, 8, 0.65))
    assert clean.p_target == pytest.approx(0.35**8)
    assert clean.p_target_holm == pytest.approx(9 * 0.35**8)
    assert (frame.p_half_holm == 1).all()
    assert frame.power_065.round(2).unique().tolist() == [0.17]
    assert frame.n_needed_065.unique().tolist() == [69]
    assert (frame.p_parity > 0.05).all()


def test_companion_intervals_kappa_and_sums_reproduce():
    frame = recomputed(PUBLISHED)
    by_item = frame.groupby("item").reproduces
    wilson = PUBLISHED[PUBLISHED.interval == "Wilson"]["item"]
    assert len(wilson) == 7
    assert by_item.all()[[*wilson, "X-Y kappa"]].all()
    assert frame[frame["item"] == "geometry proxy, clustered"].reproduces.isna().all()
    assert frame[frame.how.str.contains("no printed interval")].reproduces.isna().all()


def test_reproduces_can_fail():
    wrong = PUBLISHED.copy()
    wrong.loc[wrong["item"] == "geometry proxy, within TripoSR", "high"] = 0.90
    frame = recomputed(wrong).set_index("item")
    assert not frame.reproduces["geometry proxy, within TripoSR"]


def test_z_reproduces_for_another_pair_of_subgroups_than_the_one_named():
    frame = recomputed(PUBLISHED)
    z = frame[frame.how.str.contains("two-proportion z")].set_index("how")
    named = z.loc["pooled two-proportion z of cross-generator, full vs cross-generator, mixed"]
    other = z.loc["pooled two-proportion z of cross-generator, full vs within SF3D"]
    assert len(z) == 2
    assert (round(named.recomputed, 2), named.reproduces) == (4.39, False)
    assert (round(other.recomputed, 2), other.reproduces) == (5.06, True)


def test_companion_flips():
    flips = flips_by_subgroup(PUBLISHED).set_index("subgroup")
    assert flips.flips.to_dict() == {
        "cross-generator, full": 17,
        "within TripoSR": 10,
        "cross-generator, mixed": 61,
        "within SF3D": 10,
    }
    assert flips.pairs.sum() == item("pairs").value == 360
    row = recomputed(PUBLISHED).set_index("item").loc["flips of raw verdicts"]
    assert row.recomputed == pytest.approx(flips.flips.sum() / 360)
    assert not row.reproduces


def test_denominators_leave_one_reading_where_only_one_fits():
    frame = denominators(PUBLISHED).set_index(["quantity", "printed", "trials"])
    every, some = "all pairs", "consistent pairs only"
    assert frame.loc["clear_gap", 0.83, every].wins == "none"
    assert frame.loc["clear_gap", 0.83, some][["wins", "flips"]].tolist() == ["5", "2"]
    assert frame.loc["win_rate", 0.125, some][["wins", "flips"]].tolist() == ["1", "0"]
    assert frame.loc["win_rate", 0.0, every][["wins", "flips", "win + flip/2"]].tolist() == ["0", "0 to 8", "0 to 0.5"]
    assert frame.loc["win_rate", 0.5, every]["win/consistent"] == "0.5 to 1"


def test_what_does_not_add_up_is_read_from_the_numbers():
    numbers = does_not_add_up(PUBLISHED).set_index("item").numbers
    assert len(numbers) == 8
    assert numbers[1].startswith("3 of 6")
    assert "DPO beta 0.5, clean -0.44" in numbers[1]
    assert "medium 0.50" in numbers[2]
    assert "mild" not in numbers[2]
    assert "0.83 is no k of 8" in numbers[3]
    assert numbers[4].startswith("9 of 36")
    assert "0.00" in numbers[5]
    assert "p = 0.089" in numbers[6]
    assert "1 of 2" in numbers[7]
    assert "1000 to 50000" in numbers[8]

    other = PUBLISHED.copy()
    other.loc[other.quantity == "geometry_delta", "value"] = 0
    other.loc[other.method.eq("conditioner repair") & other.severity.eq("mild") & other.k.notna(), "k"] = 0
    changed = does_not_add_up(other).set_index("item").numbers
    assert changed[1].startswith("0 of 6")
    assert "0, 2, 4 of 8" in changed[6]
    assert "p = 0.089" not in changed[6]


def test_sample_size_of_the_paper():
    answers = sample_size(8).answer.tolist()
    assert answers == ["[0.157, 0.843]", "7", "0.17", "0.90", "69", "76", "0.29", "96", "100"]
    wider = sample_size(100, margin=0.2).set_index("question").answer
    assert float(wider["smallest p for parity within 0.2 that 100 objects can give"]) < 0.05
    assert "impossible" in sample_size(4).answer.tolist()


def test_printed_digits_are_kept():
    assert item("conditioner repair, hard, severe, early").decimals == 1
    assert PUBLISHED[PUBLISHED.value == 0.125].decimals.tolist() == [3]
    assert np.array_equal(rounds_to([0.125, 0.114, 0.126], 0.12, 2), [True, False, False])
    assert pd.api.types.is_float_dtype(PUBLISHED.value)
