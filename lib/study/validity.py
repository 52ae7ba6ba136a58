"""Is it a proper surface? The validity features of the companion study (arXiv 2606.18451), which look at faces alone.

The paper names four features and prints no definition. Those used here, on the welded mesh (vertices at one place are
one, faces without area by that are gone: files repeat vertices along seams, which would read as holes):

watertight              every edge has exactly two faces (trimesh's `is_watertight`)
manifold                no edge has more than two, and the faces around each vertex make one fan (open3d's
                        `is_edge_manifold` with boundaries allowed and `is_vertex_manifold`)
non_self_intersecting   no edge passes through a face; surfaces that only touch do not count
normal_consistency      of the edges with two faces, the share along which both faces are wound alike, so that their
                        normals point to the same side (trimesh's `is_winding_consistent`, as a share)
"""

from dataclasses import dataclass

import numpy as np
import open3d as o3d
import trimesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.renderers.raycast import scene
from lib.renderers.triangles import triangles

TOUCH = 1e-6  # of the unit box: what goes less deep through a face only touches it
RAYS = 5_000  # edges tested at a time, since the first that passes through a face settles it


@dataclass(frozen=True)
class Validity:
    """The four features, each 0 to 1 and higher when better; the first three are yes or no."""

    watertight: float
    manifold: float
    non_self_intersecting: float
    normal_consistency: float


def validity(mesh: trimesh.Trimesh) -> Validity:
    """The features of a mesh in the unit box. Raises BadInput for a mesh without a proper surface."""
    vertices, faces = weld(mesh)
    turns = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)  # (3F, 2): each face's edges, as it turns
    edges, edge, count = np.unique(np.sort(turns) @ [len(vertices), 1], return_inverse=True, return_counts=True)
    met = np.argsort(edge, kind="stable")[np.repeat(count == 2, count)].reshape(-1, 2)  # both turns along such edges
    opposed = turns[met[:, 0], 0] != turns[met[:, 1], 0]
    return Validity(
        watertight=float((count == 2).all()),
        manifold=float(_fans(faces, met, opposed)),  # an edge with three faces breaks the fans at its ends
        non_self_intersecting=float(not _crosses(vertices, faces, np.stack(np.divmod(edges, len(vertices)), -1))),
        normal_consistency=float(opposed.mean()) if len(met) else 1.0,
    )


def weld(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) of which no two are at one place, and faces (F, 3) with three different corners each."""
    merged = trimesh.Trimesh(*triangles(mesh), process=False)
    merged.merge_vertices()
    faces = np.asarray(merged.faces)
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    return np.asarray(merged.vertices), faces


def _fans(faces: np.ndarray, met: np.ndarray, opposed: np.ndarray) -> bool:
    """Whether the corners at every vertex hang together by the edges that two faces share; corner i starts turn i."""
    start, end = met, met // 3 * 3 + (met + 1) % 3
    other_start, other_end = np.where(opposed, (end[:, 1], start[:, 1]), (start[:, 1], end[:, 1]))
    rows, columns = np.concatenate([start[:, 0], end[:, 0]]), np.concatenate([other_start, other_end])
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), (faces.size, faces.size))
    return connected_components(links, directed=False)[0] == len(np.unique(faces))


def _crosses(vertices: np.ndarray, faces: np.ndarray, edges: np.ndarray) -> bool:
    """Whether an edge passes through the inside of a face with which it shares no corner.

    Two faces that cross, and are not in one plane, always do so with an edge of one inside the other. Rays find the
    candidates, 64-bit arithmetic decides: open3d's `is_self_intersecting` compares all pairs of faces, which takes
    minutes at 100,000. An edge without a crossing between its ends, where its own faces are, is no candidate, and the
    nearest crossing is found in a fifth of the time that all of them take.
    """
    rays = scene(trimesh.Trimesh(vertices, faces, process=False))
    edges = edges[_meets(rays, *vertices[edges.T])]
    for start in range(0, len(edges), RAYS):
        some = edges[start : start + RAYS]
        p, q = vertices[some.T]
        hits = rays.list_intersections(o3d.core.Tensor.from_numpy(np.hstack([p, q - p]).astype(np.float32)))
        ray, face, at = (hits[name].numpy() for name in ("ray_ids", "primitive_ids", "t_hit"))
        apart = (faces[face][:, :, None] != some[ray][:, None]).all((1, 2))
        chosen = apart & (at < 1 + 1e-3)
        ray, face = ray[chosen], face[chosen]
        if (_depth(p[ray], q[ray], vertices[faces[face]]) > TOUCH).any():
            return True
    return False


def _meets(rays, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(N,) bool: whether the segments p q (N, 3) meet a face further than TOUCH from both ends."""
    along = q - p
    inset = np.minimum(TOUCH / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), TOUCH), 0.5)
    shorter = np.hstack([p + inset * along, (1 - 2 * inset) * along]).astype(np.float32)
    return rays.cast_rays(o3d.core.Tensor.from_numpy(shorter))["t_hit"].numpy() <= 1


def _depth(p: np.ndarray, q: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(N,) how far the segments p q (N, 3) each must be moved to miss their triangle (N, 3, 3), negative if they do.

    The least of the distances of both ends to its plane and, in the plane, of the point passed to its three sides.
    """
    sides = np.roll(corners, -1, axis=1) - corners
    normal = np.cross(sides[:, 0], sides[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):  # triangles without area, segments in the plane: nan is no
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        above, below = (((x - corners[:, 0]) * normal).sum(1) for x in (p, q))
        point = p + (q - p) * (above / (above - below))[:, None]
        inward = np.cross(normal[:, None], sides)
        inside = ((point[:, None] - corners) * inward).sum(2) / np.linalg.norm(sides, axis=2)
        ends = np.where(above * below < 0, np.minimum(np.abs(above), np.abs(below)), -1)
        return np.minimum(ends, inside.min(1))
