from math import comb, sqrt

import numpy as np
import pytest

from lib.errors import BadInput
from lib.stats.intervals import clopper_pearson, proportion, wilson


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (39, 43, 0.78, 0.96),
        (40, 50, 0.67, 0.89),
        (63, 119, 0.44, 0.62),
        (20, 50, 0.28, 0.54),
        (162, 262, 0.56, 0.68),
        (100, 120, 0.76, 0.89),
    ],
)
def test_wilson_gives_every_interval_the_companion_paper_prints(k, n, low, high):
    assert np.round(wilson(k, n), 2).tolist() == [low, high]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(4, 8, 0.157, 0.843), (0, 8, 0.0, 0.369), (15, 16, 0.698, 0.998), (0, 25, 0.0, 0.137)]
)
def test_clopper_pearson_known_values(k, n, low, high):
    assert np.round(clopper_pearson(k, n), 3).tolist() == [low, high]


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_clopper_pearson_ends_leave_half_the_error_in_each_tail(confidence):
    k, n = 5, 12
    low, high = clopper_pearson(k, n, confidence)
    at_least = sum(comb(n, i) * low**i * (1 - low) ** (n - i) for i in range(k, n + 1))
    at_most = sum(comb(n, i) * high**i * (1 - high) ** (n - i) for i in range(k + 1))
    assert [at_least, at_most] == pytest.approx([(1 - confidence) / 2] * 2)


def test_wilson_solves_the_score_equation():
    k, n, z = 7, 31, 1.6448536
    for end in wilson(k, n, 0.9):
        assert abs(k / n - end) / sqrt(end * (1 - end) / n) == pytest.approx(z)


def test_intervals_broadcast_and_know_nothing_without_trials():
    for interval in (clopper_pearson, wilson):
        low, high = interval([0, 0, 8, np.nan], [0, 8, 8, np.nan])
        assert (low[0], high[0], low[1], high[2]) == (0, 1, 0, 1)
        assert high[1] == pytest.approx(1 - low[2])
        assert np.isnan([low[3], high[3]]).all()


def test_proportion_of_nothing_has_no_value_and_the_whole_range():
    empty = proportion(0, 0)
    assert np.isnan(empty.value)
    assert (empty.low, empty.high, empty.n) == (0, 1, 0)


def test_estimate_holds_its_ends_and_nothing_beyond():
    estimate = proportion(4, 8)
    assert estimate.holds(estimate.low)
    assert estimate.holds(estimate.high)
    assert not estimate.holds(estimate.high + 1e-9)


@pytest.mark.parametrize(("k", "n", "confidence"), [(9, 8, 0.95), (-1, 8, 0.95), (4, 8, 95)])
def test_impossible_input_is_named(k, n, confidence):
    with pytest.raises(BadInput, match="confidence" if confidence > 1 else "successes"):
        clopper_pearson(k, n, confidence)
