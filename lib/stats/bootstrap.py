"""Interval of a share over pairs that come in groups: pairs of one object are alike, so objects are resampled."""

import numpy as np
from scipy.stats import bootstrap

from lib.stats.intervals import CONFIDENCE, Estimate, clopper_pearson

FEW = 20  # below so many objects the bootstrap covers too little (tests/test_stats_coverage.py)


def share_by_object(
    numerator, denominator, objects, seed: int, confidence: float = CONFIDENCE, n_resamples: int = 9999
) -> Estimate:
    """sum(numerator) / sum(denominator) over pairs, with an interval that treats objects as the independent units.

    numerator, denominator, objects: (n_pairs,), 0 <= numerator <= denominator; objects are ids of any sortable type.
    BCa bootstrap over objects (Efron 1987), a function of the data and the seed alone: the order of the pairs does
    not matter. Where it cannot work (fewer than `FEW` objects, or every object with the same share, as in all or
    none) or is not needed (one pair an object) the interval is Clopper-Pearson with objects as the trials. Objects
    whose denominator is 0 carry no information and are left out.
    """
    ids, index = np.unique(np.asarray(objects), return_inverse=True)
    above = np.bincount(index, np.asarray(numerator, float), minlength=len(ids))
    below = np.bincount(index, np.asarray(denominator, float), minlength=len(ids))
    above, below = above[below > 0], below[below > 0]
    total, n_objects = below.sum(), len(below)
    if not n_objects:
        return Estimate(np.nan, 0.0, 1.0, 0, "nothing to estimate")
    value = float(above.sum() / total)
    if n_objects < FEW or total == n_objects or np.ptp(above / below) == 0:
        low, high = clopper_pearson(value * n_objects, n_objects, confidence)
        method = "Clopper-Pearson" if total == n_objects else "Clopper-Pearson over objects"
        return Estimate(value, float(low), float(high), int(total), method)
    low, high = ratio_interval(above, below, seed, "BCa", confidence, n_resamples)
    return Estimate(value, low, high, int(total), "bootstrap over objects")


def ratio_interval(
    above, below, seed: int, method: str, confidence: float = CONFIDENCE, n_resamples: int = 9999
) -> tuple[float, float]:
    """Of sum(above) / sum(below), by the bootstrap over objects (n,); method: as `scipy.stats.bootstrap` has them."""
    interval = bootstrap(
        (above, below),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=n_resamples,
        confidence_level=confidence,
        method=method,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def mean_by_object(values, bound: float, objects, seed: int) -> Estimate:
    """Mean of values in [-bound, bound] with the interval of `share_by_object`, as a share of the way between them."""
    values = np.asarray(values, float)
    share = share_by_object(values + bound, np.full(len(values), 2.0 * bound), objects, seed)
    value, low, high = (2 * bound * x - bound for x in (share.value, share.low, share.high))
    return Estimate(value, low, high, len(values), share.method)
