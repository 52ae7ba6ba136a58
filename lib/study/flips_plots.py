"""Notebook 03's figures: flips and wrong verdicts by kind of pair, and the pull of position against the gap."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import expit

from lib.study.calibration import CHANCE
from lib.study.calibration_plots import STYLES, across, judges_of, points
from lib.study.flips import GAP, POSITION, STEP
from lib.study.plots import COLUMN, TEXT


def flips_and_wrong(table: pd.DataFrame) -> Figure:
    """`flip_table`: flips and wrong verdicts, a row for each kind of pair, and below them what the papers print."""
    measured = table.source.str.startswith("judge ")
    table = table.assign(pairs=table.pairs.where(measured, "printed: " + table.pairs))
    pairs = list(table.pairs.unique())
    figure, axes = plt.subplots(
        1, 2, figsize=(TEXT, 0.24 * len(pairs) + 1), sharey=True, width_ratios=(1.2, 1), layout="constrained"
    )
    for (source, part), style, side in zip(table[measured].groupby("source"), STYLES, (-0.13, 0.13), strict=False):
        height = part.pairs.map(pairs.index) + side
        across(axes[0], height, part, "flips", label=source, **style)
        across(axes[1], height, part, "wrong", **style)
        axes[0].plot(part.independent, height, "|", color=style["color"], markersize=7, mew=1.5)
    papers = table[~measured]
    across(axes[0], papers.pairs.map(pairs.index), papers, "flips", color="black", marker="D", label="the papers")
    axes[0].plot([], [], "|", color="black", markersize=7, mew=1.5, label="if the two answers were independent")
    axes[1].axvline(CHANCE, color="black", linewidth=0.8, linestyle=":", label="chance")
    axes[0].axhline(papers.pairs.map(pairs.index).min() - 0.5, color="0.8", linewidth=0.8)
    axes[0].set_yticks(range(len(pairs)), pairs)
    axes[0].set(xlabel="pairs that flip", xlim=(-0.03, 1.03), ylim=(len(pairs) - 0.5, -0.5))
    axes[1].set(xlabel="wrong, of the consistent verdicts", xlim=(-0.03, 1.03))
    figure.legend(loc="outside lower center", ncols=5, columnspacing=1.2)
    return figure


def position(first: pd.DataFrame, model: pd.DataFrame) -> Figure:
    """`first_by_gap` with the curves of `position_model`."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.6), layout="constrained")
    gaps = np.linspace(first.gap.min(), first.gap.max(), 200)
    for judge, part, style, side in judges_of(first):
        terms = model[model.judge == judge].set_index("term").coefficient
        axis.plot(gaps, expit(terms[POSITION] + terms[GAP] * gaps / STEP), color=style["color"], linewidth=1.2)
        points(axis, part.gap + side * 0.006, part, "first", line="", label=f"judge {judge}", **style)
    axis.axhline(CHANCE, color="black", linewidth=0.8, linestyle=":")
    axis.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axis.set(xlabel="true gap of the first over the second", ylabel="first is named", ylim=(-0.03, 1.03))
    axis.legend(loc="upper left")
    return figure
