"""What is sampled of one training object: fields around its surface, points on it, and photos of it.

The structure is a grid of 16^3 cells over the unit box; a cell is 4^3 voxels of the mesh's 64^3 grid and so has 5^3 of
that grid's nodes. Node n of an axis lies at n / 64 - 0.5.
"""

import numpy as np
import open3d as o3d
import trimesh

from lib.data.photos import MARGIN, render_photo
from lib.data.procedural import CATEGORIES, Furniture, furniture
from lib.generator.recipe import RESOLUTION, Data
from lib.renderers.cameras import Camera, project
from lib.renderers.raycast import scene

FINE = 4  # voxels a side of a cell
PATCHES = 16  # a side: where a photo tells which point of the object it shows
ABOVE = 4e-3  # a face of a primitive's mesh is an outer one where so far above it is outside; arcs are polygons


def sample(index: int, data: Data, seed: int) -> dict[str, np.ndarray]:
    """Object number `index` of the training split. L active cells, K primitives, V photos, P points; z up.

    cells (L,3) uint8, in x-major order: those whose nodes lie on both sides of the surface;
    sdf (L,5,5,5) float16: signed distance at their nodes;
    part (L,5,5,5) uint8: the primitive nearest to each node, whose color is in palette (K,3) uint8 RGB;
    color (L,3) uint8: that of the node in the middle of each cell;
    distance (16,16,16) float16: signed distance at the centers of all cells;
    points, normals (P,3) float16, point_colors (P,3) uint8: uniform by area on the outer surface;
    photos (V,112,112,4) uint8 RGBA, straight alpha; views (V,2) float16: their azimuths and elevations in degrees;
    seen (V,16,16,3) float16: the visible point at the center of each of 16 x 16 patches of a photo, nan for background;
    category (): place in CATEGORIES.
    """
    item, rng = furniture("train", index), np.random.default_rng([seed, index])
    cells, sdf, part, distance = active_cells(item)
    palette = np.array([255 * piece.color for piece in item.primitives]).round().astype(np.uint8)
    views = [(rng.uniform(-data.azimuth, data.azimuth), rng.uniform(*data.elevation)) for _ in range(data.photos)]
    photos = [np.asarray(render_photo(item.mesh, data.photo_size, *view)) for view in views]
    return {
        "cells": cells,
        "sdf": sdf.astype(np.float16),
        "part": part,
        "palette": palette,
        "color": palette[part[:, FINE // 2, FINE // 2, FINE // 2]],
        "distance": distance.astype(np.float16),
        **surface(item, data.points, int(rng.integers(2**31))),
        "photos": np.stack(photos),
        "views": np.array(views, np.float16),
        "seen": np.stack([visible_points(item.mesh, *view) for view in views]),
        "category": np.array(CATEGORIES.index(item.category)),
    }


def active_cells(item: Furniture) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """cells (L,3) uint8, sdf and part (L,5,5,5), distance (16,16,16), as in `sample`, in full precision."""
    center = (np.indices([RESOLUTION] * 3).reshape(3, -1).T + 0.5) / RESOLUTION - 0.5
    distance = item.sdf(center).reshape([RESOLUTION] * 3)
    near = np.abs(distance) <= 3**0.5 / 2 / RESOLUTION  # half a cell's diagonal: no other cell reaches the surface
    side = FINE * RESOLUTION + 1
    wanted = np.zeros([side] * 3, bool)
    _nodes(wanted, writeable=True)[near] = True
    where = np.argwhere(wanted)
    sdf, part = np.zeros(wanted.shape), np.zeros(wanted.shape, np.uint8)
    sdf[wanted], part[wanted] = item.nearest(where / (side - 1) - 0.5)
    inside = np.pad(sdf[1:-1, 1:-1, 1:-1] < 0, 1)  # the object ends at the border, where rounding decides on the sign
    cells, sdf, part, inside = np.argwhere(near), *(_nodes(grid)[near] for grid in (sdf, part, inside))
    crossed = inside.any((1, 2, 3)) & ~inside.all((1, 2, 3))
    return cells[crossed].astype(np.uint8), sdf[crossed], part[crossed], distance


def _nodes(grid: np.ndarray, writeable: bool = False) -> np.ndarray:
    """View (16,16,16,5,5,5) of a grid of nodes: those of each cell; neighbors share them."""
    windows = np.lib.stride_tricks.sliding_window_view(grid, [FINE + 1] * 3, writeable=writeable)
    return windows[::FINE, ::FINE, ::FINE]


def surface(item: Furniture, count: int, seed: int) -> dict[str, np.ndarray]:
    """points, normals and point_colors of `sample`. Where primitives meet, their meshes have inner faces too."""
    points, face = trimesh.sample.sample_surface(item.mesh, 3 * count, seed=seed)
    normals = item.mesh.face_normals[face]
    outer = np.flatnonzero(item.sdf(points + ABOVE * normals) > 0)
    chosen = np.resize(outer, count)  # the first of them, repeated in the rare case that there are too few
    return {
        "points": points[chosen].astype(np.float16),
        "normals": normals[chosen].astype(np.float16),
        "point_colors": item.mesh.visual.vertex_colors[item.mesh.faces[face[chosen], 0], :3],
    }


def visible_points(mesh: trimesh.Trimesh, azimuth: float, elevation: float) -> np.ndarray:
    """`seen` (16,16,3) float16 of a photo by `render_photo`."""
    camera = Camera(azimuth, elevation)
    corner, _ = project(camera, mesh.vertices, size=1)
    low, high = corner.min(0), corner.max(0)
    step = MARGIN * (high - low).max() * ((np.arange(PATCHES) + 0.5) / PATCHES - 0.5)
    x, y = np.stack(np.meshgrid(*((low + high)[:, None] / 2 + step - 0.5)))[..., None] / camera.focal(1)
    right, up, back = camera.rotation
    direction = x * right - y * up - back
    ray = np.concatenate([np.broadcast_to(camera.eye, direction.shape), direction], -1).astype(np.float32)
    depth = scene(mesh).cast_rays(o3d.core.Tensor(ray))["t_hit"].numpy()[..., None]
    hit = np.isfinite(depth)
    return np.where(hit, camera.eye + np.where(hit, depth, 0) * direction, np.nan).astype(np.float16)
