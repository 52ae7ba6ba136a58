"""Agreement of two judges beyond chance."""

import numpy as np
from scipy.stats import norm
from statsmodels.stats.inter_rater import cohens_kappa, to_table

from lib.stats.intervals import CONFIDENCE, Estimate, proportion


def kappa(first, second, confidence: float = CONFIDENCE) -> Estimate:
    """Cohen's kappa of two judges' labels on the same pairs, with the large-sample interval (Fleiss et al. 1969).

    first, second: (n_pairs,) labels. Where that interval has no width (the judges never differ, or one of them only
    has one label) the exact interval of the agreement, mapped through the chance floor, stands in. nan with [-1, 1]
    where there are no pairs, or one label alone, so that chance agrees always.
    """
    first, second = np.asarray(first), np.asarray(second)
    n = len(first)
    if len(np.unique(np.concatenate([first, second]))) < 2:
        return Estimate(np.nan, -1.0, 1.0, n, "undefined")
    table, _ = to_table(np.column_stack([first, second]))
    with np.errstate(invalid="ignore"):  # its z statistic, unused here, divides by a width of 0
        result = cohens_kappa(table)
    if result.std_kappa == 0:
        floor = float(table.sum(0) @ table.sum(1)) / n**2
        return kappa_from_agreement(proportion(np.trace(table), n, confidence), floor)
    half = norm.isf((1 - confidence) / 2) * result.std_kappa
    low, high = np.clip([result.kappa - half, result.kappa + half], -1, 1)
    return Estimate(float(result.kappa), float(low), float(high), n, "large-sample")


def kappa_from_agreement(agreement: Estimate, floor: float) -> Estimate:
    """Kappa and its interval from an agreement and the agreement `floor` by chance, the floor taken as known."""
    value, low, high = (max((x - floor) / (1 - floor), -1.0) for x in (agreement.value, agreement.low, agreement.high))
    return Estimate(value, low, high, agreement.n, f"{agreement.method}, floor fixed")
