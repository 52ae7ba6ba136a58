"""From the mesh decoder's cells to a mesh, without ever building the full grid (paper Sec. 3.2).

Channels of a cell: sdf 8, deformation 8 x 3, FlexiCubes weights 21 (beta 12, alpha 8, gamma 1), and with color 8 x 6
more (RGB and normal map); corners in FlexiCubes order.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from lib.trellis.flexicubes import case_ids, corner_steps, flexicubes

COLORS = 6


@dataclass(frozen=True)
class Mesh:
    """vertices [V, 3] in [-0.5, 0.5]^3, z up; faces int64 [F, 3]; attributes [V, 6 or 0] in [0, 1]: RGB, normal map.

    Filled in training only: `regularizer`, and positions and distances of all corners of active cells for a loss on the
    signed distance itself.
    """

    vertices: Tensor
    faces: Tensor
    attributes: Tensor
    regularizer: Tensor | None = None
    corner_positions: Tensor | None = None  # [P, 3]
    corner_sdf: Tensor | None = None  # [P]


def cell_channels(use_color: bool) -> int:
    """Number of channels of a cell."""
    return 8 + 8 * 3 + 21 + (8 * COLORS if use_color else 0)


def extract_mesh(
    cells: Tensor,
    feats: Tensor,
    resolution: int,
    training: bool = False,
    fill_interior: bool = False,
    block: int = 1,
) -> Mesh:
    """Mesh of one object from active cells int [N, 3] with channels [N, 101 or 53] on a resolution^3 grid.

    Corners that no active cell touches count as outside (distance +1), so that a closed shell of cells yields its outer
    surface and an inner one facing the cavity, as published. `fill_interior` makes the corners of enclosed cavities
    inside instead where the cells around them are, and the inner surface disappears; cells are then looked at in blocks
    of `block`^3, which must be active as a whole (4 for the mesh decoder).
    """
    cells = cells.long()
    sdf, deform, weights, color = feats.split([8, 24, 21, feats.shape[1] - 53], dim=1)
    sdf = sdf - 1 / resolution
    values = torch.cat([sdf[..., None], deform.unflatten(1, (8, 3)), color.unflatten(1, (8, -1))], dim=2)

    # corner values: the mean over the cells that share the corner
    side = resolution + 1
    linear = torch.tensor([side**2, side, 1], device=cells.device)
    steps = corner_steps(cells.device)
    onward = (steps * linear).sum(1)  # the same in the linear index of corners, and of cubes by their first corner
    active, index, rank = _distinct((cells * linear).sum(1)[:, None] + onward, side**3)
    mean = values.new_zeros(len(active), values.shape[2]).index_add(0, index.flatten(), values.flatten(0, 1))
    mean = mean / torch.bincount(index.flatten())[:, None]

    # cubes that may hold a piece of the surface: those around active corners that are inside
    corners = _unravel(active, side)
    seeds = slice(None) if fill_interior else mean[:, 0] < 0
    below, above = corners[seeds] > 0, corners[seeds] < resolution
    there = [torch.where(step, below[:, axis, None], above[:, axis, None]) for axis, step in enumerate(steps.T.bool())]
    cubes = _distinct((active[seeds, None] - onward)[there[0] & there[1] & there[2]], side**3)[0]
    used, cube_corners, _ = _distinct(cubes[:, None] + onward, side**3)
    cubes = _unravel(cubes, side)

    # fields on the corners of these cubes; corners that no active cell touches get the default
    place = rank[used].long()
    default = torch.zeros_like(mean[:1])
    default[0, 0] = 1
    fields = torch.where((place >= 0)[:, None], mean[place], default)
    position = _unravel(used, side)
    if fill_interior:
        inside = _cavities(cells, corners, mean[:, 0].detach(), resolution, block)
        inside = inside[(position.clamp(max=resolution - 1) // block).unbind(1)] & (place < 0)
        fields = torch.where(inside[:, None], -default, fields)
    crossing = case_ids(cube_corners, fields[:, 0])
    keep = (crossing > 0) & (crossing < 255)
    cubes, cube_corners = cubes[keep], cube_corners[keep]

    surface = flexicubes(
        cubes,
        cube_corners,
        deformed(position, fields[:, 1:4], resolution),
        fields[:, 0],
        resolution,
        torch.sigmoid(fields[:, 4:]),
        _own_weights(cells, weights, cubes, linear),
        training,
    )
    if not training:
        return Mesh(surface.vertices, surface.faces, surface.attributes)
    regularizer = F.mse_loss(values, mean[index]) + 0.2 * weights[:, :20].abs().mean()
    if len(surface.faces):
        regularizer = regularizer + 0.5 * surface.deviation.mean()
    corner_positions = deformed(corners, mean[:, 1:4], resolution)
    return Mesh(surface.vertices, surface.faces, surface.attributes, regularizer, corner_positions, mean[:, 0])


def deformed(corners: Tensor, deform: Tensor, resolution: int) -> Tensor:
    """Positions [P, 3] of grid corners, moved by less than half a cell."""
    return corners / resolution - 0.5 + (1 - 1e-8) / (2 * resolution) * torch.tanh(deform)


def _distinct(values: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The different ones among values in [0, size), ascending; of each value its place among them; and the places of
    all numbers below size, int32, -1 of those not among them. A sort would take several times as long."""
    present = torch.zeros(size, dtype=torch.bool, device=values.device).index_fill_(0, values.flatten(), True)
    found = present.nonzero().flatten()
    rank = torch.full((size,), -1, dtype=torch.int32, device=values.device)
    rank[found] = torch.arange(len(found), dtype=torch.int32, device=values.device)
    return found, rank[values].long(), rank


def _unravel(linear: Tensor, side: int) -> Tensor:
    return torch.stack([linear // side**2, linear // side % side, linear % side], dim=1)


def _own_weights(cells: Tensor, weights: Tensor, cubes: Tensor, linear: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raw FlexiCubes weights of the cubes: their cell's own, 0 for cubes that are no active cell."""
    keys, order = (cells * linear).sum(1).sort()
    wanted = (cubes * linear).sum(1)
    place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    own = torch.where((keys[place] == wanted)[:, None], weights[order[place]], 0.0)
    beta, alpha, gamma = own.split([12, 8, 1], dim=1)
    return beta, alpha, gamma[:, 0]


def _cavities(cells: Tensor, corners: Tensor, sdf: Tensor, resolution: int, block: int) -> Tensor:
    """Which blocks of the grid lie in a cavity that counts as inside: bool [(resolution / block)^3].

    A cavity is a component of blocks without active cells that does not reach the border of the grid; it is inside if
    the mean distance at the corners that it shares with active cells is negative.
    """
    empty = torch.ones([resolution // block] * 3, dtype=torch.bool)
    empty[tuple((cells.cpu() // block).T)] = False
    label = torch.from_numpy(ndimage.label(empty.numpy())[0]).long()
    blocks = torch.stack([corners, corners - 1]).clamp(0, resolution - 1).cpu() // block  # of the cells on either side
    x, y, z = (blocks[step, :, axis] for axis, step in enumerate(corner_steps().T))
    touched = label.flatten()[(x * len(label) + y) * len(label) + z].T.flatten()
    inside = torch.bincount(touched, sdf.cpu().double().repeat_interleave(8), minlength=int(label.max()) + 1) < 0
    inside[0] = False
    for axis in range(3):
        inside[label.select(axis, 0)] = inside[label.select(axis, -1)] = False
    return inside[label].to(cells.device)
