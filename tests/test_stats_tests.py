from math import comb, factorial, sqrt

import numpy as np
import pytest

from lib.errors import BadInput
from lib.stats.tests import binomial_p, holm, mcnemar_p, parity_p, trend_p, two_proportion_z


def tail(k, n, p):
    """P(at least k of n)."""
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def test_binomial_p_is_the_exact_tail_on_the_side_of_the_alternative():
    assert binomial_p(7, 8, 0.5, "greater") == pytest.approx(9 / 256)
    assert binomial_p(1, 8, 0.5, "less") == pytest.approx(9 / 256)
    assert binomial_p(0, 8, 0.5, "two-sided") == pytest.approx(2 / 256)
    assert binomial_p(4, 8, 0.65, "less") == pytest.approx(1 - tail(5, 8, 0.65))


def test_binomial_p_and_parity_p_take_columns_with_gaps():
    for p in (binomial_p([7, 0, np.nan], [8, 0, np.nan], 0.5, "greater"), parity_p([7, 0, np.nan], [8, 0, np.nan])):
        assert 0 < p[0] < 1
        assert p[1] == 1
        assert np.isnan(p[2])


def test_parity_needs_both_sides_excluded():
    n = 100
    assert parity_p(50, n, 0.15) == pytest.approx(tail(50, n, 0.35))
    assert parity_p(58, n, 0.15) == pytest.approx(1 - tail(59, n, 0.65))  # the nearer side decides
    assert parity_p(50, n, 0.15) < 0.05 < parity_p(58, n, 0.15)


def test_eight_of_anything_are_too_few_for_parity():
    assert parity_p(np.arange(9), 8).min() == pytest.approx(tail(4, 8, 0.35))
    assert tail(4, 8, 0.35) > 0.05


@pytest.mark.parametrize("margin", [0, 0.5, -0.1])
def test_parity_margin_must_leave_room(margin):
    with pytest.raises(BadInput, match="margin"):
        parity_p(4, 8, margin)


def test_holm_textbook_example_and_gaps():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert np.isnan(holm([np.nan])).all()


def test_mcnemar_is_a_sign_test_of_the_objects_that_differ():
    first = [True] * 9 + [False] * 1 + [True] * 20 + [False] * 5
    second = [False] * 9 + [True] * 1 + [True] * 20 + [False] * 5
    assert mcnemar_p(first, second) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar_p(first, first) == 1
    assert mcnemar_p([], []) == 1


def test_two_proportion_z_pools_and_gives_the_companions_value():
    z, p = two_proportion_z(39, 43, 20, 50)
    assert round(z, 2) == 5.06
    assert p < 1e-6
    pooled = 59 / 93
    assert z == pytest.approx((39 / 43 - 20 / 50) / sqrt(pooled * (1 - pooled) * (1 / 43 + 1 / 50)))
    assert two_proportion_z(0, 8, 0, 5) == two_proportion_z(8, 8, 5, 5) == (0, 1)
    assert np.isnan(two_proportion_z(0, 0, 3, 5)).all()


def test_trend_sums_the_tables_at_least_as_steep():
    """Two groups of a trend are Fisher's exact test; three are counted by hand."""
    assert trend_p([1, 3], [4, 4]) == pytest.approx((comb(4, 1) * comb(4, 3) + comb(4, 0) * comb(4, 4)) / comb(8, 4))
    steep = sum(
        comb(8, a) * comb(8, b) * comb(8, 7 - a - b)
        for a in range(8)
        for b in range(8 - a)
        if b + 2 * (7 - a - b) >= 2 + 2 * 4
    )
    assert trend_p([1, 2, 4], [8, 8, 8]) == pytest.approx(steep * factorial(7) * factorial(17) / factorial(24))
    assert trend_p([4, 2, 1], [8, 8, 8]) > 0.9
