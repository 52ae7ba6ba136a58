"""All surfaces along every ray at once, so that removing faces and looking again costs a millisecond, not a render."""

from collections.abc import Sequence

import numpy as np
import open3d as o3d
import trimesh

from lib.renderers.cameras import UNIT_BOX_RADIUS, Camera, rays
from lib.renderers.raycast import AMBIENT, HEAD_LIGHT, scene

NOTHING = 255  # depth where there is no surface


class Layers:
    """Every crossing of the camera rays with a mesh, nearest first, and the colors that each would show."""

    def __init__(self, mesh: trimesh.Trimesh, cameras: Sequence[Camera], size: int, shaded: bool = False):
        self.shape = (len(cameras), size, size)
        ray = rays(cameras, size).reshape(-1, 6)
        hits = {name: values.numpy() for name, values in scene(mesh).list_intersections(o3d.core.Tensor(ray)).items()}
        order = np.lexsort((hits["t_hit"], hits["ray_ids"]))
        self.ray, self.face = hits["ray_ids"][order].astype(int), hits["primitive_ids"][order].astype(int)
        self.depth = eight_bit_depth(hits["t_hit"][order], cameras[0])
        normal = mesh.face_normals[self.face]
        normal *= np.where(np.einsum("nc,nc->n", normal, ray[self.ray, 3:]) > 0, -1, 1)[:, None]
        turn = np.stack([camera.rotation for camera in cameras])[self.ray // size**2]
        normal = np.einsum("ndc,nc->nd", turn, normal)
        if shaded:
            light = AMBIENT + (1 - AMBIENT) * np.maximum(normal @ HEAD_LIGHT, 0)
            color = mesh.visual.vertex_colors[mesh.faces[self.face, 0], :3] * light[:, None] + 0.5
        else:
            color = normal * 127.5 + 128
        self.color = color.astype(np.uint8)

    def views(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colors (V,H,W,3) uint8 on white and depth (V,H,W) uint8 of the faces that `keep` (F,) bool leaves."""
        left = np.flatnonzero(keep[self.face])
        left = left[np.diff(self.ray[left], prepend=-1) > 0]
        color, depth = np.full((np.prod(self.shape), 3), 255, np.uint8), np.full(np.prod(self.shape), NOTHING, np.uint8)
        color[self.ray[left]], depth[self.ray[left]] = self.color[left], self.depth[left]
        return color.reshape(*self.shape, 3), depth.reshape(self.shape)


def eight_bit_depth(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth over the ball around the unit box in 254 steps; NOTHING where it is infinite."""
    share = (depth - camera.distance + UNIT_BOX_RADIUS) / (2 * UNIT_BOX_RADIUS)
    return np.where(np.isfinite(depth), np.clip(share, 0, 1) * (NOTHING - 1) + 0.5, NOTHING).astype(np.uint8)
