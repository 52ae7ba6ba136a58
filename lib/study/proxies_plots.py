"""Notebook 07's figures: the candidates as the rig shows them, and every proxy's agreement with judge Y."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.stats.intervals import CONFIDENCE
from lib.study.plots import BLUE, GRAY, ORANGE, TEXT
from lib.study.proxies import ROLES, SUBGROUPS, Measured
from lib.study.proxy_agreement import ALL, NULL, TIES


def forest(table: pd.DataFrame, confidence: float = CONFIDENCE) -> Figure:
    """A panel a subgroup, a row a proxy of `agreement`: agreement with judge Y, with the truth, and as printed."""
    groups, proxies = (ALL, *SUBGROUPS), list(dict.fromkeys(table.proxy))
    figure, axes = plt.subplots(
        1, len(groups), figsize=(TEXT, 0.27 * len(proxies) + 1.3), sharey=True, layout="constrained"
    )
    for axis, group in zip(axes, groups, strict=True):
        rows = table[table.subgroup == group].set_index("proxy").loc[proxies]
        _panel(axis, rows, confidence)
        axis.set_title(_two_lines(group), fontsize=7)
    axes[0].set(yticks=range(len(proxies)), yticklabels=[name.replace("_", " ") for name in proxies])
    axes[0].set_ylim(len(proxies) - 0.4, -0.6)
    axes[len(groups) // 2].set_xlabel("agreement")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    return figure


def _panel(axis, rows: pd.DataFrame, confidence: float):
    place = np.arange(len(rows))
    axis.axvline(0.5, color="black", linewidth=0.8, linestyle=":", label="chance")
    looks = {f"with judge Y, {confidence:.0%} over objects": (rows["reads"] != NULL, BLUE)}
    looks["the same, chance inside"] = (rows["reads"] == NULL, GRAY)
    for label, (chosen, color) in looks.items():
        some = chosen & (rows["reads"] != TIES)
        part = rows[some]
        reach = np.array([part.agreement - part.low, part.high - part.agreement])
        style = {"linestyle": "", "marker": "o", "markersize": 4, "color": color}
        axis.errorbar(part.agreement, place[some], xerr=reach, label=label, **style)
    for row in place[rows["reads"] == TIES]:
        axis.text(0.5, row, "only ties", ha="center", va="center", fontsize=7, color=GRAY, backgroundcolor="white")
    prefers = rows["reads"] != TIES
    axis.plot(
        rows.truth[prefers], place[prefers] + 0.28, "d", mfc="none", mec="black", markersize=4, label="with the truth"
    )
    axis.plot(rows.printed, place - 0.28, "s", color=ORANGE, markersize=3, label="printed by the companion")
    axis.set(xlim=(-0.04, 1.04), xticks=[0, 0.5, 1], xticklabels=["0", ".5", "1"])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def _two_lines(text: str) -> str:
    """Broken at the space nearest to the middle."""
    spaces = [index for index, letter in enumerate(text) if letter == " "]
    middle = min(spaces, key=lambda index: abs(index - len(text) / 2), default=None)
    return text if middle is None else f"{text[:middle]}\n{text[middle + 1 :]}"


def rig(measured: Sequence[Sequence[Measured]], layout: str = "turntable24") -> Figure:
    """A row an object, a column a role: the candidates as the judges see them."""
    figure, axes = plt.subplots(
        len(measured),
        len(ROLES),
        figsize=(TEXT, TEXT / len(ROLES) * len(measured) + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for axis, role in zip(axes[0], ROLES, strict=True):
        axis.set_title(role)
    for row, item in zip(axes, measured, strict=True):
        for axis, one in zip(row, item, strict=True):
            axis.imshow(one.candidate.images[layout][0])
            axis.set(xticks=[], yticks=[], xlabel=one.kind.replace("_", " "))
            axis.spines[:].set(visible=True, color="0.85")
    return figure
