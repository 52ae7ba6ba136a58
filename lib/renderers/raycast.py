"""Normals, depth, silhouettes and shaded colors of a mesh by ray casting (open3d, that is Embree)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import open3d as o3d
import trimesh

from lib.renderers.cameras import Camera, rays
from lib.renderers.triangles import triangles, vertex_colors

AMBIENT = 0.5
HEAD_LIGHT = np.array([-0.2, 0.7, 1.0], np.float32)  # from above the left shoulder, so that a box's sides differ
HEAD_LIGHT /= np.linalg.norm(HEAD_LIGHT)


@dataclass(frozen=True, eq=False)
class Views:
    """V views of a mesh, H = W = size.

    normal: (V,H,W,3) float32, geometric unit normals in camera space, turned to the viewer; 0 where there is nothing.
    depth: (V,H,W) float32 along the viewing axis, infinite where there is nothing. mask: (V,H,W) bool.
    face, barycentric: the face hit, and the weights (V,H,W,2) of its second and third corner; undefined off the mask.
    corner_colors: (F,3,3) float32 colors of the faces' corners.
    """

    normal: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    corner_colors: np.ndarray

    @cached_property
    def color(self) -> np.ndarray:
        """(V,H,W,3) float32 in [0,1]: unshaded vertex color, interpolated; 0 where there is nothing."""
        first, second, third = np.moveaxis(self.corner_colors[self.face[self.mask]], 1, 0)
        to_second, to_third = np.moveaxis(self.barycentric[self.mask, None], -1, 0)
        color = np.zeros_like(self.normal)  # a face of one color has it in every pixel, to the last bit
        color[self.mask] = first + to_second * (second - first) + to_third * (third - first)
        return color


@lru_cache(maxsize=4)
def scene(mesh: trimesh.Trimesh) -> o3d.t.geometry.RaycastingScene:
    """The mesh as open3d asks about it: rays, distances, occlusion. Kept, as the same mesh is looked at several times
    in a row; one that changed has another hash."""
    # Built on one thread: which of two coincident faces is seen must not depend on the number of cores.
    built = o3d.t.geometry.RaycastingScene(nthreads=1)
    built.add_triangles(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32))
    return built


def render(mesh: trimesh.Trimesh, cameras: Sequence[Camera], size: int) -> Views:
    """Views of `size` pixels, bit-identical on repeat. Raises BadInput for a mesh without a proper surface."""
    vertices, faces = triangles(mesh)
    ray = rays(cameras, size)
    hits = scene(mesh).cast_rays(o3d.core.Tensor.from_numpy(ray))
    # Copies: a program that ends with open3d's own memory in use has the exit status 1, and views are kept.
    depth, face, barycentric = (hits[name].numpy().copy() for name in ("t_hit", "primitive_ids", "primitive_uvs"))
    mask = np.isfinite(depth)
    of_face, normal = _face_normals(vertices, faces, face[mask]), np.zeros((*depth.shape, 3), np.float32)
    for image, seen, ids, direction, camera in zip(normal, mask, face, ray[..., 3:], cameras, strict=True):
        facing = of_face[ids[seen]]
        facing[_dot(facing, direction[seen]) > 0] *= -1
        image[seen] = np.stack([_dot(facing, axis) for axis in camera.rotation.astype(np.float32)], axis=1)
    return Views(normal, depth, mask, face, barycentric, vertex_colors(mesh)[faces])


def _face_normals(vertices: np.ndarray, faces: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(F,3) float32 unit normals of the faces `seen`; 0 for the others, and for one without area. Embree's own differ
    in their last bits from processor to processor, and then images do by a level."""
    wanted, normals = np.zeros(len(faces), bool), np.zeros(faces.shape, np.float32)
    wanted[seen] = True
    a, b, c = np.moveaxis(vertices[faces[wanted]], 1, 0)
    across = np.cross(b - a, c - a)
    normals[wanted] = across / np.maximum(np.sqrt(_dot(across, across)), np.finfo(float).tiny)[:, None]
    return normals


def _dot(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Products along the last axis, added one by one: `@` and einsum round differently on different processors."""
    x, y, z = np.moveaxis(vectors * others, -1, 0)
    return x + y + z


def normal_images(views: Views) -> np.ndarray:
    """(V,H,W,3) uint8: normals as colors, (n + 1) / 2, on white; a surface that faces the camera is (128, 128, 255)."""
    images = np.full(views.normal.shape, 255, np.uint8)
    for image, normal, mask in zip(images, views.normal, views.mask, strict=True):
        np.copyto(image, (normal * 127.5 + 128).astype(np.uint8), where=mask[..., None])
    return images


def shaded_images(views: Views) -> np.ndarray:
    """(V,H,W,4) uint8 RGBA, straight alpha: vertex color under a head light with some ambient light."""
    light = AMBIENT + (1 - AMBIENT) * np.maximum(_dot(views.normal, HEAD_LIGHT), 0)
    rgba = np.concatenate([views.color * light[..., None], views.mask[..., None]], -1)
    return (rgba * 255 + 0.5).astype(np.uint8)
