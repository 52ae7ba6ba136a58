"""Procedural furniture: objects without end, whose surface, signed distance and colors are known exactly.

Each is a union of primitives made by its category's recipe from random draws. Some parts cannot be seen from the front,
so one photo leaves the object ambiguous.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import trimesh

from lib.data.furniture_cases import cabinet, shelf
from lib.data.furniture_draws import SPLITS, Draw
from lib.data.furniture_lamps import lamp
from lib.data.furniture_seats import chair, sofa, stool
from lib.data.furniture_tables import bed, table
from lib.data.primitives import Primitive
from lib.errors import BadInput

RECIPES = {f.__name__: f for f in (chair, table, sofa, shelf, bed, stool, cabinet, lamp)}
CATEGORIES = tuple(RECIPES)
CHUNK = 8192  # points at a time: the arrays stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Furniture:
    """An object in the unit box: z up, front facing -y, bounding box of the mesh centered, with longest side 1.

    Has what `lib.data.objects.Object` has, and the fields that only an analytic object can give.
    """

    id: str
    category: str
    primitives: tuple[Primitive, ...]

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The primitives' meshes side by side, not merged (they overlap), in uint8 RGBA vertex colors."""
        meshes = [part.mesh() for part in self.primitives]
        sizes = [len(vertices) for vertices, _ in meshes]
        faces = [part + start for (_, part), start in zip(meshes, np.cumsum([0, *sizes]), strict=False)]
        colors = np.repeat(self._colors, sizes, axis=0)
        return trimesh.Trimesh(
            np.concatenate([vertices for vertices, _ in meshes]),
            np.concatenate(faces),
            vertex_colors=np.round(255 * np.column_stack([colors, np.ones(len(colors))])).astype(np.uint8),
            process=False,
        )

    def sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (N,) at points (N, 3): exact outside; inside, where primitives overlap, at most that deep."""
        return self.nearest(points)[0]

    def color(self, points: np.ndarray) -> np.ndarray:
        """RGB in [0, 1] (N, 3) of the nearest primitive."""
        return self._colors[self.nearest(points)[1]]

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance (N,) and the index (N,) of the primitive that has it; the first of equals."""
        points = np.asarray(points, dtype=float)
        distance, index = np.full(len(points), np.inf), np.zeros(len(points), dtype=int)
        for start in range(0, len(points), CHUNK):
            here = slice(start, start + CHUNK)
            for i, part in enumerate(self.primitives):
                candidate = part.sdf(points[here])
                closer = candidate < distance[here]
                distance[here][closer], index[here][closer] = candidate[closer], i
        return distance, index

    @property
    def _colors(self) -> np.ndarray:
        return np.array([part.color for part in self.primitives])


def furniture(split: str, index: int) -> Furniture:
    """Object number `index` of a split; its category is CATEGORIES[index % 8], so any 8 in a row have all of them.

    A pure function of its arguments. No continuous parameter has the same value in two splits (see `Draw`).
    Raises BadInput for an unknown split or a negative index.
    """
    if split not in SPLITS:
        raise BadInput(
            "split", f"{split!r} is not a split of the procedural furniture", f"Use one of {', '.join(SPLITS)}."
        )
    if index < 0:
        raise BadInput("index", f"{index} is negative", "Objects are numbered from 0.")
    category = CATEGORIES[index % len(CATEGORIES)]
    parts = RECIPES[category](Draw(split, index))
    vertices = np.concatenate([part.mesh()[0] for part in parts])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    scale = 1 / (high - low).max()
    parts = tuple(part.moved(offset=-scale * (low + high) / 2, scale=scale) for part in parts)
    return Furniture(f"procedural/{split}/{index}", category, parts)
