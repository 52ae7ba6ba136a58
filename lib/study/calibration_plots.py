"""Notebook 02's figures: trust against the true gap, agreement of the judges, what other ways of asking change."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.stats.gates import CLEAR_FLIPS, CLEAR_WINS
from lib.study.calibration import ALL, CHANCE
from lib.study.pairs import CLEAR_GAP, NO_GAP
from lib.study.plots import BLUE, COLUMN, GRAY, GREEN, ORANGE, TEXT

STYLES = [{"color": BLUE, "marker": "o"}, {"color": ORANGE, "marker": "s"}]  # told apart without color too
APART = 0.004  # half the distance of the two judges' marks along the gap


def judges_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict, int]]:
    """(name, rows, style, side -1 or 1) of each judge in a table."""
    parts = zip(table.groupby("judge"), STYLES, (-1, 1), strict=False)
    return [(judge, part, style, side) for (judge, part), style, side in parts]


def points(axis: Axes, x, table: pd.DataFrame, name: str, line: str = "-", **style):
    """A column of a table with its interval, against x."""
    reach = np.abs(table[[f"{name}_low", f"{name}_high"]].to_numpy(float).T - table[name].to_numpy(float))
    look = {"linewidth": 1.2, "elinewidth": 0.8, "markersize": 4} | style
    axis.errorbar(x, table[name], yerr=reach, linestyle=line, **look)


def across(axis: Axes, height, table: pd.DataFrame, name: str, **style):
    """A column of a table with its interval, from left to right at a height."""
    reach = np.abs(table[[f"{name}_low", f"{name}_high"]].to_numpy(float).T - table[name].to_numpy(float))
    axis.errorbar(table[name], height, xerr=reach, linestyle="", markersize=4, elinewidth=0.9, **style)


def calibration(by_gap: pd.DataFrame, controls: pd.DataFrame, reliability: pd.DataFrame, brier: pd.DataFrame) -> Figure:
    """Accuracy of consistent verdicts and flip rate against the true gap, and the reliability of the probabilities."""
    figure, (accuracy, flips, reliable) = plt.subplots(1, 3, figsize=(TEXT, 2.9), layout="constrained")
    for judge, part, style, side in judges_of(by_gap):
        points(accuracy, part.gap + side * APART, part, "consistent", label=f"judge {judge}", **style)
        points(flips, part.gap + side * APART, part, "flips", **style)
    for _, part, style, side in judges_of(controls[controls.control == NO_GAP]):
        points(flips, -0.03 + 3 * side * APART, part, "flip_rate", mfc="white", **style)
    scores = brier[brier.gap == "all"].set_index("judge").one_order
    for _, part, style, _ in judges_of(reliability):
        bars = part.rename(columns={"low": "share_low", "high": "share_high"})
        points(reliable, part.said, bars, "share", **style)
    end = by_gap.gap.max() + 0.03
    for axis, bar in ((accuracy, CLEAR_WINS), (flips, CLEAR_FLIPS)):
        axis.axvspan(CLEAR_GAP, end, color="0.95", zorder=0)
        axis.plot([CLEAR_GAP, end], [bar, bar], color=GREEN, linewidth=1.2, linestyle="--", label="gate, clear gap")
        axis.set(xlim=(-0.06, end), xlabel="true gap (difference in view error)")
    accuracy.axhline(CHANCE, color="black", linewidth=0.8, linestyle=":", label="chance; calibrated")
    accuracy.plot([], [], "o", color=GRAY, mfc="white", markersize=4, label="no gap: same damage, redrawn")
    accuracy.set(ylabel="right, of consistent verdicts", ylim=(min(CHANCE, by_gap.consistent_low.min()) - 0.02, 1.02))
    flips.set(ylabel="pairs that flip", ylim=(-0.02, max(0.42, by_gap.flips_high.max() + 0.02)))
    reliable.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    text = "\n".join(["Brier score", *(f"{judge}: {score:.3f}" for judge, score in scores.items())])
    reliable.text(0.03, 0.98, text, va="top", transform=reliable.transAxes)
    reliable.set(xlabel="probability given to the first shown", ylabel="first is truly better")
    reliable.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    middle = (CLEAR_GAP + end) / 2
    accuracy.annotate("clear gap", (middle, 0.02), xycoords=("data", "axes fraction"), ha="center", color="0.4")
    flips.annotate("clear gap", (middle, 0.94), xycoords=("data", "axes fraction"), ha="center", color="0.4")
    for axis, letter in zip((accuracy, flips, reliable), "abc", strict=True):
        axis.set_title(letter, loc="left", weight="bold")
    names = sorted(zip(*accuracy.get_legend_handles_labels(), strict=True), key=lambda one: "judge" not in one[1])
    figure.legend(*zip(*names, strict=True), loc="outside lower center", ncols=5, columnspacing=1.2)
    return figure


def agreement(table: pd.DataFrame) -> Figure:
    """How often both judges agree, by gap, beside what their accuracies alone would give."""
    rows = table[table.gap != ALL]
    figure, axis = plt.subplots(figsize=(COLUMN, 2.9), layout="constrained")
    place = np.arange(len(rows))
    points(axis, place, rows, "agreement", line="", label="X and Y agree", color=BLUE, marker="o")
    axis.plot(place, rows.independent, "_", color=ORANGE, markersize=10, mew=2, label="if they erred independently")
    axis.axhline(CHANCE, color="black", linewidth=0.8, linestyle=":", label="chance")
    labels = [name.replace(", ", "\n").replace(" to ", "\n–") for name in rows.gap]
    axis.set_xticks(place, labels, fontsize=7)
    axis.set(ylim=(0, 1.03), xlabel="true gap", ylabel="agreement, where both decide")
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1)
    return figure


def options(table: pd.DataFrame) -> Figure:
    """`options_table`, all gaps: a row for each way of asking and of reading."""
    rows = table[table.gap == "all"]
    ways = rows[["way", "reading"]].drop_duplicates()
    titles = {"decided": "pairs with a verdict", "right": "right, of these", "change": "change of the score"}
    figure, axes = plt.subplots(1, len(titles), figsize=(TEXT, 0.25 * len(ways) + 1), sharey=True, layout="constrained")
    for judge, part, style, side in judges_of(rows):
        for axis, name in zip(axes, titles, strict=True):
            across(axis, np.arange(len(part)) + 0.13 * side, part, name, label=f"judge {judge}", **style)
    for axis, title in zip(axes, titles.values(), strict=True):
        axis.set_xlabel(title)
    axes[-1].axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes[0].set_yticks(range(len(ways)), ways.way + ", " + ways.reading)
    axes[0].set(ylim=(len(ways) - 0.5, -0.5))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
