"""Notebook 01's pictures: photos under degradation, damage as normals and as splats, one pair to the verdict."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.data.corrupt import CORRUPTIONS, Corruption, corrupt
from lib.data.datasets import UNKNOWN
from lib.data.degrade import SEVERITIES, degrade
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.judges.candidates import ORDERS, Candidate, Pair, Question
from lib.judges.prompts import LABELS, LAYOUTS
from lib.judges.verdicts import Answer, Verdict
from lib.profiles import Profile
from lib.renderers.montage import judge_montage
from lib.stats.estimands import ABSTENTION
from lib.study.plots import BLUE, COLUMN, GRAY, ORANGE, TEXT
from lib.study.protocol import montages
from lib.study.walk import Walk


def photo_gallery(objects: list[Object], settings: Profile) -> Figure:
    """A row per object: its photo clean and at each named severity of all degradations together."""
    rows = []
    for index, item in enumerate(objects):
        photo = render_photo(item.mesh, settings.picture)
        rows.append([photo] + [degrade(photo, name, settings.seed + index) for name in SEVERITIES])
    return _gallery(rows, ["clean", *SEVERITIES], [_name(item) for item in objects])


def walk_figure(walked: Walk) -> Figure:
    """The stages of `lib.study.walk`, two rows of pictures: photo and structure, latents and what is decoded."""
    rows = walked.rows
    lines = [("photo", "structure"), ("latents", "mesh", "Gaussians")]
    pictures = [[(name, *one) for name in line for one in rows[name]] for line in lines]
    columns = max(map(len, pictures))
    figure, axes = plt.subplots(2, columns, figsize=(TEXT, 2 * TEXT / columns + 0.8), layout="constrained")
    for row, images in zip(axes, pictures, strict=True):
        for axis, (name, title, image) in zip(row, images, strict=False):
            _picture(axis, image, f"{name}\n{title}")
        for axis in row[len(images) :]:
            axis.remove()
    return figure


def rendering_gallery(damaged: list[tuple[Object, Corruption]], settings: Profile) -> Figure:
    """A row per corrupted object: normal montage and splat montage, intact and corrupted."""
    rows = []
    for item, corruption in damaged:
        pairs = [
            montages(mesh, settings, settings.picture // 2, settings.seed) for mesh in (item.mesh, corruption.mesh)
        ]
        rows.append([pair[which] for which in (0, 1) for pair in pairs])
    kind = damaged[0][1].kind
    columns = ["normals, intact", f"normals, {kind}", "splats, intact", f"splats, {kind}"]
    return _gallery(rows, columns, [_name(item) for item, _ in damaged])


def corruption_gallery(item: Object, settings: Profile, severities=(0.25, 0.5, 1.0)) -> Figure:
    """A row per severity, a column per kind of corruption, as normal montages of one object."""
    rows = [
        [
            judge_montage(corrupt(item.mesh, kind, severity, settings.seed).mesh, settings.picture // 2)
            for kind in CORRUPTIONS
        ]
        for severity in severities
    ]
    return _gallery(rows, list(CORRUPTIONS), [f"severity {severity:g}" for severity in severities])


def visibility(table: pd.DataFrame) -> Figure:
    """What `damage_table` found: visible damage in either rendering by kind, a dot an object and the mean as a bar."""
    figure, axis = plt.subplots(figsize=(COLUMN, 2.8), layout="constrained")
    names = {"seen_in_normals": "normal montage", "seen_in_splats": "splat montage"}
    long = table.rename(columns=names).melt(["object", "kind"], list(names.values()), "rendering", "visible")
    look = {"data": long, "y": "kind", "x": "visible", "hue": "rendering", "ax": axis}
    sns.barplot(**look, errorbar=None, alpha=0.6)
    sns.stripplot(**look, dodge=True, jitter=False, size=3, legend=False)
    axis.set(xlabel="mean change of the drawn pixels", ylabel="", xlim=(0, None))
    axis.legend(title=None, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


def verdict_figure(
    item: Object, corruption: Corruption, pair: Pair, verdicts: dict[str, Verdict], settings: Profile
) -> Figure:
    """One pair to the verdict: its pictures drawn large; below, each order as a judge sees it with every judge's
    answer, and what the two answers make. A candidate keeps its color wherever it is shown."""
    meshes, side = (item.mesh, corruption.mesh), settings.picture // 2
    large = [montages(mesh, settings, side, settings.seed) for mesh in meshes]
    kinds = {pair.a: pair.a.facts["kind"], pair.b: pair.b.facts["kind"].replace("_", " ")}
    figure = plt.figure(figsize=(TEXT, 5.9), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.06)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.7, 3.6, 0.6])
    axes = top.subplots(1, 5)
    _picture(axes[0], pair.photo, "the object's photo\n(no part of a montage)")
    for index, (candidate, kind) in enumerate(kinds.items()):
        for axis, image, name in zip(axes[1 + index :: 2], large[index], ("normals", "splats"), strict=True):
            _picture(axis, image, f"{name} of\nthe {kind} mesh", _color(pair, candidate))
    rows = middle.subplots(2, 2 + len(verdicts), width_ratios=[1, 1] + [1.6] * len(verdicts))
    for row, order in zip(rows, ORDERS, strict=True):
        shown = Question(pair, LAYOUTS["montage"], order).candidates
        for axis, candidate, label in zip(row, shown, LABELS, strict=False):
            (picture,) = candidate.pictures(LAYOUTS["montage"])
            _picture(axis, picture.pixels, f"image {label}", _color(pair, candidate))
        row[0].set_ylabel(f"order {order}", fontsize=9)
        for axis, (judge, verdict) in zip(row[2:], verdicts.items(), strict=True):
            answer = getattr(verdict, order)
            _answer(axis, answer, [_color(pair, candidate) for candidate in shown])
            pick = answer.pick
            picked = "picks neither" if pick is None else f"picks {LABELS[pick]} ({kinds[shown[pick]]})"
            axis.set_title(f"judge {judge} {picked}", fontsize=8)
    for place, (judge, verdict) in enumerate(verdicts.items()):
        bottom.text(0.01, 0.7 - 0.45 * place, f"judge {judge}: ", weight="bold", va="center", fontsize=9)
        bottom.text(0.13, 0.7 - 0.45 * place, _meaning(verdict, *kinds.values()), va="center", fontsize=9)
    return figure


def _color(pair: Pair, candidate: Candidate) -> str:
    return BLUE if candidate is pair.a else ORANGE


def _picture(axis: Axes, image, title: str, color: str = "0.85"):
    axis.imshow(image)
    axis.set_title(title, fontsize=8)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True, color=color, linewidth=2)


def _answer(axis: Axes, answer: Answer, colors: list[str]):
    """Bars of the labels' probabilities in the colors of what they stand for."""
    axis.barh(LABELS, answer.p[:2], color=colors, height=0.6)
    for place, p in enumerate(() if answer.pick is None else answer.p[:2]):
        axis.text(p + 0.02, place, f"{p:.2f}", va="center", fontsize=8)
    axis.axvline(0.5, color=GRAY, lw=0.8, ls=":")
    axis.set(xlim=(0, 1.15), xticks=[0, 0.5, 1], xlabel=f"probability (mass on labels {answer.mass:.3f})")
    axis.invert_yaxis()


def _meaning(verdict: Verdict, a: str, b: str) -> str:
    if verdict.outcome == ABSTENTION:
        return "no verdict: one of the answers names neither image"
    said = {
        "win": f"WIN of the {a} mesh: it is picked in both orders",
        "loss": f"LOSS of the {a} mesh: the {b} one is picked in both orders",
        "flip": f"FLIP: image {LABELS[verdict.ab.pick]} is picked in both orders, whatever it shows; nothing is won",
    }
    return said[verdict.outcome]


def _name(item: Object) -> str:
    """The category, or the file's name where the data set gives none."""
    return item.id.split("/")[-1] if item.category == UNKNOWN else item.category


def _gallery(rows: list[list], columns: list[str], names: list[str]) -> Figure:
    """Images in rows and columns, filling the width of the text."""
    side = TEXT / len(columns)
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(TEXT, side * len(rows) + 0.3), squeeze=False, layout="constrained"
    )
    for place, title in zip(axes[0], columns, strict=True):
        place.set_title(title.replace("_", " "))
    for row, images, name in zip(axes, rows, names, strict=True):
        row[0].set_ylabel(name)
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="0.85")
    return figure
