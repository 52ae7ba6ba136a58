"""The mechanism as figures: how far samples move with the adapter's scale and the sampler's steps, and the causes.

Both draw `lib.study.mechanism.mechanism`, which says what each quantity is.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lib.study import labels
from lib.study.adaptation_plots import ROW
from lib.study.plots import BLUE, COLUMN, GRAY, GREEN, ORANGE, PURPLE
from lib.study.subjects import CLEAN

SHIFTS = {
    "latent shift": {"color": BLUE, "marker": "o"},
    "occupancy shift": {"color": ORANGE, "marker": "s"},
    "surface shift": {"color": GREEN, "marker": "d"},
}
LINES = ("-", "--", ":", "-.")
AXES = {"scale": "scale of the adapter (1: as trained)", "steps": "sampling steps"}
RATIOS = ("probe", "feature MSE")  # 1: nothing changed
COLORS = {"saturation": PURPLE, "wash-out": BLUE, "locus": GREEN, "chance": GRAY}


def wash_out(table: pd.DataFrame) -> Figure:
    """How far adapted samples lie from the base's of the same seed, against scale and steps; a line type a method."""
    panels = [by for by in AXES if (table.by == by).any()]
    figure, axes = plt.subplots(
        len(panels), figsize=(COLUMN, 2.2 * len(panels) + 0.8), squeeze=False, layout="constrained"
    )
    methods = list(dict.fromkeys(labels.method(row) for _, row in table[table.by != ""].iterrows()))
    for axis, by in zip(axes[:, 0], panels, strict=True):
        for (_, quantity), rows in table[table.by == by].groupby([table.apply(labels.method, axis=1), "quantity"]):
            rows = rows.sort_values("x")
            look = SHIFTS[quantity] | {"linestyle": LINES[methods.index(labels.method(rows.iloc[0])) % len(LINES)]}
            reach = np.abs(rows[["low", "high"]].to_numpy(float).T - rows.value.to_numpy(float))
            axis.errorbar(rows.x, rows.value, yerr=reach, markersize=3.5, linewidth=1.1, elinewidth=0.8, **look)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set(xlabel=AXES[by], ylabel="shift", ylim=(0, None))
    if "steps" in panels:
        _powers(axes[panels.index("steps"), 0], sorted(table[table.by == "steps"].x.unique()))
    axes[0, 0].annotate("as far as another seed", (0.01, 1), xycoords=("axes fraction", "data"), va="bottom")
    for quantity in (name for name in SHIFTS if name in set(table.quantity)):
        axes[0, 0].plot([], [], label=quantity, markersize=3.5, **SHIFTS[quantity])
    for line, name in zip(LINES, methods if len(methods) > 1 else [], strict=False):
        axes[0, 0].plot([], [], color="black", linestyle=line, label=name)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _powers(axis: Axes, steps: list):
    axis.set_xscale("log", base=2)
    axis.set_xticks(steps, [f"{step:g}" for step in steps])
    axis.minorticks_off()


def causes(table: pd.DataFrame) -> Figure:
    """Every number of a cause that is no curve, a panel a quantity; ratios on a logarithmic axis."""
    rows = table[table.by == ""]
    quantities = list(dict.fromkeys(rows.quantity))
    heights = [(rows.quantity == quantity).sum() for quantity in quantities]
    figure, axes = plt.subplots(
        len(quantities),
        figsize=(COLUMN, ROW * sum(heights) + 0.62 * len(quantities) + 0.5),
        height_ratios=[height + 0.3 for height in heights],
        squeeze=False,
        layout="constrained",
    )
    for axis, quantity in zip(axes[:, 0], quantities, strict=True):
        part = rows[rows.quantity == quantity].reset_index(drop=True)
        for cause, mine in part.groupby("cause"):
            reach = np.abs(mine[["low", "high"]].to_numpy(float).T - mine.value.to_numpy(float))
            axis.errorbar(mine.value, mine.index, xerr=reach, fmt="o", ms=4, elinewidth=0.9, color=COLORS[cause])
        none = 1 if quantity in RATIOS else 0
        axis.axvline(none, color="black", linewidth=0.8, linestyle=":")
        if quantity in RATIOS:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
        axis.set_title(f"{part.cause[0]}: {quantity}{' ratio' if quantity in RATIOS else ''}", loc="left")
        axis.set(ylim=(len(part) - 0.4, -0.6), yticks=part.index)
        axis.set_yticklabels([_name(row) for _, row in part.iterrows()], fontsize=7)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    return figure


def _name(row: pd.Series) -> str:
    return labels.method(row) if row.severity in ("", CLEAN) else f"{labels.method(row)}, {row.severity}"
