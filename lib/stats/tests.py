"""Hypothesis tests on counts: exact where the counts allow it, each naming its alternative."""

import itertools

import numpy as np
from scipy.stats import binomtest, multivariate_hypergeom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import binom_tost, proportions_ztest

from lib.errors import BadInput

PARITY_MARGIN = 0.15  # 0.35 to 0.65: as wide as the paper's own target of 0.65 allows


def binomial_p(k, n, null: float, alternative: str) -> np.ndarray:
    """Exact p of `k` successes in `n` against a true share of `null`; 1 where n = 0, nan where either is nan.

    k, n: numbers or arrays that broadcast. alternative: "greater" (the share exceeds null), "less", or "two-sided".
    """

    def one(k, n):
        if np.isnan(k) or np.isnan(n):
            return np.nan
        return binomtest(int(k), int(n), null, alternative=alternative).pvalue if n else 1.0

    return np.vectorize(one, otypes=[float])(np.asarray(k, float), np.asarray(n, float))


def parity_limits(margin: float = PARITY_MARGIN) -> tuple[float, float]:
    """0.5 - margin and 0.5 + margin, between which a share counts as parity. Raises BadInput."""
    if not 0 < margin < 0.5:
        raise BadInput("margin", f"{margin} is not between 0 and 0.5", f"Use {PARITY_MARGIN} for 0.35 to 0.65")
    return 0.5 - margin, 0.5 + margin


def parity_p(k, n, margin: float = PARITY_MARGIN) -> np.ndarray:
    """Two one-sided exact tests (Schuirmann 1987) that the share lies within 0.5 +/- `margin`; arrays broadcast.

    A small p supports parity, a large one supports nothing; 1 where n = 0, nan where either is nan.
    """
    limits = parity_limits(margin)

    def one(k, n):
        return float(binom_tost(k, n, *limits)[0]) if n else 1.0

    return np.vectorize(one, otypes=[float])(np.asarray(k, float), np.asarray(n, float))


def holm(p_values) -> np.ndarray:
    """p-values corrected for their number (Holm 1979): each, compared with alpha, keeps the family-wise error at alpha.

    nan stays nan and does not count as a test.
    """
    p = np.asarray(p_values, float)
    corrected, known = np.full(p.shape, np.nan), ~np.isnan(p)
    if known.any():
        corrected[known] = multipletests(p[known], method="holm")[1]
    return corrected


def mcnemar_p(first, second) -> float:
    """Exact two-sided McNemar test that two methods succeed equally often on the same objects.

    first, second: (n_objects,) bool, in the same order. 1 where they never differ.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
    return float(mcnemar(table, exact=True).pvalue)


def two_proportion_z(k1: int, n1: int, k2: int, n2: int) -> tuple[float, float]:
    """(z, two-sided p) of the pooled test that two independent shares are equal.

    (0, 1) where both are 0 or both are 1, (nan, nan) where one has no trial.
    """
    if not (n1 and n2):
        return np.nan, np.nan
    if k1 + k2 in (0, n1 + n2):
        return 0.0, 1.0
    z, p = proportions_ztest([k1, k2], [n1, n2])
    return float(z), float(p)


def trend_p(successes, trials) -> float:
    """Exact one-sided p of a rising trend over ordered groups (Cochran-Armitage score, equal steps, margins fixed).

    successes, trials: (n_groups,) ints, groups independent. Enumerates every table with the same margins.
    """
    successes, trials = np.asarray(successes, int), np.asarray(trials, int)
    tables = np.array(list(itertools.product(*(range(n + 1) for n in trials))))
    tables = tables[tables.sum(1) == successes.sum()]
    score = np.arange(len(trials))
    as_steep = tables[tables @ score >= successes @ score]
    return float(multivariate_hypergeom.pmf(as_steep, trials, successes.sum()).sum())
