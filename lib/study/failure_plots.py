"""Notebook 01's picture of the failure modes: every judge in the layout warned of and in its fix."""

from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.study.plots import BLUE, GRAY, ORANGE, TEXT

COLORS = {"warned of": ORANGE, "fixed": BLUE}
MARKERS = "osD^"  # of the judges
STEP = 0.17  # between the dots of a row
MEASURES = {"raw": ("low", "high", "raw accuracy"), "flips": ("flips_low", "flips_high", "share of flips")}


def failure_modes(table: pd.DataFrame) -> Figure:
    """`lib.study.failure_tables.failure_table` as dots with intervals: accuracy and flips, two panels a failure."""
    failures = list(table.failure.unique())
    figure, axes = plt.subplots(
        len(failures), 2, sharex=True, figsize=(TEXT, 1.35 * len(failures) + 0.9), layout="constrained", squeeze=False
    )
    for row, failure in zip(axes, failures, strict=True):
        part = table[table.failure == failure]
        layouts = part.drop_duplicates("is").set_index("is").layout
        title = f"{failure}: {layouts['warned of']} (warned of), {layouts['fixed']} (its fix)"
        row[0].set_title(title.replace("_", " "), loc="left", weight="bold")
        for axis, measure in zip(row, MEASURES, strict=True):
            _dots(axis, part, measure)
        row[1].set_yticks([])
        row[0].axvline(0.5, color=GRAY, lw=0.8, ls=":", zorder=0)  # a coin
    for axis, (_, _, name) in zip(axes[-1], MEASURES.values(), strict=True):
        axis.set_xlabel(name)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _dots(axis: Axes, part: pd.DataFrame, measure: str):
    low, high, _ = MEASURES[measure]
    cases, judges = list(part.case.unique()), list(part.judge.unique())
    series = list(product(judges, COLORS))
    for place, (judge, role) in enumerate(series):
        mine = part[(part.judge == judge) & (part["is"] == role)]
        y = [cases.index(case) + STEP * (place - (len(series) - 1) / 2) for case in mine.case]
        error = [mine[measure] - mine[low], mine[high] - mine[measure]]
        look = {"fmt": MARKERS[judges.index(judge)], "color": COLORS[role], "ms": 4.5, "lw": 1.3}
        axis.errorbar(mine[measure], y, xerr=error, label=f"judge {judge}, {role}", **look)
    axis.set(
        xlim=(-0.02, 1.02),
        ylim=(len(cases) - 0.5, -0.5),
        yticks=range(len(cases)),
        yticklabels=[case.replace(" against ", "\nagainst ") for case in cases],
    )
