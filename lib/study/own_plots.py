"""Notebook 10's picture: the first few objects, both montages, both answers."""

from math import isnan

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.study.own import Shown
from lib.study.plots import BLUE, GRAY, ORANGE, PURPLE, TEXT

LOOK = {
    "win": ("A preferred", BLUE),
    "loss": ("B preferred", ORANGE),
    "flip": ("flip", GRAY),
    "abstention": ("no answer", PURPLE),
}


def answers_of(row: pd.Series) -> dict[str, str]:
    """What the judge said of a pair, in words, by which candidate was shown first: A, B."""
    said = {}
    for first, second, p in (("A", "B", row.p_ab), ("B", "A", row.p_ba)):
        named = "names neither" if isnan(p) else f"{first if p >= 0.5 else second}, p({first}) = {p:.2f}"
        said[first] = f"{first} first: {named}"
    return said


def pairs(answers: pd.DataFrame, shown: list[Shown], statement: str) -> Figure:
    """A column per object: its photo where there is one, A's montage, B's, and what the judge said with each first."""
    rows = ["photo", "A", "B"] if shown[0].photo is not None else ["A", "B"]
    side = TEXT / max(len(shown), 3)
    figure, axes = plt.subplots(
        len(rows), len(shown), figsize=(TEXT, (side + 0.25) * len(rows) + 0.6), squeeze=False, layout="constrained"
    )
    for column, one, (_, row) in zip(axes.T, shown, answers.iterrows(), strict=False):
        verdict, color = LOOK[row.verdict]
        column[0].set_title(f"{_short(one.object)}\n{verdict}", color=color, parse_math=False)
        images = dict(zip(rows, [image for image in (one.photo, one.a, one.b) if image is not None], strict=True))
        for axis, (name, image) in zip(column, images.items(), strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[], xlabel=answers_of(row).get(name, ""))
            axis.spines[:].set(visible=True, color=color, linewidth=1.5)
    for axis, name in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(name)
    figure.suptitle(statement, fontsize=8, wrap=True)
    return figure


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
