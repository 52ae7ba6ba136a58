"""Table 1 as a forest plot: every row's win-rate and interval, the truth's, and the paper's point."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.study import labels
from lib.study.calibration_plots import across
from lib.study.plots import BLUE, COLUMN, GRAY, ORANGE
from lib.study.published import CHANCE, TARGET

AXES = {
    "win_all": "win-rate, a flip is no win",
    "win_consistent": "win-rate of the pairs that do not flip",
    "win_half": "win-rate, a flip counts half",
}
ROW = 0.24  # height of a row, inches


def forest(table: pd.DataFrame, name: str = "win_half") -> Figure:
    """A panel a condition (clean, then hard by severity), a row a method; `name` is the estimand, one of `AXES`.

    Hollow, with the gate that failed below their name: rows that may not be read. The paper's win-rates are drawn as
    printed, whatever the estimand.
    """
    conditions = table.apply(labels.condition, axis=1)
    parts = [table[conditions == one] for one in labels.CONDITIONS if (conditions == one).any()]
    figure, axes = plt.subplots(
        len(parts),
        figsize=(COLUMN, ROW * (len(table) + 1.2 * len(parts)) + 1.2),
        height_ratios=[len(part) + 0.4 for part in parts],
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, part in zip(axes[:, 0], parts, strict=True):
        _panel(axis, part, name)
        axis.set_title(labels.condition(part.iloc[0]), loc="left", weight="bold")
    axes[-1, 0].set_xlabel(AXES[name])
    handles = dict(
        reversed(pair) for axis in axes[:, 0] for pair in zip(*axis.get_legend_handles_labels(), strict=True)
    )
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, columnspacing=1, fontsize=7)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, name: str):
    place = np.arange(len(rows))
    readable = rows.interpretable.to_numpy(bool)
    axis.axvline(CHANCE, color="black", linewidth=0.8, linestyle=":", label=f"neither better, {CHANCE:g}")
    axis.axvline(TARGET, color="black", linewidth=0.8, linestyle="--", label=f"target, {TARGET:g}")
    looks = {"judge Y": (readable, {"color": BLUE})}
    looks["judge Y, not interpretable"] = (~readable, {"color": GRAY, "mfc": "white"})
    for label, (chosen, look) in looks.items():
        if chosen.any():
            across(axis, place[chosen], rows[chosen], name, label=label, marker="o", **look)
    truth = {"fmt": "d", "color": "black", "mfc": "white", "markersize": 3.5, "elinewidth": 0.5}
    reach = np.abs(rows[["truth_low", "truth_high"]].to_numpy(float).T - rows.truth_win.to_numpy(float))
    axis.errorbar(rows.truth_win, place + 0.3, xerr=reach, label="truth", **truth)
    axis.plot(
        rows.paper_win.astype(float), place - 0.3, "s", color=ORANGE, markersize=3.5, label="printed in the paper"
    )
    axis.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.45, -0.55), yticks=place)
    axis.set_yticklabels([labels.method(row) for _, row in rows.iterrows()], fontsize=7)
    for height, (_, row) in zip(place, rows.iterrows(), strict=True):
        spot = {"xy": (0, height + 0.42), "xytext": (-3.5, 0), "textcoords": "offset points"}
        look = {"ha": "right", "va": "center", "fontsize": 5.5, "color": GRAY}
        axis.annotate(labels.gate_failed(row), xycoords=axis.get_yaxis_transform(), **spot, **look)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
