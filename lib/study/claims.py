"""Claims: what a paper says, the rule that decides it, and what the tables of a run say to it.

A rule is a range in which a quantity lies if the claim is true. The whole 95% interval inside it: "holds". The whole
interval outside: "does not hold". An interval with both in it, a number that may not be read because a gate failed, or
a table that was not made: "cannot tell". The claims are listed in `lib.study.claimed`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial, wraps

import numpy as np
import pandas as pd
from scipy.stats import norm

from lib.stats.intervals import CONFIDENCE, Estimate, clopper_pearson
from lib.stats.tests import PARITY_MARGIN

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"


@dataclass(frozen=True)
class Rule:
    """The open range `low` to `high`, and the same in words."""

    low: float
    high: float
    words: str

    def room(self, estimate: Estimate) -> float:
        """How far the interval stays from the ends of the range; below 0 where it crosses one, nan where unknown."""
        return float(np.min([estimate.low - self.low, self.high - estimate.high]))

    def verdict(self, estimate: Estimate) -> str:
        if np.isnan([estimate.value, estimate.low, estimate.high]).any():
            return OPEN
        if estimate.low > self.low and (estimate.high < self.high or self.high == np.inf):  # an error can diverge
            return HOLDS
        return FAILS if estimate.high <= self.low or estimate.low >= self.high else OPEN


def above(limit: float) -> Rule:
    return Rule(limit, np.inf, f"above {limit:g}")


def below(limit: float) -> Rule:
    return Rule(-np.inf, limit, f"below {limit:g}")


def between(low: float, high: float) -> Rule:
    return Rule(low, high, f"between {low:.3g} and {high:.3g}")


def as_printed(row: pd.Series) -> Rule:
    """Within the margin of the parity tests of a printed share, or inside its interval, whichever reaches further.

    row: of `lib.study.published.load_published`, with value, k, n and, where printed, low and high.
    """
    low, high = clopper_pearson(float(row.k), float(row.n)) if pd.notna(row.n) else (row.low, row.high)
    ends = np.nanmin([row.value - PARITY_MARGIN, low]), np.nanmax([row.value + PARITY_MARGIN, high])
    counted = "" if pd.isna(low) else f", or in its interval [{low:.2g}, {high:.2g}]"
    return Rule(*ends, f"within {PARITY_MARGIN:g} of {row.value:g}{counted}")


@dataclass(frozen=True)
class Measured:
    """One number that a claim is held against; `unreadable` says why it may not be used, "" where it may."""

    name: str
    estimate: Estimate
    unreadable: str = ""


@dataclass(frozen=True)
class Numbers:
    """What a claim is held against: `read` makes it from the tables named in `needs`, in that order."""

    needs: tuple[str, ...]
    read: Callable[..., list[Measured]]


def reads(*needs: str):
    """Turns a function of these tables and of keywords into one of the keywords alone, which gives `Numbers`."""

    def wrap(function: Callable[..., list[Measured]]) -> Callable[..., Numbers]:
        @wraps(function)
        def chosen(**keywords) -> Numbers:
            return Numbers(needs, partial(function, **keywords))

        return chosen

    return wrap


@dataclass(frozen=True)
class Claim:
    """A statement, where and as what it is printed, and how it is decided: in every row of `numbers`, by `rule`.

    of: what the rule speaks of, in words.
    """

    text: str
    source: str
    printed: str
    of: str
    rule: Rule
    numbers: Numbers


def claims_table(claims: Iterable[Claim], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a claim: claim, source, printed, measured, low, high, n, verdict, why.

    Measured is the number that decides: where several rows must all hold, the one that is furthest from doing so. Their
    intervals are widened for their number, as Bonferroni's would be if they were normal.
    """
    return pd.DataFrame([decide(claim, tables) for claim in claims])


def decide(claim: Claim, tables: Mapping[str, pd.DataFrame]) -> dict:
    """One row of `claims_table`."""
    needs = claim.numbers.needs
    missing = [name for name in needs if name not in tables]
    found = [] if missing else claim.numbers.read(*(tables[name] for name in needs))
    rows = [replace(one, estimate=widened(one.estimate, len(found))) for one in found]
    verdicts = [OPEN if one.unreadable else claim.rule.verdict(one.estimate) for one in rows]
    verdict = next((kind for kind in (FAILS, OPEN) if kind in verdicts), HOLDS if rows else OPEN)
    rule = f"holds where {claim.of} is {claim.rule.words}"
    if rows:
        deciding = [one for one, its in zip(rows, verdicts, strict=True) if its == verdict]
        one = min(deciding, key=lambda one: np.nan_to_num(claim.rule.room(one.estimate), nan=-np.inf))
        shown = one.estimate
        reason = f"{one.name} is not interpretable: {one.unreadable}" if one.unreadable else one.name
        why = f"{rule}{f' in all {len(rows)} rows' if len(rows) > 1 else ''}; {reason}"
    else:
        shown = Estimate(np.nan, np.nan, np.nan, 0, "")
        why = f"{rule}; " + (f"table not made: {', '.join(missing)}" if missing else f"no row of it in {needs[0]}")
    numbers = {"measured": shown.value, "low": shown.low, "high": shown.high, "n": shown.n}
    return {
        **{"claim": claim.text, "source": claim.source, "printed": claim.printed},
        **numbers,
        **{"verdict": verdict, "why": why},
    }


def estimate_of(row: pd.Series, name: str, ends: str | None = None) -> Estimate:
    """A number of a row with its n: columns name, ends_low and ends_high; `ends` is `name` unless given."""
    low, high = (f"{name if ends is None else ends}_{end}".lstrip("_") for end in ("low", "high"))
    return Estimate(float(row[name]), float(row[low]), float(row[high]), int(row.n), "from the table")


def widened(estimate: Estimate, rows: int, confidence: float = CONFIDENCE) -> Estimate:
    """The interval as if the error that `confidence` allows were shared by so many rows (normal scaling)."""
    if rows == 1:
        return estimate
    tail = (1 - confidence) / 2
    factor = norm.isf(tail / rows) / norm.isf(tail)
    low, high = (estimate.value + factor * (end - estimate.value) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second from both intervals, taken as independent (MOVER; Newcombe 1998, Zou and Donner 2008)."""
    value = first.value - second.value
    low = value - np.hypot(first.value - first.low, second.high - second.value)
    high = value + np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, float(low), float(high), min(first.n, second.n), "MOVER")
