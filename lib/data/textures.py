"""Textures to vertex colors: the renderers know one color a vertex, so textured faces are cut finer, then averaged."""

from dataclasses import dataclass

import numpy as np
from trimesh.remesh import subdivide_to_size

FINEST = 128  # an edge is cut until it is below 1/FINEST of the object, 4 px or less of the paper's 512 px views,
MAX_FACES = 60_000  # but no further once the textured faces number this many
SAMPLES = np.array([(i, j, 3 - i - j) for i in range(4) for j in range(4 - i)]) / 4 + 1 / 12  # barycentric, even


@dataclass(frozen=True, eq=False)
class Surface:
    """Part of a scene in world coordinates with one material.

    vertices (n, 3), faces (m, 3) int, and either colors (n, 3) in [0, 1] or a texture (h, w, 3) uint8 with uv (n, 2),
    whose origin is the lower left corner and which repeats outside [0, 1].
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    texture: np.ndarray | None = None
    uv: np.ndarray | None = None


def bake(surfaces: list[Surface]) -> list[Surface]:
    """The same surfaces, each with vertex colors; those with a texture are cut finer, all to the same edge length.

    A vertex gets the mean of the texture over its faces, weighted by its own barycentric coordinate: that neither
    aliases nor reaches across the seams of an atlas.
    """
    textured = [surface for surface in surfaces if surface.texture is not None]
    if not textured:
        return surfaces
    plain = [surface for surface in surfaces if surface.texture is None]
    points = np.concatenate([surface.vertices[surface.faces].reshape(-1, 3) for surface in surfaces])
    textured = _cut(textured, np.ptp(points, axis=0).max())
    return plain + [Surface(s.vertices, s.faces, _vertex_means(s)) for s in textured]


def _cut(surfaces: list[Surface], extent: float) -> list[Surface]:
    """Halves edges, longest first, down to extent / FINEST or until another round would pass MAX_FACES in all."""
    for share in 2.0 ** -np.arange(np.log2(FINEST) + 1):
        finer = [_subdivide(surface, share * extent) for surface in surfaces]
        if sum(len(surface.faces) for surface in finer) > MAX_FACES:
            break
        surfaces = finer
    return surfaces


def _subdivide(surface: Surface, longest: float) -> Surface:
    table = np.column_stack([surface.vertices, surface.uv])
    table, faces = subdivide_to_size(table, surface.faces, longest, max_iter=32)
    return Surface(table[:, :3], faces, texture=surface.texture, uv=table[:, 3:])


def _vertex_means(surface: Surface) -> np.ndarray:
    """(n, 3) mean color in [0, 1] of the texture around each vertex; black where no face has the vertex."""
    height, width = surface.texture.shape[:2]
    u, v = np.einsum("sc,fcd->dsf", SAMPLES, surface.uv[surface.faces])  # each (samples, faces)
    row, column = np.floor((1 - v) * height).astype(int) % height, np.floor(u * width).astype(int) % width
    corners = np.einsum("sc,sfd->dfc", SAMPLES / SAMPLES.sum(axis=0), surface.texture[row, column] / 255)
    n, at = len(surface.vertices), surface.faces.ravel()
    totals = [np.bincount(at, channel.ravel(), n) for channel in corners]
    return np.transpose(totals) / np.maximum(np.bincount(at, minlength=n), 1)[:, None]
