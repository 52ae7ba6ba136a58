"""The two papers' printed numbers (results/published), with the intervals, tests and power that they lack."""

from itertools import combinations

import numpy as np
import pandas as pd

from lib.profiles import ROOT
from lib.stats.agreement import kappa_from_agreement
from lib.stats.gates import CLEAR_WINS
from lib.stats.intervals import CONFIDENCE, Estimate, clopper_pearson, wilson
from lib.stats.power import ALPHA, needed_n, power_above, power_parity
from lib.stats.tests import PARITY_MARGIN, binomial_p, holm, parity_p, two_proportion_z

CHANCE, TARGET, POWER = 0.5, 0.65, 0.8
PROPORTIONS = ("win_rate", "clear_gap", "base_vs_base", "flip_rate", "preference", "accuracy", "agreement")


def load_published() -> pd.DataFrame:
    """Every row of results/published/*.csv, `value` as a number and `decimals` = the digits it is printed with."""
    folder = ROOT / "results" / "published"
    frames = [pd.read_csv(folder / f"{paper}.csv", dtype=str) for paper in ("main", "companion")]
    frame = pd.concat(frames, ignore_index=True)
    decimals = frame.value.fillna("").str.partition(".")[2].str.len()
    numeric = {name: pd.to_numeric(frame[name]) for name in ("value", "low", "high")}
    counts = {name: frame[name].astype("Int64") for name in ("k", "n")}
    return frame.assign(**numeric, **counts, decimals=decimals).fillna({"method": "", "regime": "", "severity": ""})


def proportions(published: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Every printed share, one a row, with what its counts say: interval, p, power and needed n.

    Columns: paper, item, k, n (empty where not printed), estimate (k/n, else as printed), low, high, method (how the
    interval was made: exact for the main paper, Wilson for the companion, as it does; "printed" where only the paper
    could), p_half (exact one-sided test that the share exceeds 0.5), power_065 (chance that this test, at 5% and this
    n, finds a true 0.65), n_needed_065 (first n where that chance is 80%).
    """
    rows = published[published.quantity.isin(PROPORTIONS)].reset_index(drop=True)
    k, n = (rows[name].astype(float).to_numpy() for name in ("k", "n"))
    known = ~np.isnan(n)
    low, high = np.where(rows.paper == "main", clopper_pearson(k, n, confidence), wilson(k, n, confidence))
    computed = np.where(rows.paper == "main", "Clopper-Pearson", "Wilson")
    printed = np.where(rows.low.notna(), "printed, " + rows.interval.fillna(""), "none")
    return pd.DataFrame(
        {
            "paper": rows.paper,
            "item": rows["item"],
            "k": rows.k,
            "n": rows.n,
            "estimate": np.where(known, k / n, rows.value),
            "low": np.where(known, low, rows.low),
            "high": np.where(known, high, rows.high),
            "method": np.where(known, computed, printed),
            "p_half": binomial_p(k, n, CHANCE, "greater"),
            **_power(n),
        }
    )


def _power(n) -> dict:
    first, _ = needed_n(power_above, POWER, truth=TARGET, null=CHANCE, alpha=ALPHA)
    return {"power_065": power_above(n, TARGET, CHANCE, ALPHA), "n_needed_065": first}


def table_1(published: pd.DataFrame, confidence: float = CONFIDENCE, margin: float = PARITY_MARGIN) -> pd.DataFrame:
    """Table 1 with intervals and tests, flips counted as no win; `_holm` columns are corrected over the rows.

    p_half: exact, that the win-rate exceeds 0.5. p_target: exact, that it is below 0.65. p_parity: two one-sided tests
    that it lies within 0.5 +/- margin. power_065 and n_needed_065 as in `proportions`.
    """
    cells = published[published.printed.fillna("").str.contains("Table 1")]
    rows = cells[cells.quantity == "win_rate"]
    geometry = cells[cells.quantity == "geometry_delta"].set_index("item").value
    k, n = rows.k.astype(float), rows.n.astype(float)
    low, high = clopper_pearson(k, n, confidence)
    p_half, p_target = binomial_p(k, n, CHANCE, "greater"), binomial_p(k, n, TARGET, "less")
    tests = {"p_half": p_half, "p_half_holm": holm(p_half), "p_target": p_target, "p_target_holm": holm(p_target)}
    extra = {"p_parity": parity_p(k, n, margin), **_power(n), "geometry_delta": rows["item"].map(geometry)}
    frame = rows[["method", "regime", "severity", "k", "n", "value"]].rename(columns={"value": "win"})
    return frame.assign(low=low, high=high, **tests, **extra).reset_index(drop=True)


def table_2(published: pd.DataFrame) -> pd.DataFrame:
    """Table 2, one row a severity, with whether the printed clear gap passes the gate that this project sets."""
    cells = published[published.printed.fillna("").str.contains("Table 2")]
    names = ["win_rate", "clear_gap", "geometry_delta", "feature_mse_before", "feature_mse_after"]
    frame = cells.pivot(index="severity", columns="quantity", values="value")[names]
    frame = frame.loc[["mild", "medium", "severe"]].rename_axis(columns=None).reset_index()
    return frame.assign(passes_gate=frame.clear_gap >= CLEAR_WINS)


def rounds_to(value, printed, decimals) -> np.ndarray:
    """Whether `value`, rounded to `decimals` digits either way at a tie, gives `printed`; arrays broadcast."""
    return np.abs(np.asarray(value, float) - printed) <= 0.5 * 10.0 ** -np.asarray(decimals) + 1e-9


def recomputed(published: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """The companion's numbers computed again from its counts; `reproduces` is empty where nothing can be compared.

    Columns: item, printed, printed_low, printed_high, k, n, recomputed, low, high, reproduces, how.
    """
    rows = published[published.paper == "companion"]
    shares = rows[rows.quantity.isin(PROPORTIONS) & (rows.k.notna() | rows.low.notna())]
    k, n = shares.k.astype(float), shares.n.astype(float)
    low, high = wilson(k, n, confidence)
    same = rounds_to(k / n, shares.value, shares.decimals)
    same &= rounds_to(low, shares.low, 2) & rounds_to(high, shares.high, 2)
    same = same.astype("boolean").mask(n.isna() | shares.low.isna())
    names = {"value": "printed", "low": "printed_low", "high": "printed_high"}
    frame = shares[["item", "value", "low", "high", "k", "n"]].rename(columns=names)
    frame = frame.assign(recomputed=k / n, low=low, high=high, reproduces=same)
    frame["how"] = "k/n, Wilson"
    frame.loc[shares.low.isna(), "how"] += "; no printed interval, and k is derived from the value"
    frame.loc[n.isna(), "how"] = "needs the verdicts, which are not released"
    return pd.concat([frame, _derived(rows, confidence)], ignore_index=True)


def _derived(companion: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Totals, kappa, the share of flips and z, from the companion's other numbers, as rows of `recomputed`."""
    by_item = companion.set_index("item")
    rows = []
    for method in ("geometry", "CLIP"):
        k, n = subgroups(companion, method).sum()
        rows.append((f"{method} proxy", k / n, *wilson(k, n, confidence), "sum over the subgroups, Wilson"))
    k, n = by_item.loc["X-Y agreement", ["k", "n"]]
    agreement = Estimate(k / n, *wilson(k, n, confidence), n, "Wilson")
    kappa = kappa_from_agreement(agreement, by_item.value["X-Y agreement by chance"])
    rows.append(("X-Y kappa", kappa.value, kappa.low, kappa.high, "(agreement - floor) / (1 - floor), floor fixed"))
    pairs, consistent = by_item.value["pairs"], by_item.value["order-consistent pairs"]
    interval = wilson(pairs - consistent, pairs, confidence)
    rows.append(("flips of raw verdicts", 1 - consistent / pairs, *interval, "1 - consistent pairs / pairs, Wilson"))
    groups = subgroups(companion, "geometry")
    printed = companion[companion.quantity == "z"].iloc[0]
    for pair in combinations(groups.index, 2):
        z = two_proportion_z(*groups.loc[pair[0]], *groups.loc[pair[1]])[0]
        if " vs ".join(pair) == printed["item"] or rounds_to(z, printed.value, printed.decimals):
            rows.append((printed["item"], z, np.nan, np.nan, f"pooled two-proportion z of {pair[0]} vs {pair[1]}"))
    frame = pd.DataFrame(rows, columns=["item", "recomputed", "low", "high", "how"])
    frame = frame.astype({"recomputed": float, "low": float, "high": float})
    source = by_item.loc[frame["item"]]
    same = rounds_to(frame.recomputed, source.value.to_numpy(), source.decimals.to_numpy())
    return frame.assign(printed=source.value.to_numpy(), reproduces=pd.array(same, dtype="boolean"))


def subgroups(companion: pd.DataFrame, method: str) -> pd.DataFrame:
    """k and n of a proxy (`method`) in each subgroup of pairs, indexed by subgroup."""
    rows = companion[companion.method.eq(method) & companion.regime.ne("") & companion.k.notna()]
    return rows.set_index("regime")[["k", "n"]].astype(int)


def sample_size(n: int, margin: float = PARITY_MARGIN, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """What `n` objects can and cannot show, and how many would do: columns question, answer."""
    wins = np.arange(n + 1)
    beats = wins[binomial_p(wins, n, CHANCE, "greater") <= ALPHA]
    truths = np.linspace(CHANCE, 1, 501)
    shown = truths[power_above(n, truths, CHANCE, ALPHA) >= POWER]
    low, high = clopper_pearson(n // 2, n, confidence)
    first, kept = needed_n(power_above, POWER, truth=TARGET, null=CHANCE, alpha=ALPHA)
    parity_first, parity_kept = needed_n(power_parity, POWER, margin=margin, alpha=ALPHA)
    rows = [
        (f"interval of {n // 2} wins of {n}", f"[{low:.3f}, {high:.3f}]"),
        (
            f"wins of {n} needed to beat {CHANCE} (one-sided, {ALPHA:.0%})",
            f"{beats[0]}" if len(beats) else "impossible",
        ),
        (f"power of that test against a true {TARGET}", f"{power_above(n, TARGET, CHANCE, ALPHA):.2f}"),
        (f"smallest true win-rate it finds with {POWER:.0%} power", f"{shown[0]:.2f}" if len(shown) else "none"),
        (f"n for {POWER:.0%} power against a true {TARGET}: first", f"{first}"),
        (f"n for {POWER:.0%} power against a true {TARGET}: from there on", f"{kept}"),
        (f"smallest p for parity within {margin} that {n} objects can give", f"{parity_p(wins, n, margin).min():.2f}"),
        (f"n for {POWER:.0%} power to show parity within {margin}: first", f"{parity_first}"),
        (f"n for {POWER:.0%} power to show parity within {margin}: from there on", f"{parity_kept}"),
    ]
    return pd.DataFrame(rows, columns=["question", "answer"])
