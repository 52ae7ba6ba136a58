"""One object's samples, drawn in a worker process: what is kept of each, and how far it is from the truth."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import trimesh
from PIL import Image

from lib.adapters.apply import adapted
from lib.data.compare import mesh_error
from lib.data.objects import Object
from lib.errors import BadInput
from lib.generator.examine import largest_share, surface_of
from lib.generator.loading import generator
from lib.judges.candidates import Picture, render_candidate
from lib.placement import one_thread, release_memory
from lib.renderers.raycast import scene
from lib.study.subjects import truth
from lib.study.tables import replacing
from lib.study.validity import validity
from lib.trellis.pipeline import Pipeline, Sample

MONTAGE, WITH_PHOTO = "montage", "montage_ref"  # the same picture of a candidate, without and with the photo before it


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sample's mesh, None where it is empty, and its latents: voxels (T,3), structured (T,C), structure (C,n,n,n)."""

    mesh: trimesh.Trimesh | None
    voxels: np.ndarray
    slat: np.ndarray
    structure: np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """One sample to draw. budget: as `Pipeline.sample` takes it; adapter: its folder; file: where to keep it."""

    photo: Image.Image
    seed: int
    budget: dict
    adapter: Path | None
    scale: float
    file: Path


def draw(folder: Path, weights: str, item: Object, tasks: Sequence[Task], tile: int, fill_interior: bool) -> list[dict]:
    """Draws samples of one object with the generator in `folder`, keeps them, and measures them.

    What comes back of each: montage (digest of the judge's picture), f_score, chamfer, view (`mesh_error` against
    `truth`), share (of the largest component in the area), validity (the four features of `lib.study.validity`),
    seconds. A sample without a structure or a surface is the worst possible.
    """
    one_thread()
    pipeline, surface, structures, done = generator(folder, weights), truth(item), {}, []
    for task in tasks:
        started = perf_counter()
        sample = _sample(pipeline, task, fill_interior, structures)
        mesh = surface_of(sample)
        seconds = round(perf_counter() - started, 2)
        (montage,) = pictures(mesh, tile)
        _keep(task.file, sample, mesh, montage)
        done.append({"montage": Picture(montage).digest, **measures(surface, mesh), "seconds": seconds})
    scene.cache_clear()
    gc.collect()
    release_memory()  # joblib ends a worker that has grown, and the next one begins by loading everything
    return done


def measures(surface: trimesh.Trimesh, mesh: trimesh.Trimesh | None) -> dict:
    """How far a mesh is from the true surface, and how sound it is."""
    if mesh is None:
        return {"f_score": 0.0, "chamfer": 1.0, "view": 1.0, "share": 0.0, "validity": [0.0] * 4}
    error, sound = mesh_error(surface, mesh), validity(mesh)
    features = (sound.watertight, sound.manifold, sound.non_self_intersecting, sound.normal_consistency)
    values = {"f_score": error.f_score, "chamfer": error.chamfer, "view": error.view, "share": largest_share(mesh)}
    return {name: round(value, 6) for name, value in values.items()} | {"validity": [round(x, 4) for x in features]}


def pictures(mesh: trimesh.Trimesh | None, tile: int, layout: str = MONTAGE) -> Sequence[np.ndarray]:
    """What a judge sees of a mesh; of nothing it sees white."""
    if mesh is None:
        return (np.full((2 * tile, 2 * tile, 3), 255, np.uint8),)
    return render_candidate("sample", mesh, tile, [layout]).images[layout]


def read(file: Path) -> Drawn:
    """Raises FileNotFoundError where the sample is not kept."""
    with np.load(file) as kept:
        vertices, faces, colors = (kept[name] for name in ("vertices", "faces", "colors"))
        mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False) if len(faces) else None
        return Drawn(mesh, *(kept[name] for name in ("voxels", "slat", "structure")))


def shown(file: Path, tile: int, layout: str) -> Sequence[np.ndarray]:
    """`pictures` of a sample that is kept: its montage is kept beside it, for any other layout its mesh is rendered."""
    if layout not in (MONTAGE, WITH_PHOTO):
        return pictures(read(file).mesh, tile, layout)
    with np.load(file) as kept:
        return (kept["montage"],)


def _sample(pipeline: Pipeline, task: Task, fill_interior: bool, structures: dict) -> Sample | None:
    shared = {"fill_interior": fill_interior, "structures": structures}
    arguments = {"formats": ("mesh",), "trajectory": True, **shared, **task.budget}
    with adapted(pipeline, task.adapter, task.scale) as used:
        try:
            return used.sample(task.photo, task.seed, **arguments)[0]
        except BadInput:  # an empty structure
            return None


def _keep(file: Path, sample: Sample | None, mesh: trimesh.Trimesh | None, montage: np.ndarray):
    arrays = dict.fromkeys(("vertices", "faces", "colors", "voxels", "slat", "structure"), np.empty((0, 3)))
    arrays["montage"] = montage
    if sample is not None:
        latents = (sample.latent.coords[:, 1:], sample.latent.feats, sample.structure_trajectory[-1])
        arrays |= dict(zip(("voxels", "slat", "structure"), (x.cpu().numpy() for x in latents), strict=True))
    if mesh is not None:
        vertices, faces = np.float32(mesh.vertices), np.int32(mesh.faces)  # as they were extracted
        arrays |= {"vertices": vertices, "faces": faces, "colors": mesh.visual.vertex_colors}
    with replacing(file) as partial, ZipFile(partial, "w", ZIP_DEFLATED, compresslevel=1) as kept:
        for name, array in arrays.items():  # as np.savez_compressed, whose level takes three times as long
            with kept.open(f"{name}.npy", "w") as opened:
                np.lib.format.write_array(opened, np.asarray(array))
