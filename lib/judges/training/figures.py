"""Pictures of the training: curves, and what was reached beside the bars."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

SMOOTH = 10  # points of a curve averaged
TOLD = ["answer", "read-out", "damage"]
SHOWN = {"tower": ["appearance", "damage", "quality", "reference"], "language": TOLD, "together": TOLD}


def curves(table: pd.DataFrame) -> Figure:
    """Losses of the stages that were trained against minutes, one panel a stage and a judge."""
    judges, stages = list(table.judge.unique()), [stage for stage in SHOWN if stage in set(table.stage)]
    figure, axes = plt.subplots(
        len(judges), len(stages), figsize=(7, 2.2 * len(judges)), squeeze=False, layout="constrained"
    )
    for row, judge in zip(axes, judges, strict=True):
        for axis, stage in zip(row, stages, strict=True):
            part = table[(table.judge == judge) & (table.stage == stage)]
            smooth = part[SHOWN[stage]].rolling(SMOOTH, min_periods=1).mean()
            for loss in smooth:
                axis.plot(part.seconds / 60, smooth[loss], label=loss, lw=1)
            axis.set(title=f"{judge}, {stage}", xlabel="minutes", yscale="log")
            axis.legend(fontsize=6)
        row[0].set_ylabel("loss")
    return figure


def reached(table: pd.DataFrame) -> Figure:
    """Raw accuracy with its interval in every case that has a right answer, one color a judge."""
    table = table[table.case != "identical images"]
    labels = list(dict.fromkeys(table.layout + ": " + table.case))
    figure, axis = plt.subplots(figsize=(7, 0.24 * len(labels) + 0.6), layout="constrained")
    for offset, (judge, part) in enumerate(table.groupby("judge")):
        at = [labels.index(name) + 0.25 * offset for name in part.layout + ": " + part.case]
        axis.errorbar(part.raw, at, xerr=[part.raw - part.low, part.high - part.raw], fmt="o", ms=3, lw=1, label=judge)
    axis.axvline(0.5, color="0.7", lw=0.8, zorder=0)
    axis.set(yticks=range(len(labels)), yticklabels=labels, xlabel="raw accuracy over both orders", xlim=(0, 1.02))
    axis.tick_params(axis="y", labelsize=6)
    axis.invert_yaxis()
    axis.legend(loc="lower left")
    return figure
