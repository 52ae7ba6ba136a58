"""Notebook 01's walk through the generator: one photo, what every stage makes of it, and what that looks like."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import trimesh
from PIL import Image

from lib.generator.figures import view
from lib.generator.loading import generator
from lib.renderers.cameras import Camera
from lib.renderers.montage import judge_montage, splat_montage
from lib.study.samples import Sampler
from lib.trellis.conditioning import prepare_photo
from lib.trellis.export import to_trimesh
from lib.trellis.pipeline import Pipeline, Sample

MOMENTS = (0.0, 0.4, 0.7, 1.0)  # of a flow's run, as shares of its steps
SIDE = Camera(30, 20, fov=22.0)  # furniture is smaller than the ball that the default camera holds


@dataclass(frozen=True, eq=False)
class Walk:
    """What one photo became. table: each stage's tensors; rows: name of a row of pictures -> (title, uint8 image)."""

    table: pd.DataFrame
    rows: dict[str, list[tuple[str, np.ndarray]]]


def walk(sampler: Sampler, photo: Image.Image, seed: int) -> Walk:
    """The photo through condition, structure, structured latents, and both decoders, as the study samples.

    Columns of the table: stage, tensor, shape. Rows of pictures: the photo and its prepared form; structure and latents
    from noise to data (latents as the three colors of most variance); mesh and Gaussians. Raises BadInput where the
    structure is empty.
    """
    settings, size = sampler.settings, sampler.settings.picture
    pipeline = generator(sampler.folder, sampler.weights)
    (sample,) = pipeline.sample(photo, seed, trajectory=True, fill_interior=settings.fill_interior)
    side = pipeline.models["slat_flow_model"].resolution
    condition, mesh = pipeline.encode([photo]), to_trimesh(sample.mesh)
    prepared = np.asarray(prepare_photo(photo, pipeline.conditioner.image_size))
    rows = {
        "photo": [("given", np.asarray(photo)), ("cropped, on black", prepared)],
        "structure": [
            (title, _voxels(cells, side, np.full(3, 170), size)) for title, cells in _structures(pipeline, sample, seed)
        ],
        "latents": _latents(pipeline, sample, seed, side, size),
        "mesh": [("shaded", view(mesh, SIDE, size)), ("normals", judge_montage(mesh, size // 2))],
        "Gaussians": [("the judge's views", splat_montage(sample.gaussians, size // 2))],
    }
    stages = [
        ("condition", "tokens of the photo (photo, token, channel)", condition),
        ("stage 1: structure", "latent of the occupancy (channel, x, y, z)", sample.structure_trajectory[-1]),
        ("structure decoder", "occupied voxels, each (x, y, z)", sample.latent.coords[:, 1:]),
        ("stage 2: structured latents", "latents of the voxels", sample.latent.feats),
        ("mesh decoder, FlexiCubes", "vertices", sample.mesh.vertices),
        ("mesh decoder, FlexiCubes", "faces", sample.mesh.faces),
        ("mesh decoder, FlexiCubes", "color and normal of each vertex", sample.mesh.attributes),
        ("Gaussian decoder", "means of the Gaussians", sample.gaussians.means),
    ]
    table = pd.DataFrame([(stage, what, tuple(x.shape)) for stage, what, x in stages])
    return Walk(table.set_axis(["stage", "tensor", "shape"], axis=1), rows)


def _moments(steps: int) -> list[int]:
    """How many steps are done at each of the MOMENTS."""
    return [round(share * steps) for share in MOMENTS]


@torch.no_grad()
def _structures(pipeline: Pipeline, sample: Sample, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """The voxels that the decoder sees in the noise and in the latent after some of the steps."""
    path = [pipeline.structure_noise([seed])[0], *sample.structure_trajectory]
    for step in _moments(len(path) - 1):
        occupied = pipeline.models["sparse_structure_decoder"](path[step][None])[0, 0] > 0
        yield f"after {step} steps", occupied.nonzero().cpu().numpy()


def _latents(pipeline: Pipeline, sample: Sample, seed: int, side: int, size: int) -> list[tuple[str, np.ndarray]]:
    path = [pipeline.slat_noise([seed], sample.latent.coords), *sample.slat_trajectory]
    path = [feats.cpu().numpy() for feats in path]
    _, _, axes = np.linalg.svd(path[-1] - path[-1].mean(0), full_matrices=False)
    shown = [feats @ axes[:3].T for feats in path]
    low, high = np.percentile(shown[-1], [2, 98], axis=0)
    cells = sample.latent.coords[:, 1:].cpu().numpy()
    return [
        (f"after {step} steps", _voxels(cells, side, 255 * np.clip((shown[step] - low) / (high - low), 0, 1), size))
        for step in _moments(len(path) - 1)
    ]


def _voxels(cells: np.ndarray, side: int, colors: np.ndarray, size: int) -> np.ndarray:
    """Cells (T,3) of a grid of side^3 as cubes in colors (T,3) or (3,), 0 to 255."""
    if not len(cells):
        return np.full((size, size, 3), 255, np.uint8)
    cube = trimesh.creation.box([1 / side] * 3)
    vertices = ((cells[:, None] + 0.5) / side - 0.5 + cube.vertices).reshape(-1, 3)
    faces = (cube.faces + len(cube.vertices) * np.arange(len(cells))[:, None, None]).reshape(-1, 3)
    each = np.repeat(np.broadcast_to(colors, (len(cells), 3)), len(cube.vertices), axis=0)
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=each.astype(np.uint8), process=False)
    return view(mesh, SIDE, size)
