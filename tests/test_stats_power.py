from math import comb

import numpy as np
import pytest

from lib.errors import BadInput
from lib.stats.power import needed_n, power_above, power_parity
from lib.stats.tests import binomial_p, parity_p


def chance(k, n, p):
    return comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("n", [1, 8, 25, 69])
@pytest.mark.parametrize("truth", [0.65, 0.9])
def test_power_is_the_chance_of_the_outcomes_the_test_rejects(n, truth):
    rejected = [k for k in range(n + 1) if binomial_p(k, n, 0.5, "greater") <= 0.05]
    assert power_above(n, truth) == pytest.approx(sum(chance(k, n, truth) for k in rejected))


@pytest.mark.parametrize("n", [8, 40, 97])
def test_parity_power_is_the_chance_of_the_outcomes_both_tests_reject(n):
    rejected = [k for k in range(n + 1) if parity_p(k, n) <= 0.05]
    assert power_parity(n) == pytest.approx(sum(chance(k, n, 0.5) for k in rejected))


def test_the_papers_eight_objects():
    assert round(float(power_above(8)), 2) == 0.17
    assert needed_n() == (69, 76)


def test_needed_n_is_the_first_and_the_last_crossing_of_a_saw_tooth():
    for power in (power_above, power_parity):
        first, kept = needed_n(power)
        curve = power(np.arange(1, 1000))
        assert (curve[: first - 1] < 0.8).all()
        assert curve[first - 1] >= 0.8
        assert curve[kept - 2] < 0.8
        assert (curve[kept - 1 :] >= 0.8).all()
        assert first < kept


def test_power_is_unknown_where_n_is():
    assert np.isnan(power_above([8, np.nan])).tolist() == [False, True]


def test_an_effect_too_small_for_the_range_is_refused():
    with pytest.raises(BadInput, match="not reached"):
        needed_n(truth=0.501)
    with pytest.raises(BadInput, match="not reached"):
        needed_n(limit=71)  # on a tooth of the saw, which 72 falls from
