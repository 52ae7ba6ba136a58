"""Models and agreement for answers that come in groups: answers about one object are alike."""

import numpy as np
import pandas as pd
import statsmodels.api as sm

from lib.stats.agreement import kappa_from_agreement
from lib.stats.bootstrap import FEW, share_by_object
from lib.stats.intervals import CONFIDENCE, Estimate


def logistic(terms: pd.DataFrame, happened, objects, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Logistic regression by generalized estimating equations (Liang and Zeger 1986), objects as the clusters.

    Working independence with the bias-reduced robust covariance (Mancl and DeRouen 2001), which keeps its level with
    few objects. terms: (n, k), used as given, so a constant must be one of them; happened: (n,) bool; objects: (n,).
    Returns a row a term: term, coefficient (log odds), low, high, p (two-sided, that it is 0).
    """
    groups = pd.factorize(np.asarray(objects))[0]
    model = sm.GEE(np.asarray(happened, float), terms.astype(float), groups, family=sm.families.Binomial())
    fit = model.fit(cov_type="bias_reduced")
    low, high = fit.conf_int(alpha=1 - confidence).to_numpy().T
    frame = pd.DataFrame({"coefficient": fit.params, "low": low, "high": high, "p": fit.pvalues})
    return frame.rename_axis("term").reset_index()


def kappa_by_object(
    first, second, objects, seed: int, confidence: float = CONFIDENCE, n_resamples: int = 9999
) -> Estimate:
    """Cohen's kappa of two judges' yes-or-no labels on the same pairs, with a percentile bootstrap over objects.

    first, second: (n_pairs,) bool; objects: (n_pairs,). Resamples in which kappa is undefined are left out. Below `FEW`
    objects, or where the judges never differ, the interval is that of the agreement by `share_by_object`, with the
    chance floor taken as known. nan with [-1, 1] where there are no pairs, or one label alone.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    same, n = first == second, len(first)
    ids, index = np.unique(np.asarray(objects), return_inverse=True)
    counts = np.stack([np.bincount(index, x, len(ids)) for x in (same, first, second, np.ones(n))], -1)
    value, floor = _kappa(counts.sum(0))
    if not n or np.isnan(value):
        return Estimate(np.nan, -1.0, 1.0, n, "undefined")
    if len(ids) < FEW or same.all():
        return kappa_from_agreement(share_by_object(same, np.ones(n), objects, seed, confidence), float(floor))
    draws = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), n_resamples)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(_kappa(draws @ counts)[0], [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high), n, "bootstrap over objects")


def _kappa(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 4) numbers of agreements, first's yes, second's yes, pairs -> kappa and agreement by chance, (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement, first, second = np.moveaxis(counts[..., :3] / counts[..., 3:], -1, 0)
        floor = first * second + (1 - first) * (1 - second)
        return np.where(floor < 1, (agreement - floor) / (1 - floor), np.nan), floor
