"""What plain furniture lacks: curved and detailed shapes.

Primitives have flat sides and few details, and a judge that knows no other takes a carved leg for damage, or cubes for
a chair. So half of the training objects are rounded, get ornaments, and are bent.
"""

from collections.abc import Sequence

import numpy as np
import trimesh
from trimesh.sample import sample_surface

from lib.data.damage import random_field
from lib.data.procedural import Furniture
from lib.data.refine import mesh_of, refine

ROUNDED, ROUNDING = 0.4, 0.3  # share of an object's parts; how far to an ellipsoid, at most
BEND, WAVES = (0.01, 0.05), (0.5, 1.5)  # rms, and lengths of the waves, in boxes: far longer than those of noise
ORNAMENTS, RADIUS, EDGE = 16, (0.01, 0.035), 0.03  # at most; their size and longest edge, in boxes


def fine_parts(item: Furniture, edge: float) -> list[trimesh.Trimesh]:
    """A mesh of each primitive, with edges of at most `edge`, short enough to be cut and bent."""
    parts = [(*part.mesh(), part.color) for part in item.primitives]
    return [
        refine(mesh_of(points, faces, np.tile(255 * color, (len(points), 1))), edge) for points, faces, color in parts
    ]


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
