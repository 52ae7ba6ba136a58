"""Notebook 01's pictures: photos under degradation, damage as normals and as splats, every kind of damage."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.data.corrupt import CORRUPTIONS, Corruption, corrupt
from lib.data.datasets import UNKNOWN
from lib.data.degrade import SEVERITIES, degrade
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.profiles import Profile
from lib.renderers.montage import judge_montage
from lib.study.plots import COLUMN, TEXT
from lib.study.protocol import montages


def photo_gallery(objects: list[Object], settings: Profile) -> Figure:
    """A row per object: its photo clean and at each named severity of all degradations together."""
    rows = []
    for index, item in enumerate(objects):
        photo = render_photo(item.mesh, settings.picture)
        rows.append([photo] + [degrade(photo, name, settings.seed + index) for name in SEVERITIES])
    return _gallery(rows, ["clean", *SEVERITIES], [_name(item) for item in objects])


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
