"""Renderer benchmark: `python benchmarks/render.py`.

Times 24 normal views of 512 px of a mesh of about 80,000 faces, ours against trimesh + embreex, in turn and in one run
(both build their scene each time and are handed the same rays), then small views and Gaussian splats.
Exits with an error where ours is the slower. On a shared machine read the ratio, not the seconds.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from lib.renderers.cameras import Camera, judge_views, rays, turntable
from lib.renderers.raycast import normal_images, render
from lib.renderers.splats import render_splats, surface_splats

ROUNDS = 7


def bumpy_chair(edge: float) -> trimesh.Trimesh:
    """A chair of boxes and cylinders, cut into edges of at most `edge` and displaced by a smooth pattern."""
    at = trimesh.transformations.translation_matrix
    legs = [
        trimesh.creation.cylinder(0.03, 0.46, transform=at([x, y, -0.27])) for x in (-0.2, 0.2) for y in (-0.2, 0.2)
    ]
    slats = [trimesh.creation.box([0.1, 0.05, 0.5], at([x, 0.22, 0.25])) for x in (-0.2, 0, 0.2)]
    parts = [*legs, *slats, trimesh.creation.box([0.5, 0.5, 0.06], at([0, 0, -0.03]))]
    mesh = trimesh.util.concatenate(parts).subdivide_to_size(edge)
    mesh.vertices += 0.004 * np.sin(40 * mesh.vertices[:, [1, 2, 0]])
    return mesh


def ours(mesh: trimesh.Trimesh, cameras: list[Camera], size: int) -> np.ndarray:
    return normal_images(render(mesh, cameras, size))


def theirs(mesh: trimesh.Trimesh, cameras: list[Camera], size: int) -> np.ndarray:
    intersector = RayMeshIntersector(mesh)
    images = np.full((len(cameras), size * size, 3), 255, np.uint8)
    for image, camera, ray in zip(images, cameras, rays(cameras, size).reshape(len(cameras), -1, 6), strict=True):
        face = intersector.intersects_first(ray[:, :3], ray[:, 3:])
        hit = face >= 0
        normal = mesh.face_normals[face[hit]]
        normal = np.where((normal * ray[hit, 3:]).sum(1, keepdims=True) > 0, -normal, normal) @ camera.rotation.T
        image[hit] = normal * 127.5 + 128
    return images.reshape(len(cameras), size, size, 3)


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> int:
    mesh, cameras, size = bumpy_chair(0.02), turntable(24), 512
    first = seconds(partial(ours, mesh, cameras, size))
    same = (ours(mesh, cameras, size) == theirs(mesh, cameras, size)).all(-1).mean()
    times = [[seconds(partial(call, mesh, cameras, size)) for call in (ours, theirs)] for _ in range(ROUNDS)]
    mine, peer = (median(column) for column in zip(*times, strict=True))
    print(f"24 normal views, {size} px, {len(mesh.faces)} faces, median of {ROUNDS}")
    print(f"  ours                {mine:.2f} s   (first call, rays included, {first:.2f} s)")
    print(f"  trimesh + embreex   {peer:.2f} s   {peer / mine:.2f} x ours; {100 * same:.2f}% of pixels equal")

    small = bumpy_chair(0.3)
    ours(small, judge_views(), 56)
    each = median(seconds(partial(ours, small, judge_views(), 56)) for _ in range(200))
    print(f"4 normal views, 56 px, {len(small.faces)} faces: {1000 * each:.1f} ms, {1 / each:.0f} montages/s")

    for n, pixels in ((12_000, 56), (100_000, 512)):
        splats = surface_splats(mesh, n, seed=0)
        each = median(seconds(partial(render_splats, splats, Camera(45), pixels)) for _ in range(ROUNDS))
        print(f"{n} splats, {pixels} px: {each:.3f} s a view")
    return int(mine > peer)


if __name__ == "__main__":
    sys.exit(main())
