"""What the papers' printed numbers leave open or contradict, computed from them."""

import math

import numpy as np
import pandas as pd

from lib.stats.intervals import CONFIDENCE, wilson
from lib.stats.tests import trend_p
from lib.study.published import rounds_to, subgroups


def flips_by_subgroup(published: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """The companion's flips in each subgroup: pairs of the design less the consistent ones, share, Wilson interval."""
    rows = published[published.paper == "companion"]
    pairs = rows[rows.quantity.eq("count") & rows.regime.ne("")].set_index("regime").value.astype(int)
    groups = subgroups(rows, "geometry")
    flips = pairs - groups.n
    low, high = wilson(flips, pairs, confidence)
    columns = {"pairs": pairs, "flips": flips, "share": flips / pairs, "low": low, "high": high}
    return pd.DataFrame(columns).loc[groups.index].rename_axis("subgroup").reset_index()


def denominators(published: pd.DataFrame, n: int = 8) -> pd.DataFrame:
    """What each printed win-rate and clear gap can mean if its trials are all `n` pairs, or only the consistent ones.

    One row a value and reading, with the ranges over every (wins, losses, flips) of `n` pairs that rounds to the
    printed value: wins, flips, win/consistent and win + flip/2. "none" where no outcome fits.
    """
    wins, flips = (grid.ravel() for grid in np.mgrid[: n + 1, : n + 1])
    wins, flips = wins[wins + flips <= n], flips[wins + flips <= n]
    with np.errstate(invalid="ignore"):
        consistent = wins / (n - flips)  # nan where every pair flips: no such value can be printed
    readings = {"all pairs": wins / n, "consistent pairs only": consistent}
    cells = published[published.quantity.isin(["win_rate", "clear_gap"]) & published.printed.ne("text")]
    rows = []
    for cell in cells.itertuples():
        for reading, value in readings.items():
            fit = rounds_to(value, cell.value, cell.decimals)
            shares = (wins, flips, consistent, (wins + flips / 2) / n)
            ranges = [_range(share[fit]) for share in shares]
            rows.append((cell.quantity, cell.value, reading, *ranges))
    columns = ["quantity", "printed", "trials", "wins", "flips", "win/consistent", "win + flip/2"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates().reset_index(drop=True)


def _range(values: np.ndarray) -> str:
    values = values[~np.isnan(values)]
    if not len(values):
        return "none"
    low, high = (f"{value:.3g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def does_not_add_up(published: pd.DataFrame) -> pd.DataFrame:
    """Eight places where the main paper's statements and its own numbers disagree or leave a gap.

    Columns: item, says (the statement), numbers (what the printed ones give, computed here), from (where they stand).
    """
    main = published[published.paper == "main"]
    number = main.set_index("item").value
    wins = main[main.quantity.eq("win_rate") & main.printed.ne("text")]
    repair = wins[wins.method == "conditioner repair"]
    n = repair.n.iloc[0]

    flow = main[main.quantity.eq("geometry_delta") & main.method.ne("conditioner repair")].set_index("item").value
    moved = "; ".join(f"{item} {delta:+.2f}" for item, delta in flow[flow != 0].items())

    gap = main[main.quantity == "clear_gap"].set_index("severity").value
    gap_range = main[main.quantity == "clear_gap_range"].iloc[0]
    outside = "; ".join(
        f"{severity} {share:.2f}" for severity, share in gap[(gap < gap_range.low) | (gap > gap_range.high)].items()
    )

    possible = denominators(published).set_index(["quantity", "printed", "trials"])
    parity = possible.loc["win_rate", 0.5, "all pairs"]["win/consistent"]
    odd = possible.loc["clear_gap", gap["severe"], "consistent pairs only"]

    covered = {name: int(number[f"{name} covered"]) for name in ("methods", "regimes", "severities")}
    severities = wins[wins.severity != ""].groupby("method").severity.nunique()
    lone = main[main.quantity == "claimed_apparent_wins"].method.item()
    beta = main[main.quantity == "dpo_beta"].value
    usual = published[published.paper == "related"].iloc[0]

    rows = [
        (
            f"the geometry delta of every flow method is {number['geometry delta of every flow method']:.0f}",
            f"{sum(flow != 0)} of {len(flow)} are not: {moved}",
            "Table 1",
        ),
        (
            f"the clear-gap control gives {gap_range.low} to {gap_range.high}",
            f"outside that range: {outside}",
            "abstract, Table 2",
        ),
        (
            "win-rates, without saying whether a flipped pair is a trial",
            f"if it is, 0.50 means {parity} of the consistent verdicts, and {gap['severe']} is no k of {n}; "
            f"if not, {gap['severe']} can only be {odd.wins} wins with {odd.flips} of {n} pairs flipped, "
            f"and 0.00 with all {n} flipped is undefined",
            "Tables 1 and 2",
        ),
        (
            " x ".join(f"{count} {name}" for name, count in covered.items()),
            f"{len(wins)} of {math.prod(covered.values())} cells are printed; more than one severity only for "
            + ", ".join(severities.index[severities > 1]),
            "Table 1",
        ),
        (
            f"{lone} has the lone apparent win",
            f"its win-rate is printed as {wins[wins.method == lone].value.item():.2f}",
            "Table 1",
        ),
        (
            "the win-rate of repair rises with severity",
            f"{', '.join(map(str, repair.k))} of {n}: exact one-sided trend test, groups taken as independent, "
            f"p = {trend_p(repair.k, repair.n):.3f}",
            "Table 2",
        ),
        (
            "adapting the flow does not change geometry",
            f"{number['stages adapted']:.0f} of {number['stages of the generator']:.0f} stages was adapted, and not "
            "the first, which sets coarse geometry",
            "text",
        ),
        (
            f"DPO with beta {' and '.join(f'{value:g}' for value in beta)}",
            f"{usual.low:g} to {usual.high:g} is used for flows elsewhere, on a mean squared error: "
            f"{usual.low / beta.max():g} to {usual.high / beta.min():g} times as much; the reduction is not printed",
            "text",
        ),
    ]
    frame = pd.DataFrame(rows, columns=["says", "numbers", "from"])
    frame.insert(0, "item", range(1, len(rows) + 1))
    return frame
