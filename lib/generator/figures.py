"""Pictures of the generator: its training curves, and a gallery of what it makes of clean and of bad photos."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import trimesh
from matplotlib.figure import Figure
from PIL import Image

from lib.generator.examine import FRONT, Examined
from lib.renderers.cameras import Camera
from lib.renderers.raycast import render, shaded_images

SMOOTH = 10  # points of a curve averaged
SHOWN = {  # stage -> losses drawn; what only some steps measure is drawn with dots
    "conditioner": ["occupancy", "color", "seen", "IoU, held out"],
    "structure_vae": ["loss", "IoU, held out"],
    "structure_flow": ["loss", "loss, held out", "IoU"],
    "slat_vae": ["distance", "color", "sign", "color, held out", "sign, held out"],
    "mesh_decoder": ["distance", "color", "sign", "color, held out", "sign, held out"],
    "gaussians": ["distance", "color", "image", "image, held out"],
    "slat_flow": ["loss", "loss, held out"],
}
CLOSE = 22.0  # degrees of view: furniture is smaller than the ball that the default camera holds
COLUMNS = "photo", "generated mesh", "from behind", "severe photo", "generated mesh", "true object"


def curves(table: pd.DataFrame) -> Figure:
    """Losses against minutes of training, one panel a stage."""
    stages = [stage for stage in SHOWN if stage in set(table.stage)]
    figure, axes = plt.subplots(-(-len(stages) // 2), 2, figsize=(7, 1.1 * len(stages)), layout="constrained")
    for axis, stage in zip(axes.flat, stages, strict=False):
        part = table[table.stage == stage]
        for name in (name for name in SHOWN[stage] if name in part and part[name].notna().any()):
            here = part[["seconds", name]].dropna()
            sparse = len(here) < len(part)
            values = here[name] if sparse else here[name].rolling(SMOOTH, min_periods=1).mean()
            axis.plot(here.seconds / 60, values, marker="." if sparse else "", ms=3, lw=1, label=name)
        axis.set(title=stage.replace("_", " "), xlabel="minutes", yscale="log")
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=6)
    for axis in axes.flat[len(stages) :]:
        axis.remove()
    return figure


def severities(curve: pd.DataFrame, named: dict[str, float]) -> Figure:
    """`severity_curve`: loss against severity, another object's photo as a band, the named severities as lines."""
    figure, axis = plt.subplots(figsize=(3.4, 2.4), layout="constrained")
    *_, other = curve.itertuples()
    part = curve[curve.severity != other.severity]
    at = part.severity.astype(float)
    axis.fill_between(at, part.low, part.high, alpha=0.25)
    axis.plot(at, part.loss, marker="o", ms=3)
    axis.axhspan(other.low, other.high, color="0.85", zorder=0)
    axis.text(0, other.loss, "photo of another object", va="center", fontsize=7)
    for name, severity in named.items():
        axis.axvline(severity, color="black", lw=0.8, ls=":")
        axis.text(severity, 0.01, name, rotation=90, fontsize=7, ha="right", transform=axis.get_xaxis_transform())
    axis.set(xlabel="severity of the photo's degradation", ylabel="loss (1 - F-score at 2%)")
    return figure


def gallery(examined: Sequence[Examined], true: Sequence[trimesh.Trimesh], size: int) -> Figure:
    """A row an object: photo, generated mesh from its side and from behind, severe photo, its mesh, the true object."""
    azimuth, elevation = FRONT
    front, back = (Camera(azimuth + turn, elevation, fov=CLOSE) for turn in (0, 180))
    inch = 7 / len(COLUMNS)
    figure, axes = plt.subplots(
        len(examined), len(COLUMNS), figsize=(7, inch * len(examined) + 0.2), squeeze=False, layout="constrained"
    )
    for row, one, mesh in zip(axes, examined, true, strict=True):
        clean, severe = one.meshes["clean"], one.meshes["severe"]
        photos = {name: on_white(one.photos[name].resize((size, size))) for name in ("clean", "severe")}
        views = [(clean, front), (clean, back), (severe, front), (mesh, front)]
        first, behind, bad, truth = (view(seen, camera, size) for seen, camera in views)
        pictures = photos["clean"], first, behind, photos["severe"], bad, truth
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(name, fontsize=7)
    return figure


def view(mesh: trimesh.Trimesh | None, camera: Camera, size: int) -> np.ndarray:
    """(size,size,3) uint8 on white; white where nothing was generated."""
    if mesh is None:
        return np.full((size, size, 3), 255, np.uint8)
    return on_white(Image.fromarray(shaded_images(render(mesh, [camera], 2 * size))[0]).resize((size, size)))


def on_white(photo: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", photo.size, "white")
    return np.asarray(Image.alpha_composite(white, photo).convert("RGB"))
