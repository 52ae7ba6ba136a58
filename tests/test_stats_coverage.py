"""How often intervals hold the truth, over seeded draws; the clustered ones on pairs that are alike within objects."""

import numpy as np
import pytest

from lib.stats.bootstrap import share_by_object
from lib.stats.intervals import clopper_pearson, wilson

DRAWS = 500
NOISE = 3 * np.sqrt(0.95 * 0.05 / DRAWS)  # three standard errors of a coverage of 95%


def covered(low, high, truth):
    return np.mean((np.asarray(low) <= truth) & (truth <= np.asarray(high)))


@pytest.mark.parametrize("n", [8, 30, 120])
@pytest.mark.parametrize("truth", [0.5, 0.65, 0.9])
def test_exact_interval_covers_at_least_and_wilson_about_what_it_says(n, truth):
    k = np.random.default_rng(n).binomial(n, truth, 20_000)
    assert covered(*clopper_pearson(k, n), truth) >= 0.95
    assert covered(*clopper_pearson(k, n, 0.8), truth) >= 0.8
    assert covered(*wilson(k, n), truth) == pytest.approx(0.95, abs=0.035)


def alike_pairs(n_objects, truth, seed, pairs=6, correlation=0.4):
    """Wins of `pairs` pairs an object, (DRAWS, n_objects), whose chance varies from object to object (beta)."""
    rng = np.random.default_rng(seed)
    spread = 1 / correlation - 1
    return rng.binomial(pairs, rng.beta(truth * spread, (1 - truth) * spread, (DRAWS, n_objects)))


def clustered(wins, pairs=6):
    """Interval ends over the draws, from outcomes laid out pair by pair."""
    objects = np.repeat(np.arange(wins.shape[1]), pairs)
    ones = np.ones(len(objects))
    outcomes = (np.arange(pairs) < wins[..., None]).reshape(len(wins), -1)
    found = [share_by_object(draw, ones, objects, seed, n_resamples=999) for seed, draw in enumerate(outcomes)]
    return [one.low for one in found], [one.high for one in found]


@pytest.mark.parametrize("truth", [0.5, 0.8, 0.95])
def test_bootstrap_over_objects_covers_where_the_interval_over_pairs_does_not(truth):
    wins = alike_pairs(60, truth, seed=1)
    naive = covered(*wilson(wins.sum(1), 60 * 6), truth)
    assert naive < 0.8
    assert covered(*clustered(wins), truth) == pytest.approx(0.95, abs=NOISE)


def test_with_few_objects_the_exact_interval_stands_in_since_the_bootstrap_covers_too_little(monkeypatch):
    wins = alike_pairs(8, 0.8, seed=2)
    assert covered(*clustered(wins), 0.8) >= 0.95
    monkeypatch.setattr("lib.stats.bootstrap.FEW", 0)
    assert covered(*clustered(wins), 0.8) < 0.9


def test_ties_counted_half_are_covered():
    rng = np.random.default_rng(3)
    score = rng.choice([0, 0.5, 1], size=(DRAWS, 64), p=[0.25, 0.3, 0.45])
    assert covered(*clopper_pearson(score.sum(1), 64), 0.6) >= 0.95
