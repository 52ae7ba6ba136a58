"""What a number of objects can show: exact power over the number, and over the true win-rate at two numbers."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib.stats.power import ALPHA, needed_n, power_above
from lib.study.plots import BLUE, COLUMN, GREEN, ORANGE
from lib.study.published import CHANCE, POWER, TARGET

LOOKS = ({"color": ORANGE, "marker": "s"}, {"color": BLUE, "marker": "o"}, {"color": GREEN, "marker": "d"})


def power(sizes: Mapping[str, int]) -> Figure:
    """Power of the exact one-sided test of 0.5: (a) against a true 0.65 over n, (b) at each of `sizes` over the truth.

    sizes: number of objects by what has them, at most three.
    """
    figure, (over_n, over_truth) = plt.subplots(2, figsize=(COLUMN, 4.6), sharey=True, layout="constrained")
    first, kept = needed_n(power_above, POWER, truth=TARGET, null=CHANCE, alpha=ALPHA)
    objects = np.arange(1, max(kept, *sizes.values()) + 20)
    over_n.plot(objects, power_above(objects, TARGET, CHANCE, ALPHA), color="0.55", linewidth=0.9)
    truths = np.linspace(CHANCE, 1, 201)
    for (name, n), look in zip(sizes.items(), LOOKS, strict=False):
        there = float(power_above(n, TARGET, CHANCE, ALPHA))
        over_n.plot(n, there, ms=6, mec="black", linestyle="", **look)
        side = {"xytext": (8, -13), "ha": "left"} if n < first else {"xytext": (0, 9), "ha": "center"}
        over_n.annotate(f"{name}, n = {n}: {there:.2f}", (n, there), textcoords="offset points", fontsize=7, **side)
        over_truth.plot(truths, power_above(n, truths, CHANCE, ALPHA), color=look["color"], label=f"{name}, n = {n}")
        over_truth.plot(TARGET, there, ms=6, mec="black", linestyle="", **look)
    over_n.annotate(
        f"{POWER:.0%} first at n = {first},\nfor good from {kept}",
        (kept, POWER),
        (-4, -44),
        textcoords="offset points",
        ha="left",
        fontsize=7,
        arrowprops={"arrowstyle": "-", "color": "black", "linewidth": 0.6, "relpos": (0.2, 1)},
    )
    over_n.set(xlabel="objects, one verdict each", xlim=(0, objects[-1]), ylim=(-0.03, 1.12))
    over_n.set_title(f"a  true win-rate {TARGET:g}", loc="left")
    over_truth.axvline(TARGET, color="black", linewidth=0.8, linestyle="--")
    over_truth.set(xlabel="true win-rate (dashed: the target)", xlim=(CHANCE, 1))
    over_truth.set_title("b  both sizes, any win-rate", loc="left")
    over_truth.legend(loc="lower right")
    for axis in (over_n, over_truth):
        axis.axhline(POWER, color="black", linewidth=0.8, linestyle=":")
        axis.set(ylabel=f"power at {ALPHA:.0%}", yticks=np.linspace(0, 1, 6))
    return figure
