"""Regression and kappa for grouped answers: planted values are found, and the intervals hold them as often as said."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit

from lib.stats.agreement import kappa
from lib.stats.clustered import kappa_by_object, logistic

PLANTED = np.array([0.4, 5.0])  # position, gap
COPIES = 6  # of every answer or pair, in one object: as alike as can be


def answers(seed, n_objects=60):
    rng = np.random.default_rng(seed)
    gap = rng.uniform(-0.5, 0.5, (n_objects, 3))
    named = rng.random(gap.shape) < expit(PLANTED[0] + PLANTED[1] * gap)
    gap, named = (np.tile(part, COPIES).ravel() for part in (gap, named))
    return pd.DataFrame({"position": 1.0, "gap": gap}), named, np.repeat(np.arange(n_objects), 3 * COPIES)


def test_logistic_finds_planted_coefficients_and_its_intervals_hold_them():
    fits = [logistic(*answers(seed)) for seed in range(200)]
    assert fits[0].term.tolist() == ["position", "gap"]
    held = np.mean([(fit.low < PLANTED) & (fit.high > PLANTED) for fit in fits], 0)
    assert held == pytest.approx([0.95, 0.95], abs=3 * np.sqrt(0.95 * 0.05 / 200))
    assert np.median([fit.coefficient for fit in fits], 0) == pytest.approx(PLANTED, rel=0.1)


def test_the_usual_standard_errors_would_be_too_small():
    terms, named, objects = answers(0)
    naive = sm.Logit(named.astype(float), terms).fit(disp=0)
    fit = logistic(terms, named, objects)
    assert fit.coefficient.to_numpy() == pytest.approx(naive.params.to_numpy(), abs=1e-4)
    assert (fit.high - fit.low > 1.8 * 2 * 1.96 * naive.bse.to_numpy()).all()


def test_objects_may_have_any_names_in_any_order():
    terms, named, objects = answers(0)
    shuffled = np.random.default_rng(0).permutation(len(named))
    again = logistic(terms.iloc[shuffled], named[shuffled], np.char.add("chair/", objects.astype(str))[shuffled])
    pd.testing.assert_frame_equal(again, logistic(terms, named, objects), rtol=1e-6)


def labels(seed, n_objects=50, kappa=0.6):
    rng = np.random.default_rng(seed)
    first = rng.random((n_objects, 3)) < 0.5
    second = np.where(rng.random(first.shape) < (1 + kappa) / 2, first, ~first)
    first, second = (np.tile(part, COPIES).ravel() for part in (first, second))
    return first, second, np.repeat(np.arange(n_objects), 3 * COPIES)


def test_kappa_is_cohens_and_its_interval_takes_objects_as_the_units():
    found = [kappa_by_object(*labels(seed), seed, n_resamples=499) for seed in range(200)]
    first, second, _ = labels(0)
    assert found[0].value == pytest.approx(kappa(first, second).value)
    assert np.mean([one.holds(0.6) for one in found]) == pytest.approx(0.95, abs=0.05)
    pairs = [kappa(*labels(seed)[:2]) for seed in range(200)]
    assert np.mean([one.holds(0.6) for one in pairs]) < 0.8


def test_kappa_with_few_objects_or_without_any_difference_has_an_exact_interval():
    first, second, objects = labels(1, n_objects=8)
    few = kappa_by_object(first, second, objects, 0)
    assert few.value == pytest.approx(kappa(first, second).value)
    assert few.low < kappa(first, second).low
    same = kappa_by_object(first, first, objects, 0)
    assert (same.value, same.high) == (1, 1)
    assert 0 < same.low < 1


def test_kappa_of_one_label_alone_is_undefined():
    for n in (0, 30):
        estimate = kappa_by_object(np.ones(n), np.ones(n), np.arange(n), 0)
        assert np.isnan(estimate.value)
        assert (estimate.low, estimate.high, estimate.n) == (-1, 1, n)
