import numpy as np
import pytest

from lib.stats.agreement import kappa, kappa_from_agreement
from lib.stats.intervals import Estimate, clopper_pearson, proportion, wilson


def labels(table):
    """Two columns of labels whose cross table is `table`."""
    cells = [(row, column) for row, counts in enumerate(table) for column, n in enumerate(counts) for _ in range(n)]
    return np.array(cells).T


def test_two_raters_textbook_example():
    assert kappa(*labels([[20, 5], [10, 15]])).value == pytest.approx(0.4)


def test_interval_has_the_standard_error_of_fleiss_example():
    """Fleiss, Statistical Methods for Rates and Proportions: three diagnoses, kappa 0.68, standard error 0.087."""
    first, second = labels([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    wide, narrow = kappa(first, second), kappa(first, second, confidence=0.6826895)
    assert round(wide.value, 2) == 0.68
    assert wide.high - wide.value == pytest.approx(1.96 * 0.0877, abs=5e-4)
    assert narrow.high - narrow.value == pytest.approx(0.0877, abs=5e-4)


def test_labels_may_be_words():
    assert kappa(list("ABAB"), list("ABBA")).value == pytest.approx(0)


def test_perfect_agreement_is_one_but_not_certain():
    estimate = kappa(["A"] * 5 + ["B"] * 5, ["A"] * 5 + ["B"] * 5)
    assert (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx((clopper_pearson(10, 10)[0] - 0.5) / 0.5)


def test_interval_stays_within_the_range_of_kappa():
    assert kappa(*labels([[0, 5], [3, 0]])).low == -1
    assert kappa(*labels([[9, 1], [0, 9]])).high == 1


def test_a_judge_with_one_answer_agrees_by_chance_with_a_wide_interval():
    estimate = kappa(["A"] * 8, ["A"] * 5 + ["B"] * 3)
    assert estimate.value == pytest.approx(0)
    assert -1 <= estimate.low < -0.5
    assert 0.5 < estimate.high < 1


@pytest.mark.parametrize("answers", [[], ["A"] * 4])
def test_kappa_is_undefined_without_a_second_label(answers):
    estimate = kappa(answers, answers)
    assert np.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (-1, 1)


def test_companions_kappa_follows_from_its_agreement_and_floor():
    agreement = Estimate(100 / 120, *wilson(100, 120), 120, "Wilson")
    assert round(kappa_from_agreement(agreement, 0.51).value, 2) == 0.66


def test_kappa_of_nothing_is_undefined_and_not_the_lowest():
    nothing = kappa_from_agreement(proportion(0, 0), 0.5)
    assert np.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (-1, 1)
