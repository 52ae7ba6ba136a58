"""How far a candidate mesh is from the true one: over the judges' views and over the surface."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import trimesh

from lib.errors import BadInput
from lib.renderers.cameras import judge_views
from lib.renderers.raycast import render, scene

F_SCORE_THRESHOLD = 0.02  # of the reference's box diagonal, as in the mesh reconstruction literature


@dataclass(frozen=True)
class MeshError:
    """Error of a candidate against a reference, both in the house frame (neither is normalized again).

    Over the pixels of the four judge views, all views pooled:
    `mask`     share of the union of the silhouettes where the silhouettes differ (1 - IoU), in [0, 1];
    `normal`   mean angle between the normals where both are seen, in units of 90 degrees, each at most 1 (1 if none);
    `view`     mean over the union of 1 where the silhouettes differ and else that angle: the label of the judges.
    Over surface samples:
    `chamfer`  mean of the two mean distances (candidate's samples to the reference's surface and back), in
               diagonals of the reference's box;
    `f_score`  harmonic mean of precision (share of the candidate's samples within 2% of that diagonal of the reference)
               and recall (the reference's samples within it of the candidate), in [0, 1].
    """

    mask: float
    normal: float
    view: float
    chamfer: float
    f_score: float


def has_surface(mesh: trimesh.Trimesh) -> bool:
    """Whether the faces have an area: not where there are none, all are degenerate, or a vertex in use is NaN."""
    return len(mesh.faces) > 0 and mesh.area > 0


def surface_points(mesh: trimesh.Trimesh, n: int, seed: int) -> np.ndarray:
    """(n, 3) points, uniform by area on the surface; the same for the same mesh, n and seed."""
    return trimesh.sample.sample_surface(mesh, n, seed=seed)[0]


def surface_distance(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """(N,) unsigned distance of (N, 3) points to the surface itself, so re-triangulating a surface changes nothing."""
    return scene(mesh).compute_distance(np.asarray(points, np.float32)).numpy()


# What is asked of a reference is kept for its next candidates; a mesh that changed has another hash.
_kept_views = lru_cache(maxsize=1)(lambda reference, size: render(reference, judge_views(), size))
_kept_points = lru_cache(maxsize=1)(surface_points)


def mesh_error(
    reference: trimesh.Trimesh, candidate: trimesh.Trimesh, seed: int = 0, n_points: int = 10_000, size: int = 128
) -> MeshError:
    """Compare two meshes in the house frame over views of `size` pixels and `n_points` surface samples each.

    Raises BadInput if either has no surface.
    """
    for name, mesh in (("reference", reference), ("candidate", candidate)):
        if not has_surface(mesh):
            raise BadInput(f"mesh_error {name}", "mesh without surface", "Leave this pair out, or repair the mesh.")
    return MeshError(*_view_error(reference, candidate, size), *_surface_error(reference, candidate, n_points, seed))


def _view_error(reference: trimesh.Trimesh, candidate: trimesh.Trimesh, size: int) -> tuple[float, float, float]:
    a, b = _kept_views(reference, size), render(candidate, judge_views(), size)
    union, both = a.mask | b.mask, a.mask & b.mask
    half_chord = np.linalg.norm(a.normal[both] - b.normal[both], axis=-1) / 2  # unlike arccos, exact for equal normals
    angle = np.minimum(np.degrees(2 * np.arcsin(np.minimum(half_chord, 1))) / 90, 1)
    differ = union.sum() - both.sum()
    return (
        float(differ / union.sum()),
        float(angle.mean()) if both.any() else 1.0,
        float((differ + angle.sum()) / union.sum()),
    )


def _surface_error(
    reference: trimesh.Trimesh, candidate: trimesh.Trimesh, n_points: int, seed: int
) -> tuple[float, float]:
    diagonal = np.linalg.norm(reference.extents)
    to_reference = surface_distance(reference, surface_points(candidate, n_points, seed)) / diagonal
    to_candidate = surface_distance(candidate, _kept_points(reference, n_points, seed)) / diagonal
    precision, recall = (np.mean(d <= F_SCORE_THRESHOLD) for d in (to_reference, to_candidate))
    f_score = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return float((to_reference.mean() + to_candidate.mean()) / 2), float(f_score)
