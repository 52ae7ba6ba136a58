"""What the rows of tables 1 and 2 and of the mechanism are called in figures, and which of them are the paper's."""

import pandas as pd

from lib.data import degrade
from lib.study.cells import BEST_OF, METHODS, REGIMES, SLAT
from lib.study.subjects import CLEAN

PAPER = {name: one.paper for name, one in METHODS.items() if one.paper}
FLOW = tuple(name for name in PAPER if METHODS[name].stage == SLAT)  # repair leaves the flow as it is
BEYOND = {"dro": "DRO", "dpo_flow": "flow-DPO", "dreamdpo": "DreamDPO", "best_of_k": f"best of {BEST_OF}"}
SEVERITIES = tuple(degrade.SEVERITIES)


def _condition(severity: str) -> str:
    return CLEAN if severity in ("", CLEAN) else f"hard, {severity}"


CONDITIONS = tuple(map(_condition, REGIMES))


def method(row: pd.Series) -> str:
    """The row's method, and its stage where the method usually changes another one."""
    name = {**PAPER, **BEYOND}.get(row.method, row.method)
    return name if row.stage == METHODS[row.method].stage else f"{name}, {row.stage}"


def condition(row: pd.Series) -> str:
    """One of `CONDITIONS`."""
    return _condition(row.severity)


def row(row: pd.Series) -> str:
    """Method and condition."""
    return f"{method(row)}, {condition(row)}"


def of_paper(table: pd.DataFrame, methods=tuple(PAPER)) -> pd.DataFrame:
    """The rows with these methods, and the stage that the paper changes with each."""
    return table[table.method.isin(methods) & (table.stage == table.method.map(lambda name: METHODS[name].stage))]


def gate_failed(row: pd.Series) -> str:
    """Which control the judge of the row failed, "" where the row may be read."""
    failed = [name.replace("_", " ") for name in ("clear_gap", "no_gap") if row[name] == "failed"]
    return "" if row.interpretable else f"{' and '.join(failed)} failed"
