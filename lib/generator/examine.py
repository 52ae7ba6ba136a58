"""What the generator makes of one test object: everything that the evaluation needs of it, cached on disk."""

import hashlib
import resource
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from time import process_time

import numpy as np
import torch
import trimesh
from joblib import Memory, Parallel, delayed
from PIL import Image
from tqdm.auto import tqdm

from lib.data.compare import has_surface, mesh_error
from lib.data.degrade import SEVERITIES, degrade
from lib.data.photos import render_photo
from lib.data.procedural import Furniture, furniture
from lib.data.refine import refine
from lib.errors import BadInput
from lib.generator.fields import ABOVE, active_cells
from lib.generator.gaussians import lit_image
from lib.generator.loading import folder_digest, generator
from lib.generator.recipe import RESOLUTION
from lib.generator.slat import Fields
from lib.renderers.cameras import judge_views
from lib.renderers.splats import splat
from lib.trellis.checkpoints import load_model
from lib.trellis.export import to_trimesh
from lib.trellis.pipeline import Pipeline, Sample

PHOTO, FRONT = 224, (30, 20)  # pixels; azimuth and elevation of the photos, in degrees
# Budgets of the paper's contrastive pairs; the large one has the pipeline's guidance.
LARGE, SMALL = {"steps": 25}, {"steps": 2, "guidance": 0.0}
KEPT = "clean", "severe"  # runs whose meshes are kept
EDGE = 0.03  # longest edge of the true surface's faces
UNREAD = 8  # pixels of the views whose errors nobody reads
SPLATTED = 112  # pixels of the images of Gaussians
OTHERS = 1000  # the photo of another object is that of one of so many that follow


@dataclass(eq=False)
class Examined:
    """index, category; values: name -> number; meshes: those `KEPT` (None for nothing); photos."""

    index: int
    category: str
    values: dict[str, float] = field(default_factory=dict)
    meshes: dict[str, trimesh.Trimesh | None] = field(default_factory=dict)
    photos: dict[str, Image.Image] = field(default_factory=dict)
    digest: str = ""  # of the mesh made of the clean photo


def examine_all(folder: Path, indices: Sequence[int], seed: int, scratch: Path, workers: int = -1) -> list[Examined]:
    """Test objects examined with the generator in `folder`, in order; what was examined before is read from `scratch`.

    The results depend neither on `workers` nor on which other objects are examined.
    """
    weights = folder_digest(folder)
    one = Memory(scratch / "examined", verbose=0).cache(examine, ignore=["folder"])
    jobs = (delayed(one)(folder, weights, index, seed, SEVERITIES) for index in indices)
    jobs = Parallel(workers, return_as="generator")(jobs)
    return list(tqdm(jobs, desc="test objects", total=len(indices), mininterval=1))


def examine(folder: Path, weights: str, index: int, seed: int, severities: dict[str, float]) -> Examined:
    """Everything about test object `index`; F-scores are at 2% of the box's diagonal against its outer surface.

    weights: the folder's digest, part of what the result is remembered by. A sample without a structure or a surface
    has F-score, IoU and share 0.
    """
    torch.set_num_threads(1)
    pipeline, item, rng = (
        generator(folder, weights, "cpu"),
        furniture("test", index),
        np.random.default_rng([seed, index]),
    )
    result = Examined(index, item.category)
    result.values |= reconstruction(folder, weights, item)
    clean = render_photo(item.mesh, PHOTO, *FRONT)
    other = furniture("test", index + 1 + int(rng.integers(OTHERS)))
    photos = {"clean": clean} | {
        name: degrade(clean, amount, int(rng.integers(2**31))) for name, amount in severities.items()
    }
    result.photos = photos | {"other": render_photo(other.mesh, PHOTO, *FRONT)}
    first, second = (noise_seed(item.id, one) for one in (seed, seed + 1))
    runs = {name: (photo, first, {}) for name, photo in result.photos.items()}
    runs |= {"other seed": (clean, second, {}), "large": (clean, first, LARGE), "small": (clean, first, SMALL)}
    true, surface, meshes = occupied(active_cells(item)[0]), outer_surface(item), {}
    for name, (photo, draw, budget) in runs.items():
        sample = attempt(pipeline, photo, draw, **budget)
        mesh = meshes[name] = surface_of(sample)
        found = occupied(sample.latent.coords[:, 1:].numpy()) if sample else np.zeros_like(true)
        result.values[f"IoU, {name}"] = float((found & true).sum() / (found | true).sum())
        result.values[f"F, {name}"] = f_score(surface, mesh)
        result.values[f"share, {name}"] = largest_share(mesh)
    mesh = meshes["clean"]
    result.values["F between seeds"] = f_score(mesh, meshes["other seed"]) if mesh is not None else 0.0
    result.meshes = {name: mesh if mesh is None else mesh.copy() for name, mesh in meshes.items() if name in KEPT}
    result.digest = mesh_digest(mesh)
    return result


def noise_seed(name: str, seed: int) -> int:
    """The seed of an object's noise: with one noise for all objects, a seed could be luckier than another for all."""
    return int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4], "big")


def outer_surface(item: Furniture) -> trimesh.Trimesh:
    """The object's mesh without what lies inside: its primitives meet and overlap, and that is no surface."""
    mesh = refine(item.mesh, EDGE)
    mesh.update_faces(item.sdf(mesh.triangles_center + ABOVE * mesh.face_normals) > 0)
    return mesh


def attempt(pipeline: Pipeline, photo: Image.Image, seed: int, **budget) -> Sample | None:
    """A sample as the miniature generator is used, with filled interior; None where its structure is empty."""
    try:
        return pipeline.sample(photo, seed, fill_interior=True, formats=("mesh",), **budget)[0]
    except BadInput:
        return None


def surface_of(sample: Sample | None) -> trimesh.Trimesh | None:
    mesh = to_trimesh(sample.mesh) if sample else None
    return mesh if mesh is not None and has_surface(mesh) else None


def f_score(reference: trimesh.Trimesh, candidate: trimesh.Trimesh | None) -> float:
    """At 2% of the diagonal of the reference's box; 0 for nothing."""
    return mesh_error(reference, candidate, size=UNREAD).f_score if candidate is not None else 0.0


def largest_share(mesh: trimesh.Trimesh | None) -> float:
    """Of the area, that of the largest connected component."""
    if mesh is None:
        return 0.0
    label = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    areas = np.bincount(label, mesh.area_faces)
    return float(areas.max() / areas.sum())


def occupied(cells: np.ndarray) -> np.ndarray:
    grid = np.zeros([RESOLUTION] * 3, bool)
    grid[tuple(cells.T)] = True
    return grid


def mesh_digest(mesh: trimesh.Trimesh | None) -> str:
    return hashlib.sha256(b"" if mesh is None else mesh.vertices.tobytes() + mesh.faces.tobytes()).hexdigest()[:16]


@lru_cache(maxsize=1)
def encoder(folder: Path, weights: str) -> torch.nn.Module:
    """Of the structured latents; it is beside the pipeline, which does not need it."""
    return load_model(folder, "ckpts/slat_encoder", torch.float32)


@torch.no_grad()
def reconstruction(folder: Path, weights: str, item: Furniture) -> dict[str, float]:
    """The object through encoder and decoders: F-score and color error of the mesh, silhouettes and colors of the
    Gaussians over the judge's views."""
    cells, sdf, part, _ = active_cells(item)
    palette = np.array([255 * piece.color for piece in item.primitives]).round().astype(np.uint8)
    arrays = {"cells": cells, "sdf": sdf.astype(np.float16), "part": part, "palette": palette}
    fields = Fields([{name: torch.from_numpy(array) for name, array in arrays.items()}])
    pipeline, latent = generator(folder, weights, "cpu"), encoder(folder, weights)(fields.encoder_input())
    mesh = to_trimesh(pipeline.decode(latent, "mesh", fill_interior=True)[0])
    (gaussians,) = pipeline.decode(latent, "gaussians")
    error = np.abs(mesh.visual.vertex_colors[:, :3] / 255 - item.color(mesh.vertices)).mean() if len(mesh.faces) else 1
    both, either, difference = 0, 0, []
    for camera in judge_views():
        color, alpha = splat(gaussians, camera, SPLATTED)
        wanted, mask = lit_image(item.mesh, camera, SPLATTED)
        both, either = both + int(((alpha > 0.5) & mask).sum()), either + int(((alpha > 0.5) | mask).sum())
        difference.append((color + 1 - alpha[..., None] - wanted).abs()[mask].mean().item())
    return {
        "reconstruction, F": f_score(outer_surface(item), mesh if has_surface(mesh) else None),
        "reconstruction, color": float(error),
        "Gaussians, silhouette": both / either,
        "Gaussians, color": float(np.mean(difference)),
    }


@dataclass(frozen=True)
class Cost:
    """In one process with one thread: processor seconds of each photo, peak memory in GB, digests of the meshes."""

    seconds: list[float]
    memory: float
    digests: dict[int, str]


def cost(folder: Path, indices: Sequence[int], seed: int) -> list[Cost]:
    """The clean photos of test objects again, in two fresh processes."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        return list(pool.map(_cost, [folder] * 2, [indices[start::2] for start in range(2)], [seed] * 2))


def _cost(folder: Path, indices: Sequence[int], seed: int) -> Cost:
    torch.set_num_threads(1)
    pipeline, seconds, digests = generator(folder, folder_digest(folder), "cpu"), [], {}
    items = {index: furniture("test", index) for index in indices}
    photos = {index: render_photo(item.mesh, PHOTO, *FRONT) for index, item in items.items()}
    attempt(pipeline, photos[indices[0]], seed)  # what is loaded and built once
    for index, photo in photos.items():
        begun = process_time()
        sample = attempt(pipeline, photo, noise_seed(items[index].id, seed))
        seconds.append(process_time() - begun)
        digests[index] = mesh_digest(surface_of(sample))
    return Cost(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, digests)
