"""What every dataset hands out."""

from dataclasses import dataclass

import trimesh


@dataclass(frozen=True, eq=False)
class Object:
    """One object of a dataset.

    `mesh` has z up, the front facing -y, its bounding box centered at the origin with longest side 1, and uint8 RGBA
    colors per vertex.
    """

    id: str
    category: str
    mesh: trimesh.Trimesh
