"""Exact power of the binomial tests and the number of pairs they need."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binom
from statsmodels.stats.proportion import binom_tost_reject_interval

from lib.errors import BadInput
from lib.stats.tests import PARITY_MARGIN, parity_limits

ALPHA = 0.05


def power_above(n, truth: float = 0.65, null: float = 0.5, alpha: float = ALPHA) -> np.ndarray:
    """Chance that the exact one-sided test finds the share above `null` when it is `truth`; n: int array, any shape.

    nan where n is nan. A saw-tooth in n, since the attained level of an exact test jumps.
    """
    n = np.asarray(n, float)
    return binom.sf(binom.isf(alpha, n, null), n, truth)


def power_parity(n, truth: float = 0.5, margin: float = PARITY_MARGIN, alpha: float = ALPHA) -> np.ndarray:
    """Chance that two one-sided exact tests find the share within 0.5 +/- `margin` when it is `truth`; n: int array."""
    n = np.asarray(n)
    low, high = binom_tost_reject_interval(*parity_limits(margin), n, alpha=alpha)
    return np.clip(binom.cdf(high, n, truth) - binom.cdf(low - 1, n, truth), 0, None)


def needed_n(power: Callable = power_above, target: float = 0.8, limit: int = 10_000, **settings) -> tuple[int, int]:
    """(first n whose power reaches `target`, n from which it stays there), for a power function of n above.

    Raises BadInput where `target` is not reached, and kept for the upper half of the range, within `limit` pairs.
    """
    enough = power(np.arange(1, limit + 1), **settings) >= target
    if not enough[limit // 2 :].all():
        raise BadInput("needed_n", f"power {target} is not reached within {limit} pairs", "Raise limit or the effect")
    short = np.flatnonzero(~enough)
    return int(np.argmax(enough)) + 1, int(short[-1]) + 2 if len(short) else 1
