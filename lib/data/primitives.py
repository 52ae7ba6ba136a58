"""Solids with an exact signed distance and a watertight mesh: box, capped cone, open cone.

Each is a core (a box, a frustum, the wall of a frustum) swollen by `rounding`: the distance to the solid is that to its
core less `rounding`, exact inside and out because the cores are convex or, for the wall, have no inside.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

SEGMENTS = 32  # around an axis
ARC = 4  # steps of a rounded edge, a quarter turn


@dataclass(frozen=True, eq=False)
class Primitive:
    """A solid in world coordinates: p = center + rotation @ local. Arrays are float64, `color` is RGB in [0, 1].

    The three lengths of `size` describe the core, before `rounding` is added all around.
    """

    size: np.ndarray
    rounding: float
    rotation: np.ndarray
    center: np.ndarray
    color: np.ndarray

    def sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed Euclidean distance (N,) of points (N, 3) to the surface, negative inside."""
        return self.core_distance(*(self.rotation.T @ (points - self.center).T)) - self.rounding

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3), all on the surface, and faces (F, 3), wound outward, watertight."""
        vertices, faces = self.local_mesh()
        return vertices @ self.rotation.T + self.center, faces

    def moved(self, rotation=None, offset=(0.0, 0.0, 0.0), scale: float = 1.0) -> "Primitive":
        """The same solid after p -> scale * rotation @ p + offset."""
        rotation = np.eye(3) if rotation is None else rotation
        return replace(
            self,
            size=self.size * scale,
            rounding=self.rounding * scale,
            rotation=rotation @ self.rotation,
            center=scale * rotation @ self.center + offset,
        )


class Box(Primitive):
    """size: half the sides of the core along x, y, z."""

    def core_distance(self, x, y, z):
        qx, qy, qz = (np.abs(p) - half for p, half in zip((x, y, z), self.size, strict=True))
        outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2 + np.maximum(qz, 0) ** 2)
        return outside + np.minimum(np.maximum(np.maximum(qx, qy), qz), 0)

    def local_mesh(self):
        corners, directions, faces = _box_template(ARC if self.rounding else 0)
        return corners * self.size + directions * self.rounding, faces


class Cone(Primitive):
    """size: radius at z = -h, radius at z = +h, h. Equal radii make a cylinder."""

    def core_distance(self, x, y, z):
        bottom, top, h = self.size
        rho = np.hypot(x, y)
        wall, inward = _wall(rho, z, self.size)
        cap = np.maximum(rho - np.where(z < 0, bottom, top), 0) ** 2 + (np.abs(z) - h) ** 2
        distance = np.sqrt(np.minimum(wall, cap))
        return np.where(inward & (np.abs(z) < h), -distance, distance)

    def local_mesh(self):
        bottom, top, h = self.size
        slant = np.arctan2(bottom - top, 2 * h)  # elevation of the wall's normal
        steps = np.linspace(0, 1, ARC + 1 if self.rounding else 1)
        profile = [(0.0, -h - self.rounding)]
        profile += [_swell(bottom, -h, self.rounding, -np.pi / 2 + (slant + np.pi / 2) * t) for t in steps]
        profile += [_swell(top, h, self.rounding, slant + (np.pi / 2 - slant) * t) for t in steps]
        profile += [(0.0, h + self.rounding)]
        grid, poles = _revolve(profile[1:-1]), [(0.0, *profile[0]), (0.0, *profile[-1])]
        return np.concatenate([grid, poles]), _capped_faces(len(profile) - 2, SEGMENTS)


class Tube(Primitive):
    """The wall of a cone, `rounding` thick to either side: a lamp shade, a ring. size as for Cone; rounding > 0."""

    def core_distance(self, x, y, z):
        return np.sqrt(_wall(np.hypot(x, y), z, self.size)[0])

    def local_mesh(self):
        bottom, top, h = self.size
        slant = np.arctan2(bottom - top, 2 * h)
        turns = np.linspace(0, np.pi, 2 * ARC + 1)
        profile = [_swell(top, h, self.rounding, slant + t) for t in turns]
        profile += [_swell(bottom, -h, self.rounding, slant + np.pi + t) for t in turns]
        return _revolve(profile), _grid_faces(len(profile), SEGMENTS, closed=True)


def _wall(rho, z, size):
    """Squared distance to the wall of a cone in its half plane (rho, z), and whether a point is on its inner side."""
    bottom, top, h = size
    along_rho, along_z = top - bottom, 2 * h
    from_rho, from_z = rho - bottom, z + h
    t = np.clip((from_rho * along_rho + from_z * along_z) / (along_rho**2 + along_z**2), 0, 1)
    squared = (from_rho - t * along_rho) ** 2 + (from_z - t * along_z) ** 2
    return squared, from_rho * along_z < from_z * along_rho


def _swell(rho, z, rounding, elevation):
    return rho + rounding * np.cos(elevation), z + rounding * np.sin(elevation)


def _revolve(profile):
    """Vertices (len(profile) * SEGMENTS, 3) of a profile [(rho, z)] turned around z."""
    angles = np.linspace(0, 2 * np.pi, SEGMENTS, endpoint=False)
    rho, z = np.array(profile).T[..., None]
    return np.stack(np.broadcast_arrays(rho * np.cos(angles), rho * np.sin(angles), z), axis=-1).reshape(-1, 3)


@lru_cache
def _grid_faces(rows, columns, closed):
    """Two triangles per cell of a grid whose columns wrap around, rows too if `closed`: outward for rows that go up."""
    row, column = np.mgrid[: rows if closed else rows - 1, :columns].reshape(2, -1)
    up, right = (row + 1) % rows, (column + 1) % columns
    a, b, c, d = row * columns + column, row * columns + right, up * columns + right, up * columns + column
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


@lru_cache
def _capped_faces(rows, columns):
    """Faces of a grid closed by a lower and an upper pole, two vertices that follow those of the grid."""
    here = np.arange(columns)
    right, last, lower = (here + 1) % columns, (rows - 1) * columns, np.full(columns, rows * columns)
    below, above = np.stack([right, here, lower], axis=1), np.stack([last + here, last + right, lower + 1], axis=1)
    return np.concatenate([_grid_faces(rows, columns, closed=False), below, above])


@lru_cache
def _box_template(arc):
    """A rounded box: vertices are corners * size + directions * rounding, in `arc` steps a quarter turn.

    It is a sphere's grid cut at its quadrants and equator, with the vertices that coincide at the poles merged.
    """
    quarter = np.linspace(0, np.pi / 2, arc + 1)
    elevation = np.concatenate([quarter - np.pi / 2, quarter])
    azimuth = np.concatenate([quarter + turn * np.pi / 2 for turn in range(4)])
    sign_x, sign_y = np.repeat([[1, -1, -1, 1], [1, 1, -1, -1]], arc + 1, axis=1)
    flat = np.cos(elevation)[:, None]
    grid = np.zeros((len(elevation) + 2, len(azimuth), 6))  # first and last row: the centers of bottom and top
    grid[1:-1, :, 0], grid[1:-1, :, 1] = sign_x, sign_y
    grid[1:-1, :, 3], grid[1:-1, :, 4] = flat * np.cos(azimuth), flat * np.sin(azimuth)
    grid[1:-1, :, 5] = np.sin(elevation)[:, None]
    grid[: arc + 2, :, 2], grid[arc + 2 :, :, 2] = -1, 1
    grid[0, :, 5], grid[-1, :, 5] = -1, 1
    unique, index = np.unique(grid.reshape(-1, 6).round(12), axis=0, return_inverse=True)
    faces = index.reshape(-1)[_grid_faces(len(grid), len(azimuth), closed=False)]
    faces = faces[[len(set(face)) == 3 for face in faces]]
    return unique[:, :3], unique[:, 3:], faces
