"""Every claim and its verdict at a glance."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.study.claims import FAILS, HOLDS, OPEN
from lib.study.plots import BLUE, GRAY, ORANGE, TEXT

LOOKS = {
    HOLDS: {"marker": "o", "color": BLUE},
    OPEN: {"marker": "_", "color": GRAY},
    FAILS: {"marker": "X", "color": ORANGE},
}
SMALL = {"va": "center", "fontsize": 6}


def verdicts(table: pd.DataFrame) -> Figure:
    """A row a claim of `claims_table`: what it says, its verdict as a mark in one of three columns, both numbers."""
    figure, (axis, printed, measured) = plt.subplots(
        1, 3, figsize=(TEXT, 0.19 * len(table) + 0.6), width_ratios=(1.1, 1.2, 1), sharey=True, layout="constrained"
    )
    for column, (verdict, look) in enumerate(LOOKS.items()):
        rows = table.index[table.verdict == verdict]
        axis.plot([column] * len(rows), rows, linestyle="", markersize=5, mew=1.5, **look)
    axis.set_xticks(range(len(LOOKS)), [name.replace(" ", "\n") for name in LOOKS], fontsize=6)
    axis.xaxis.tick_top()
    axis.set(xlim=(-0.5, len(LOOKS) - 0.5), ylim=(len(table) - 0.5, -0.5))
    axis.set_yticks(range(len(table)), table.claim, fontsize=6)
    axis.hlines([place - 0.5 for place in range(len(table) + 1)], -0.5, len(LOOKS) - 0.5, color="0.9", linewidth=0.5)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for place, one in enumerate(table.itertuples()):
        printed.text(0, place, one.printed, **SMALL)
        if pd.notna(one.measured):
            measured.text(0, place, f"{one.measured:.2f} [{one.low:.2f}, {one.high:.2f}]", **SMALL)
    for side, title in ((printed, "printed"), (measured, "measured here")):
        side.set_title(title, loc="left", fontsize=7)
        side.axis("off")
    return figure
