"""The numbers that claims are held against: functions from the tables of a run to named estimates."""

import pandas as pd

from lib.stats.intervals import proportion
from lib.study import labels
from lib.study.calibration import ALL
from lib.study.claims import Measured, difference, estimate_of, reads
from lib.study.flips import REDRAWN

SHARE = "win_half"  # a flip counts half: 0.5 means that neither side is better


@reads("table1")
def wins(table: pd.DataFrame, methods, name: str = SHARE, **equal) -> list[Measured]:
    """Win-rates of the paper's `methods`, unreadable where a gate failed."""
    rows = _where(labels.of_paper(table, methods), **equal)
    return [Measured(labels.row(row), estimate_of(row, name), labels.gate_failed(row)) for row in _each(rows)]


@reads("table1")
def geometry(table: pd.DataFrame, methods, **equal) -> list[Measured]:
    """Geometry deltas of the paper's `methods`; no judge has a part in them, so no gate."""
    rows = _where(labels.of_paper(table, methods), **equal)
    return [Measured(labels.row(row), estimate_of(row, "geometry_delta")) for row in _each(rows)]


@reads("table1")
def clean_flips(table: pd.DataFrame) -> list[Measured]:
    """Share of pairs that flip, for each flow method on clean photos."""
    rows = _where(labels.of_paper(table, labels.FLOW), regime="clean")
    return [Measured(labels.row(row), proportion(row.flips, row.n)) for row in _each(rows)]


@reads("table2")
def rise(table: pd.DataFrame) -> list[Measured]:
    """Win-rate of repair at severe less that at mild."""
    rows = _where(table, kinds="all").set_index("severity", drop=False)
    if not {"mild", "severe"} <= set(rows.index):
        return []
    severe, mild = rows.loc["severe"], rows.loc["mild"]
    change = difference(estimate_of(severe, SHARE), estimate_of(mild, SHARE))
    return [
        Measured(f"trend test p = {severe.trend_p:.3g}", change, labels.gate_failed(mild) or labels.gate_failed(severe))
    ]


@reads("table2")
def headroom(table: pd.DataFrame) -> list[Measured]:
    """The judge's preference for the clean photo's sample, for each severity of all degradations together."""
    return [Measured(row.severity, estimate_of(row, "headroom")) for row in _each(_where(table, kinds="all"))]


@reads("mechanism")
def cause(table: pd.DataFrame, by: str = "", **equal) -> list[Measured]:
    """A quantity of the mechanism, with the stage that the paper adapts."""
    rows = _where(labels.of_paper(table), by=by, **equal)
    return [Measured(f"{row.quantity}, {labels.row(row)}", estimate_of(row, "value", "")) for row in _each(rows)]


@reads("02_controls")
def control(table: pd.DataFrame, control: str) -> list[Measured]:
    """Judge Y's win/consistent on a control."""
    rows = _where(table, judge="Y", control=control)
    return [Measured(f"judge Y, {control}", estimate_of(row, "win_consistent")) for row in _each(rows)]


@reads("02_generated")
def generated(table: pd.DataFrame, judge: str, pairs: str, name: str) -> list[Measured]:
    """What a judge says of pairs of the base's samples (`lib.study.generated.COMPARED`)."""
    rows = _where(table, judge=judge, pairs=pairs)
    return [Measured(f"judge {judge}, {pairs}", estimate_of(row, name)) for row in _each(rows)]


@reads("03_flips")
def redrawn_flips(table: pd.DataFrame) -> list[Measured]:
    """Judge X's flips on pairs whose damage was drawn again."""
    rows = _where(table, source="judge X", pairs=REDRAWN)
    return [Measured(f"judge X, {REDRAWN}", estimate_of(row, "flips")) for row in _each(rows)]


@reads("03_flips")
def flips_fall(table: pd.DataFrame) -> list[Measured]:
    """For each judge, flips without a gap less flips at the widest gap."""
    found = []
    for source, rows in table[table.source.str.startswith("judge ")].groupby("source"):
        none, widest = rows[rows.pairs == REDRAWN].iloc[0], rows[rows.pairs.str.startswith("gap ")].iloc[-1]
        found.append(Measured(source, difference(estimate_of(none, "flips"), estimate_of(widest, "flips"))))
    return found


@reads("01_failure_modes")
def failure(table: pd.DataFrame, failure: str, judges: tuple, name: str, ends: str, **equal) -> list[Measured]:
    """A measure of a failure mode in one layout; `failure` is how its name begins."""
    rows = _where(table[table.failure.str.startswith(failure) & table.judge.isin(judges)], **equal)
    return [Measured(f"judge {row.judge}, {row.case}", estimate_of(row, name, ends)) for row in _each(rows)]


@reads("01_failure_differences")
def failure_change(table: pd.DataFrame, failure: str, judges: tuple, measure: str, **equal) -> list[Measured]:
    """What the layout warned of changes, against its fix; unreadable where a judge was taught it."""
    rows = _where(table[table.failure.str.startswith(failure) & table.judge.isin(judges)], **equal)
    return [
        Measured(
            f"judge {row.judge}, {row.case}",
            estimate_of(row, f"{measure}_change", measure),
            "its training labels taught the judge this" if row.reading.endswith("by its label") else "",
        )
        for row in _each(rows)
    ]


@reads("02_agreement")
def kappa(table: pd.DataFrame) -> list[Measured]:
    """Kappa of X and Y on all pairs with a gap."""
    return [Measured(row.gap, estimate_of(row, "kappa")) for row in _each(_where(table, gap=ALL))]


@reads("07_judges")
def rig_flips(judges: pd.DataFrame) -> list[Measured]:
    """Judge Y's flips on the 24-view rig."""
    rows = _where(judges, judge="Y", subgroup="all")
    return [Measured("all pairs, taken as independent", proportion(row.flips, row.pairs)) for row in _each(rows)]


@reads("07_proxies", "07_judges")
def agreement(table: pd.DataFrame, judges: pd.DataFrame, proxy: str, subgroup: str = "all") -> list[Measured]:
    """A proxy's agreement with judge Y; unreadable where Y fails its bar, or the encoder was taught what damage is."""
    failed = not _where(judges, judge="Y", subgroup="all").clear_gap.eq("passes").all()
    why = "judge Y fails the clear-gap bar on the 24-view rig" if failed else ""
    return [
        Measured(
            f"{proxy}, {subgroup}",
            estimate_of(row, "agreement", ""),
            why or ("its encoder was taught what damage looks like" if "tower" in row.encoder else ""),
        )
        for row in _each(_where(table, proxy=proxy, subgroup=subgroup))
    ]


@reads("07_proxies", "07_judges")
def agreements_apart(table: pd.DataFrame, judges: pd.DataFrame, first: dict, second: dict) -> list[Measured]:
    """The first agreement less the second."""
    both = [one for chosen in (first, second) for one in agreement(**chosen).read(table, judges)]
    if len(both) < 2:
        return []
    apart = difference(both[0].estimate, both[1].estimate)
    return [Measured(f"{both[0].name} less {both[1].name}", apart, both[0].unreadable or both[1].unreadable)]


def _where(table: pd.DataFrame, **equal) -> pd.DataFrame:
    for name, value in equal.items():
        table = table[table[name] == value]
    return table


def _each(table: pd.DataFrame) -> list[pd.Series]:
    return [row for _, row in table.iterrows()]
