import numpy as np
import pytest

from lib.errors import BadInput
from lib.stats.estimands import Counts, count, estimands
from lib.stats.gates import clear_gap, interpretable, no_gap
from lib.stats.intervals import clopper_pearson


def outcomes(wins, losses, flips):
    return ["win"] * wins + ["loss"] * losses + ["flip"] * flips


def test_counts():
    counts = count(["win", "flip", "loss", "win"])
    assert counts == Counts(wins=2, losses=1, flips=1)
    assert (counts.n, counts.consistent) == (4, 3)
    for reader in (count, lambda verdicts: estimands(verdicts, [1, 2], seed=0)):
        with pytest.raises(BadInput, match="tie"):
            reader(["win", "tie"])


def test_the_three_readings_of_one_set_of_verdicts():
    found = estimands(outcomes(3, 1, 4), range(8), seed=0)
    expected = {"win/all": (3, 8), "win/consistent": (3, 4), "win + flip/2": (5, 8)}
    assert list(found) == list(expected)
    for name, (k, n) in expected.items():
        assert found[name].value == k / n
        assert (found[name].low, found[name].high) == clopper_pearson(k, n)
        assert found[name].n == n


def test_all_flips_are_zero_wins_no_verdict_and_a_tie():
    found = estimands(outcomes(0, 0, 8), range(8), seed=0)
    assert found["win/all"].value == 0
    assert np.isnan(found["win/consistent"].value)
    assert (found["win/consistent"].low, found["win/consistent"].high) == (0, 1)
    assert found["win + flip/2"].value == 0.5
    assert found["win + flip/2"].high - found["win + flip/2"].low > 0.5


def test_abstentions_are_counted_in_no_share_but_a_judge_that_abstains_fails_the_clear_gap():
    some = [*outcomes(9, 1, 2), "abstention", "abstention"]
    assert count(some) == count(outcomes(9, 1, 2))
    assert estimands(some, range(14), seed=0) == estimands(outcomes(9, 1, 2), range(12), seed=0)
    assert clear_gap(outcomes(9, 1, 2)).passed
    assert not clear_gap(some).passed
    assert "2 of 14 pairs flipped and 2 abstained" in clear_gap(some).reason
    assert not no_gap(["abstention"] * 4, range(4), seed=0).passed


def test_no_pairs_estimate_nothing():
    assert all(np.isnan(one.value) and (one.low, one.high) == (0, 1) for one in estimands([], [], seed=0).values())


def test_pairs_of_an_object_count_as_one_object():
    verdicts, objects = outcomes(30, 30, 0), np.arange(60) % 30  # every object: a win and a loss
    estimate = estimands(verdicts, objects, seed=0)["win/all"]
    assert (estimate.low, estimate.high) == clopper_pearson(15, 30)


@pytest.mark.parametrize(
    ("counts", "passed"),
    [
        ((17, 3, 5), True),  # 0.85 and 0.2, the edges
        ((16, 3, 4), False),  # 0.842 of consistent
        ((17, 3, 6), False),  # 0.23 flipped
        ((0, 0, 8), False),
        ((0, 0, 0), False),
    ],
)
def test_clear_gap_gate(counts, passed):
    assert clear_gap(outcomes(*counts)).passed is passed


@pytest.mark.parametrize(
    ("counts", "passed"),
    [
        ((4, 4, 0), True),
        ((0, 5, 3), True),
        ((0, 6, 2), False),
        ((8, 0, 0), False),
        ((0, 0, 8), True),
        ((0, 0, 0), False),
    ],
)
def test_no_gap_gate_asks_whether_the_interval_holds_a_half(counts, passed):
    assert no_gap(outcomes(*counts), range(sum(counts)), seed=0).passed is passed


def test_gates_say_their_numbers():
    assert "17 of 20 consistent" in clear_gap(outcomes(17, 3, 5)).reason
    assert "5 of 25" in clear_gap(outcomes(17, 3, 5)).reason
    assert "[0.16, 0.84]" in no_gap(outcomes(4, 4, 0), range(8), seed=0).reason


def test_a_row_is_interpretable_when_every_control_passed():
    good, bad = clear_gap(outcomes(9, 0, 0)), clear_gap(outcomes(4, 4, 0))
    assert interpretable(good, good)
    assert not interpretable(good, bad)
    assert not interpretable()
