"""Notebook 00's figures: every printed share with its interval, and power against the number of objects."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.stats.intervals import CONFIDENCE
from lib.stats.power import ALPHA, needed_n, power_above, power_parity
from lib.stats.tests import PARITY_MARGIN
from lib.study.plots import BLUE, GRAY, GREEN, ORANGE, RED, TEXT
from lib.study.published import CHANCE, POWER, TARGET

TITLES = {"main": "Judging to Improve (2606.20364)", "companion": "Cross-Model Protocol (2606.18451)"}


def forest(shares: pd.DataFrame, confidence: float = CONFIDENCE) -> Figure:
    """Every row of `proportions` with its interval, by paper, against chance and the target."""
    heights = shares.groupby("paper", sort=False).size() + 2
    figure, axes = plt.subplots(
        len(heights),
        figsize=(TEXT, 0.165 * heights.sum() + 0.7),
        height_ratios=heights,
        sharex=True,
        layout="constrained",
    )
    for axis, (paper, rows) in zip(axes, shares.groupby("paper", sort=False), strict=True):
        _forest_panel(axis, rows.reset_index(drop=True), confidence)
        axis.set_title(TITLES[paper], loc="left", weight="bold")
    axes[-1].set_xlabel("share")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _forest_panel(axis, rows: pd.DataFrame, confidence: float):
    place = np.arange(len(rows))
    printed = rows.method.str.startswith("printed")
    kinds = {
        f"{confidence:.0%} interval, computed here": (rows.n.notna(), {"color": BLUE, "marker": "o"}),
        "interval as printed": (printed, {"color": ORANGE, "marker": "s"}),
        "no interval: counts not printed": (rows.method == "none", {"color": GRAY, "marker": "o", "mfc": "white"}),
    }
    axis.axvline(CHANCE, color="black", linewidth=0.8, linestyle=":", label=f"chance, {CHANCE}")
    axis.axvline(TARGET, color=RED, linewidth=0.8, linestyle="--", label=f"target, {TARGET}")
    for label, (chosen, style) in kinds.items():
        some = rows[chosen]
        reach = np.array([some.estimate - some.low, some.high - some.estimate], float)
        axis.errorbar(some.estimate, place[chosen], xerr=reach, linestyle="", markersize=4, label=label, **style)
    axis.annotate("k/n", (1.1, -1.3), ha="right", va="center", annotation_clip=False, fontsize=7, weight="bold")
    for height, row in zip(place, rows.itertuples(), strict=True):
        counts = f"{row.k}/{row.n}" if pd.notna(row.n) else "–"
        axis.annotate(counts, (1.1, height), ha="right", va="center", annotation_clip=False, fontsize=7)
    axis.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), yticks=place, yticklabels=rows["item"])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def power_curve(n: int, margin: float = PARITY_MARGIN) -> Figure:
    """Exact power of the tests of chance and of parity against the number of objects, marked at `n` and at 80%.

    Two marks each: the first number that reaches 80%, and the one from which power stays there.
    """
    curves = {
        f"to find a true {TARGET} above {CHANCE}": (power_above, {"truth": TARGET}, BLUE),
        f"to find a true {CHANCE} within {CHANCE} ± {margin:g}": (power_parity, {"margin": margin}, GREEN),
    }
    # of the labels, in points from what they name: above the upper curve, below the lower one
    places = [((-14, 44), (-24, 16)), ((34, 8), (12, -52))]
    marks = [needed_n(power, POWER, **settings) for power, settings, _ in curves.values()]
    sizes = np.arange(1, max(n, np.max(marks)) + 30)
    figure, axis = plt.subplots(figsize=(TEXT, 3.2), layout="constrained")
    for (label, (power, settings, color)), (first, kept), (near, far) in zip(
        curves.items(), marks, places, strict=True
    ):
        curve = power(sizes, **settings)
        axis.plot(sizes, curve, color=color, linewidth=0.9, marker="o", markersize=1.8, label=label)
        axis.plot([n, first, kept], curve[[n - 1, first - 1, kept - 1]], "o", color=color, mec="black", zorder=3)
        _name(axis, f"n = {n}: {curve[n - 1]:.2f}", (n, curve[n - 1]), near, "left", color)
        text = f"{POWER:.0%} first at n = {first},\nfor good from {kept}"
        _name(axis, text, (first, curve[first - 1]), far, "right" if far[0] < 0 else "left", color)
    axis.axhline(POWER, color="black", linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="objects, one verdict each", ylabel=f"power at {ALPHA:.0%}", xlim=(0, sizes[-1] + 1), ylim=(-0.03, 1.03)
    )
    axis.legend(loc="lower right")
    return figure


def _name(axis, text: str, point: tuple, offset: tuple, align: str, color: str):
    """Text `offset` points from a point, with a line to it from the text's near corner."""
    corner = (float(align == "right"), float(offset[1] < 0))
    line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "relpos": corner, "shrinkB": 4}
    axis.annotate(text, point, offset, textcoords="offset points", ha=align, color=color, arrowprops=line)
