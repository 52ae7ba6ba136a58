"""What plain furniture lacks: curved and detailed shapes, and what a generator makes of a photo.

Primitives have flat sides and few details, and a judge that knows no other takes a carved leg for damage, or cubes for
a chair. So some training objects are bent and get ornaments, and of others most candidates are samples of the miniature
generator, whose surfaces have a grain of their own.
"""

from collections.abc import Sequence

import numpy as np
import trimesh
from trimesh.sample import sample_surface

from lib.data.damage import random_field
from lib.data.degrade import degrade
from lib.data.photos import render_photo
from lib.data.procedural import Furniture
from lib.data.refine import mesh_of, refine
from lib.generator.examine import FRONT, LARGE, PHOTO, SMALL, attempt, surface_of
from lib.generator.loading import find_generator, generator
from lib.profiles import find_folder

GENERATOR = "weights/mini/trellis"
EDGE = 0.03  # longest edge, in boxes: what bends must have corners to bend at
ROUNDED, ROUNDING = 0.4, 0.3  # share of an object's parts; how far to an ellipsoid, at most
BEND, WAVES = (0.01, 0.05), (0.5, 1.5)  # rms, and lengths of the waves, in boxes: far longer than those of noise
ORNAMENTS, RADIUS = 16, (0.01, 0.035)  # at most; their size, in boxes
BUDGETS = ({}, {}, LARGE, SMALL)  # of samples; {} is the generator's own
DEGRADED = 0.5  # share of the samples that are made from a degraded photo


def bent(parts: Sequence[trimesh.Trimesh], rng: np.random.Generator) -> list[trimesh.Trimesh]:
    """The same parts rounded, ornamented, and bent as one, in the unit box; ornaments are parts of their own."""
    parts = [_rounded(part, rng.uniform(0, ROUNDING)) if rng.random() < ROUNDED else part for part in parts]
    parts += _ornaments(parts, rng)
    ends = np.cumsum([0, *(len(part.vertices) for part in parts)])
    points = np.concatenate([part.vertices for part in parts])
    points = points + rng.uniform(*BEND) * random_field(points, rng, *WAVES)
    low, high = points.min(axis=0), points.max(axis=0)
    pieces = np.split((points - (low + high) / 2) / (high - low).max(), ends[1:-1])
    return [mesh_of(new, old.faces, old.visual.vertex_colors) for new, old in zip(pieces, parts, strict=True)]


def generated(item: Furniture, count: int, rng: np.random.Generator) -> list[trimesh.Trimesh]:
    """Samples of the miniature generator for the object's photo, clean or degraded, by large and small budgets.

    Raises BadInput where there is no generator.
    """
    pipeline, clean = generator(*find_generator(find_folder(GENERATOR)), "cpu"), render_photo(item.mesh, PHOTO, *FRONT)
    meshes = []
    while len(meshes) < count:
        budget = BUDGETS[rng.integers(len(BUDGETS))]
        photo = degrade(clean, rng.uniform(0, 1), int(rng.integers(2**31))) if rng.random() < DEGRADED else clean
        mesh = surface_of(attempt(pipeline, photo, int(rng.integers(2**31)), **budget))
        if mesh is not None:
            meshes.append(mesh)
    return meshes


def _rounded(part: trimesh.Trimesh, amount: float) -> trimesh.Trimesh:
    """Moved towards the ellipsoid in the part's box: a cube's corners go in, the middles of its sides stay."""
    middle, half = part.bounds.mean(axis=0), np.maximum(part.extents / 2, 1e-6)
    place = (part.vertices - middle) / half
    shrink = np.abs(place).max(axis=1) / np.maximum(np.linalg.norm(place, axis=1), 1e-6)
    return mesh_of(middle + half * place * shrink[:, None] ** amount, part.faces, part.visual.vertex_colors)


def _ornaments(parts: Sequence[trimesh.Trimesh], rng: np.random.Generator) -> list[trimesh.Trimesh]:
    """Knobs, plates and rods, half sunk into the surface, in the color of the part that they are on."""
    added = []
    for _ in range(rng.integers(ORNAMENTS + 1)):
        part = parts[rng.integers(len(parts))]
        (place,), (face,) = sample_surface(part, 1, seed=rng)
        radius = rng.uniform(*RADIUS)
        shape = (
            trimesh.creation.icosphere(subdivisions=2, radius=radius),
            trimesh.creation.cylinder(radius / 2, rng.uniform(2, 6) * radius),
            trimesh.creation.box(radius * rng.uniform(0.5, 3, 3)),
        )[rng.integers(3)]
        shape.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], part.face_normals[face]))
        color = np.tile(part.visual.vertex_colors[part.faces[face, 0]], (len(shape.vertices), 1))
        added.append(refine(mesh_of(shape.vertices + place, shape.faces, color), EDGE))
    return added
