"""FlexiCubes: a mesh from signed distances at grid corners (Shen et al. 2023; used in the paper's Sec. 3.2).

Dual marching cubes whose vertices move with learned weights. Corner i of a cube lies at (i & 1, i >> 1 & 1,
i >> 2 & 1); it is inside where the distance is negative. The tables of the 256 sign cases are derived, not stored.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

EDGES = ((0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4))


def corner_steps(device=None) -> Tensor:
    """Corners of the unit cube in FlexiCubes order, x fastest: int64 [8, 3]."""
    i = torch.arange(8, device=device)
    return torch.stack([i & 1, i >> 1 & 1, i >> 2 & 1], dim=1)


@dataclass(frozen=True)
class Tables:
    """For each sign case (sum of 2^i over inside corners i) the surface patches, each of which gets one dual vertex.

    patch: [256, 12] patch that a crossing edge belongs to, -1 for edges that do not cross.
    count: [256] number of patches.
    across: [256, 3] step over the face whose two diagonals one patch joins, 0 where there is no such face.
    """

    patch: Tensor
    count: Tensor
    across: Tensor


@cache
def tables() -> Tables:
    """Derive the tables: patches are the components of crossing edges linked over the six faces."""
    patch, count = torch.full((256, 12), -1), torch.zeros(256, dtype=torch.int64)
    across = torch.zeros(256, 3, dtype=torch.int64)
    faces = [(axis, side, {c for c in range(8) if c >> axis & 1 == side}) for axis in range(3) for side in (0, 1)]
    for case in range(256):
        inside = {corner for corner in range(8) if case >> corner & 1}
        crossing = [e for e, (a, b) in enumerate(EDGES) if (a in inside) != (b in inside)]
        label = {e: e for e in crossing}
        ambiguous = []
        for axis, side, corners in faces:
            around = [e for e in crossing if corners.issuperset(EDGES[e])]
            links = [around]
            if len(around) == 4:
                # inside corners of a face with two crossing diagonals are kept apart
                links = [[e for e in around if corner in EDGES[e]] for corner in corners & inside]
                ambiguous.append((axis, 2 * side - 1, around))
            for linked in filter(None, links):
                joined, target = {label[e] for e in linked}, label[linked[0]]
                label = {e: target if value in joined else value for e, value in label.items()}
        patches = [[e for e in crossing if label[e] == value] for value in set(label.values())]
        for number, edges in enumerate(sorted(patches, key=lambda edges: _patch_rank(edges, inside))):
            patch[case, edges] = number
        count[case] = len(patches)
        for axis, direction, around in ambiguous:
            if len({label[e] for e in around}) == 1:
                across[case, axis] = direction
    return Tables(patch, count, across)


def _patch_rank(edges: list[int], inside: set[int]) -> int:
    """Order of patches inside a case: by the corner that all edges share, else by the smallest inside corner."""
    shared = set.intersection(*(set(EDGES[e]) for e in edges))
    return min(shared or {corner for e in edges for corner in EDGES[e]} & inside)


@dataclass(frozen=True)
class Surface:
    """vertices [V, 3], faces int64 [F, 3] (normals to positive distance), attributes [V, A], deviation [E] (L_dev)."""

    vertices: Tensor
    faces: Tensor
    attributes: Tensor
    deviation: Tensor


def flexicubes(
    cubes: Tensor,
    corners: Tensor,
    positions: Tensor,
    sdf: Tensor,
    resolution: int,
    attributes: Tensor | None = None,
    weights: tuple[Tensor, Tensor, Tensor] | None = None,
    training: bool = False,
) -> Surface:
    """Extract the surface of the listed cubes.

    cubes: int64 [N, 3] coordinates in [0, resolution), in ascending x-major order; without a crossing they are ignored.
    corners: int64 [N, 8] rows of the cubes' corners in positions [P, 3], sdf [P] and attributes [P, A]; rows ascend in
        x-major order of the corners.
    weights: raw (beta [N, 12] of the edges, alpha [N, 8] of the corners, gamma [N] of the quads); None: all equal.
    training: split each quad into four triangles around a weighted center instead of two.
    """
    case = case_ids(corners, sdf)
    table = Tables(*(t.to(case.device) for t in vars(tables()).values()))
    keep = (case > 0) & (case < 255)
    cubes, corners, case = cubes[keep], corners[keep], case[keep]
    case = resolve_ambiguity(cubes, case, resolution)
    n = len(cubes)
    if weights is None:
        beta, alpha, gamma = sdf.new_ones(n, 12), sdf.new_ones(n, 8), sdf.new_ones(n)
    else:
        beta, alpha = (0.99 * torch.tanh(w[keep]) + 1 for w in weights[:2])
        gamma = 0.99 * torch.sigmoid(weights[2][keep]) + 0.005
    if attributes is None:
        attributes = positions.new_empty(len(positions), 0)

    # one row for each crossing edge of each cube
    cube, edge = (table.patch[case] >= 0).nonzero(as_tuple=True)
    ends = torch.tensor(EDGES, device=case.device)[edge]
    a, b = corners[cube, ends[:, 0]], corners[cube, ends[:, 1]]
    order = table.count[case].argsort(stable=True)
    first = torch.empty_like(order)
    first[order] = table.count[case][order].cumsum(0) - table.count[case][order]
    dual = first[cube] + table.patch[case[cube], edge]

    # crossing points, and the dual vertices as their weighted means
    value_a, value_b = sdf[a], sdf[b]
    plain = _crossing(positions[a], positions[b], value_a, value_b)
    value_a, value_b = value_a * alpha[cube, ends[:, 0]], value_b * alpha[cube, ends[:, 1]]
    fields = torch.cat([positions, attributes], dim=1)
    points = _crossing(fields[a], fields[b], value_a, value_b)
    n_dual = int(table.count[case].sum())
    share = beta[cube, edge][:, None]
    total = share.new_zeros(n_dual, 1).index_add(0, dual, share)
    fields = points.new_zeros(n_dual, points.shape[1]).index_add(0, dual, share * points) / total

    distance = (plain - fields[dual, :3]).norm(dim=1)
    size = torch.bincount(dual, minlength=n_dual)
    mean = distance.new_zeros(n_dual).index_add(0, dual, distance) / size
    deviation = (distance - mean[dual]).abs()

    # a quad for each grid edge that four cubes share
    key, by_edge = (a * len(positions) + b).sort(stable=True)
    start = (key[:-3] == key[3:]).nonzero().flatten() if len(key) > 3 else key[:0]
    rows = by_edge[start[:, None] + torch.arange(4, device=start.device)]
    outward = sdf[a[rows[:, 0]]] > 0
    rows = torch.cat([rows[outward][:, [0, 1, 3, 2]], rows[~outward][:, [2, 3, 1, 0]]])
    fields, faces = triangulate(fields, dual[rows], gamma[cube[rows]], training)
    return Surface(fields[:, :3], faces, fields[:, 3:], deviation)


def triangulate(fields: Tensor, quads: Tensor, gamma: Tensor, centers: bool) -> tuple[Tensor, Tensor]:
    """Vertex fields [V, C] and quads [Q, 4] with a weight for each corner to fields and triangles.

    A quad is split along the diagonal with the larger product of weights, or, with `centers`, into four triangles
    around a new vertex that these products place.
    """
    g02, g13 = gamma[:, 0] * gamma[:, 2], gamma[:, 1] * gamma[:, 3]
    if not centers:
        along02, along13 = quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [0, 1, 3, 3, 1, 2]]
        return fields, torch.where((g02 > g13)[:, None], along02, along13).view(-1, 3)
    g02, g13, corner = g02[:, None], g13[:, None], fields[quads]
    center = g02 * (corner[:, 0] + corner[:, 2]) / 2 + g13 * (corner[:, 1] + corner[:, 3]) / 2
    middle = len(fields) + torch.arange(len(quads), device=quads.device)
    faces = torch.stack([quads, quads.roll(-1, 1), middle[:, None].expand(-1, 4)], dim=2).flatten(0, 1)
    return torch.cat([fields, center / (g02 + g13 + 1e-8)]), faces


def case_ids(corners: Tensor, sdf: Tensor) -> Tensor:
    """Sign case of each cube: [N]."""
    return ((sdf < 0).long()[corners] << torch.arange(8, device=corners.device)).sum(1)


def resolve_ambiguity(cubes: Tensor, case: Tensor, resolution: int) -> Tensor:
    """Flip (255 - case) every cube that shares its ambiguous face with a cube that has an ambiguous face too.

    Otherwise both would close the face in opposite ways and leave non-manifold edges.
    """
    across = tables().across.to(case.device)[case]
    problem = across.any(1).nonzero().flatten()
    facing = cubes[problem] + across[problem]
    in_grid = ((facing >= 0) & (facing < resolution)).all(1)
    linear = torch.tensor([resolution**2, resolution, 1], device=case.device)
    also = torch.isin((facing * linear).sum(1), (cubes[problem] * linear).sum(1))
    flipped = problem[in_grid & also]
    return case.index_copy(0, flipped, 255 - case[flipped])


def _crossing(x_a: Tensor, x_b: Tensor, value_a: Tensor, value_b: Tensor) -> Tensor:
    """Where the linear interpolation of the values between a and b is zero."""
    value_a, value_b = value_a[:, None], value_b[:, None]
    return (x_a * value_b - x_b * value_a) / (value_b - value_a)
