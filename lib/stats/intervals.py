"""Confidence intervals of one proportion, and the small record that every estimate of the project is returned as."""

from dataclasses import dataclass

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from lib.errors import BadInput

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. `n` counts what the value averages over; `method` names how the interval was made.

    With nothing to average over (`n` = 0) the value is nan and the interval is the whole range.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside the closed interval."""
        return self.low <= value <= self.high


def clopper_pearson(k, n, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval (Clopper and Pearson 1934) of `k` successes in `n`, covering at least `confidence`.

    k, n: numbers or arrays that broadcast; k may be fractional (ties count half). Returns (low, high), each of the
    broadcast shape; (0, 1) where n = 0, nan where either is nan. Raises BadInput for k outside 0 to n.
    """
    return _interval(k, n, confidence, "beta")


def wilson(k, n, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Score interval (Wilson 1927) of `k` successes in `n`, as in arXiv 2606.18451; otherwise as `clopper_pearson`."""
    return _interval(k, n, confidence, "wilson")


def proportion(k: float, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """k/n with its exact interval."""
    low, high = clopper_pearson(k, n, confidence)
    return Estimate(k / n if n else np.nan, float(low), float(high), int(n), "Clopper-Pearson")


def _interval(k, n, confidence, method):
    k, n = np.broadcast_arrays(np.asarray(k, float), np.asarray(n, float))
    if not 0 < confidence < 1:
        raise BadInput("confidence", f"{confidence} is not between 0 and 1", "Use 0.95 for 95%")
    if np.any((k < 0) | (k > n)):
        raise BadInput("counts", f"{k} successes in {n} trials", "Successes lie between 0 and the trials")
    # n = 0 says nothing: it is asked as 0 of 1 to keep statsmodels quiet, then answered with the whole range
    low, high = proportion_confint(k, np.maximum(n, 1), alpha=1 - confidence, method=method)
    return np.where(n == 0, 0.0, low), np.where(n == 0, 1.0, high)
