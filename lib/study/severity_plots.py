"""Table 2 as figures: conditioner repair against the severity, and each degradation alone."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.study import labels
from lib.study.adaptation_plots import ROW
from lib.study.calibration_plots import across, points
from lib.study.plots import BLUE, COLUMN, GRAY, GREEN, ORANGE
from lib.study.published import CHANCE, TARGET

ALL = "all"  # of `kinds`: crop, occlusion, downscaling and blur together
APART = 0.08
PRINTED = {"marker": "s", "color": ORANGE, "markersize": 4, "linestyle": ""}


def sweep(table: pd.DataFrame, name: str = "win_half") -> Figure:
    """Win-rate, headroom, geometry delta and feature error of repair by severity, with the paper's points.

    Hollow: severities whose row of Table 2 is not interpretable, a gate of its judge having failed.
    """
    rows = table[table.kinds == ALL].set_index("severity").reindex(labels.SEVERITIES)
    rows = rows.rename(columns={"truth_win": "truth"})
    figure, (win, gap, geometry, error) = plt.subplots(4, figsize=(COLUMN, 6.2), sharex=True, layout="constrained")
    place = np.arange(len(rows))
    shares = ((win, name, "truth", "paper_win"), (gap, "headroom", "headroom_truth", "paper_clear_gap"))
    for axis, judged, true, printed in shares:
        axis.axhline(CHANCE, color="black", linewidth=0.8, linestyle=":")
        points(axis, place - APART, rows, judged, label="judge Y", color=BLUE, marker="o")
        points(axis, place + APART, rows, true, label="truth", color=GREEN, marker="d", mfc="white")
        axis.plot(place, rows[printed].astype(float), label="printed in the paper", **PRINTED)
        axis.set_ylim(-0.03, 1.03)
    unreadable = ~rows.interpretable.eq(True).to_numpy() & rows[name].notna().to_numpy()
    hollow = {"color": BLUE, "mfc": "white", "ms": 4, "zorder": 4, "label": "not interpretable"}
    win.plot(place[unreadable] - APART, rows[name][unreadable], "o", **hollow)
    win.axhline(TARGET, color="black", linewidth=0.8, linestyle="--")
    points(geometry, place, rows, "geometry_delta", color=BLUE, marker="o")
    geometry.axhline(0, color="black", linewidth=0.8, linestyle=":")
    geometry.plot(place + APART, rows.paper_geometry_delta.astype(float), **PRINTED)
    for when, fill in (("before", None), ("after", "white")):
        error.plot(place, rows[f"feature_mse_{when}"], marker="o", color=BLUE, mfc=fill, ms=4, label=f"{when} repair")
        error.plot(place, rows[f"paper_mse_{when}"].astype(float), **PRINTED, mfc=fill)
    error.legend(loc="upper left")
    error.set_ylim(0)
    titles = ("repaired against not repaired", "clean photo against degraded", "geometry delta", "feature error (MSE)")
    for axis, letter, title in zip((win, gap, geometry, error), "abcd", titles, strict=True):
        axis.set_title(f"{letter}  {title}", loc="left")
    win.set_ylabel("win-rate")
    gap.set_ylabel("preference")
    error.set_xticks(place, labels.SEVERITIES)
    error.set(xlabel="severity of the degradation", xlim=(-0.4, len(rows) - 0.6))
    figure.legend(*win.get_legend_handles_labels(), loc="outside lower center", ncols=2, columnspacing=1)
    return figure


def kinds(table: pd.DataFrame, name: str = "win_half") -> Figure:
    """Win-rate of repair (filled; hollow where it may not be read) and headroom, by degradation and severity."""
    groups = [ALL, *(kind for kind in dict.fromkeys(table.kinds) if kind != ALL)]
    order = {severity: index for index, severity in enumerate(labels.SEVERITIES)}
    parts = [table[table.kinds == kind].sort_values("severity", key=lambda one: one.map(order)) for kind in groups]
    figure, axes = plt.subplots(
        len(parts),
        figsize=(COLUMN, ROW * (len(table) + len(parts)) + 1),
        height_ratios=[len(part) + 0.4 for part in parts],
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, kind, part in zip(axes[:, 0], groups, parts, strict=True):
        _kind(axis, part, name)
        axis.set_title("all four together" if kind == ALL else f"{kind} alone", loc="left", weight="bold")
    axes[-1, 0].set_xlabel("share")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", fontsize=7)
    return figure


def _kind(axis: Axes, rows: pd.DataFrame, name: str):
    place = np.arange(len(rows))
    readable = rows.interpretable.to_numpy(bool)
    axis.axvline(CHANCE, color="black", linewidth=0.8, linestyle=":")
    look = {"color": BLUE, "marker": "o"}
    across(axis, place - 0.12, rows, name, label="repaired sample preferred to the one without repair", **look)
    axis.plot(rows[name][~readable], place[~readable] - 0.12, "o", color=BLUE, mfc="white", ms=4, zorder=4)
    look = {"color": GRAY, "marker": "D"}
    across(axis, place + 0.18, rows, "headroom", label="clean photo's sample preferred to the degraded one's", **look)
    axis.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.45, -0.55), yticks=place, yticklabels=rows.severity)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
