"""Gaussian splats in plain torch: a differentiable tiled renderer, and a conversion of a mesh to splats.

Splatting is Zwicker et al.'s EWA (2001) with the depth-sorted alpha blending of Kerbl et al. (2023). The low-pass
filter keeps each splat's integral, as in Mip-Splatting (Yu et al. 2024), so that splats look alike at every image size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from scipy.stats import qmc
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lib.errors import BadInput
from lib.renderers.cameras import Camera
from lib.renderers.triangles import triangles, vertex_colors

TILE = 8  # pixels a side
FAINTEST = 1e-3  # opacity below which a splat does not enter a tile; 8-bit images resolve 4e-3
NEAREST = 0.01  # depth in front of which splats are left out: projection has no bound at the eye
WEIGHTS_AT_ONCE = 2**20  # (pixel, splat) weights held at a time: bounds memory and stays near the cache


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N splats, tensors of one dtype and device.

    means (N,3); scales (N,3), standard deviations along the splat's own axes; rotations (N,4), unit quaternions wxyz
    from its own axes to the world; opacities (N,) and colors (N,3) in [0,1].
    """

    means: Tensor
    scales: Tensor
    rotations: Tensor
    opacities: Tensor
    colors: Tensor


def render_splats(
    gaussians: Gaussians, camera: Camera, size: int, background: float = 1.0, low_pass: float = 0.1
) -> Tensor:
    """(size,size,3) image before a grey `background`, differentiable in every tensor of `gaussians`.

    low_pass: variance in square pixels that is added to each projected splat, positive.
    """
    color, alpha = splat(gaussians, camera, size, low_pass)
    return color + (1 - alpha[..., None]) * background


def splat(gaussians: Gaussians, camera: Camera, size: int, low_pass: float = 0.1) -> tuple[Tensor, Tensor]:
    """What `render_splats` lays over the background: color times alpha (size,size,3), and alpha (size,size)."""
    center, covariance, opacity, depth = _project(gaussians, camera, size, low_pass)
    order = torch.argsort(depth.detach(), stable=True)
    order = order[(depth[order] > NEAREST) & (opacity[order] > FAINTEST)]
    center, covariance, opacity, colors = (x[order] for x in (center, covariance, opacity, gaussians.colors))
    xx, xy, yy = covariance.unbind(-1)
    conic = torch.stack([yy, -xy, xx], -1) / (xx * yy - xy * xy)[:, None]
    footprints = torch.cat([center, conic, opacity.log()[:, None], colors], 1)
    nothing = footprints.new_tensor([[0, 0, 0, 0, 0, -torch.inf, 0, 0, 0]])  # found under the padding index -1
    footprints = torch.cat([footprints, nothing])
    across = -(-size // TILE)
    canvas = colors.new_zeros(across * across, TILE * TILE, 4)
    for tiles, members in _tiles(center.detach(), covariance.detach(), opacity.detach(), across):
        corners = torch.stack([tiles % across, tiles // across], -1) * TILE
        pixels = checkpoint(_blend, footprints, members, corners, use_reentrant=False, preserve_rng_state=False)
        canvas = canvas.index_copy(0, tiles, pixels)
    image = canvas.view(across, across, TILE, TILE, 4).transpose(1, 2).reshape(across * TILE, across * TILE, 4)
    return image[:size, :size, :3], image[:size, :size, 3]


def _project(g: Gaussians, camera: Camera, size: int, low_pass: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixel centers (N,2), low-passed covariances (N,3: xx, xy, yy), peak opacities (N,) and depths (N,)."""
    view = torch.as_tensor(camera.rotation, dtype=g.means.dtype, device=g.means.device)
    x, y, z = (g.means @ view.T).unbind(-1)
    depth, zero = camera.distance - z, torch.zeros_like(z)
    inverse = zero + 1 if camera.fov is None else 1 / depth.clamp(min=NEAREST)
    slope = zero if camera.fov is None else inverse**2  # derivative of `inverse` by z
    jacobian = torch.stack([inverse, zero, x * slope, zero, -inverse, -y * slope], -1).view(-1, 2, 3)
    u, v = (camera.focal(size) * jacobian @ view @ _rotation_matrices(g.rotations) * g.scales[:, None]).unbind(1)
    xx, xy, yy = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    sharp = torch.linalg.vector_norm(torch.linalg.cross(u, v), dim=-1)  # square root of xx * yy - xy * xy
    peak = g.opacities * sharp / (sharp**2 + low_pass * (xx + yy) + low_pass**2).sqrt()
    center = size / 2 + camera.focal(size) * torch.stack([x * inverse, -y * inverse], -1)
    return center, torch.stack([xx + low_pass, xy, yy + low_pass], -1), peak, depth


def _rotation_matrices(quaternions: Tensor) -> Tensor:
    """(N,3,3) of unit quaternions wxyz (N,4)."""
    w, x, y, z = quaternions.unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).view(-1, 3, 3)


def _tiles(center: Tensor, covariance: Tensor, opacity: Tensor, across: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of tiles (B,), and for each the splats that reach it (B,n) front to back, padded with -1.

    The splats come sorted by depth. A splat reaches as far as the box around the ellipse where it fades to FAINTEST.
    """
    reach = (2 * (opacity / FAINTEST).log()[:, None] * covariance[:, ::2]).sqrt()
    first = ((center - reach) / TILE).floor().clamp(0, across).long()
    width, height = (((center + reach) / TILE).floor().clamp(-1, across - 1).long() + 1 - first).clamp(min=0).unbind(-1)
    covered = width * height
    member = torch.repeat_interleave(covered)
    step = torch.arange(len(member), device=member.device) - (covered.cumsum(0) - covered)[member]
    row, column = first[member, 1] + step // width[member], first[member, 0] + step % width[member]
    tile, order = (row * across + column).sort(stable=True)  # stable: depth order is kept within a tile
    member = member[order]
    crowd = torch.bincount(tile, minlength=across * across)
    start = crowd.cumsum(0) - crowd
    crowd, tiles = crowd.sort(descending=True)  # tiles of like crowds share a batch, so that little is padded
    sizes, done = crowd[crowd > 0].tolist(), 0
    while done < len(sizes):
        batch = slice(done, min(done + max(1, WEIGHTS_AT_ONCE // (sizes[done] * TILE * TILE)), len(sizes)))
        place = torch.arange(sizes[done], device=member.device)
        index = (start[tiles[batch], None] + place).clamp(max=len(member) - 1)
        yield tiles[batch], torch.where(place < crowd[batch, None], member[index], -1)
        done = batch.stop


def _blend(footprints: Tensor, members: Tensor, corners: Tensor) -> Tensor:
    """Premultiplied color and alpha (B,TILE*TILE,4) of tiles, from their splats (B,n) and their pixel origins (B,2)."""
    center, conic, log_peak, color = footprints[members].split([2, 3, 1, 3], -1)
    u, v = (center - corners[:, None]).unbind(-1)
    a, b, c = conic.unbind(-1)
    # The exponent is a quadratic of the pixel: as coefficients times monomials it is one matrix product.
    constant = log_peak[..., 0] - (a * u * u + 2 * b * u * v + c * v * v) / 2
    quadratic = torch.stack([constant, a * u + b * v, b * u + c * v, -a / 2, -b, -c / 2], -2)
    y, x = torch.meshgrid(*[torch.arange(TILE, dtype=u.dtype, device=u.device) + 0.5] * 2, indexing="ij")
    monomials = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1).view(-1, 6)
    alpha = (monomials @ quadratic).clamp(min=-30).exp()  # exp is slow where it underflows
    passed = (1 - alpha).cumprod(-1)
    weight = alpha * torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], -1)
    return torch.cat([weight @ color, 1 - passed[..., -1:]], -1)


SPREAD, THICKNESS = 0.85, 0.1  # standard deviations of a surface splat, in units of the spacing
NEIGHBORS = 32  # whose light is averaged
SUN = np.array([0.2, -0.55, 0.8]) / np.linalg.norm([0.2, -0.55, 0.8])


def surface_splats(mesh: trimesh.Trimesh, n: int, seed: int) -> Gaussians:
    """`n` flat discs spread evenly over a mesh's surface, oriented along it and colored by its vertices.

    A disc is about as wide as the spacing sqrt(area / n), so holes of that size close: this is how splats hide defects
    (the paper's second failure mode). At 12,000, a chair lacking 30% of its 9,000 faces looks whole. A mild light,
    averaged over neighboring discs, is baked in as in a splat fitted to photos; it ignores which side of a face is out.
    Raises BadInput for a mesh without a surface.
    """
    vertices, faces = triangles(mesh)
    a, b, c = vertices[faces].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1) / 2
    if not (area.sum() > 0 and n > 0):
        problem = f"{n} splats on a surface of area {area.sum():.3g}"
        raise BadInput(mesh.metadata.get("file_name", "mesh"), problem, "Give a mesh with a surface, and n above 0.")
    rng = np.random.default_rng(seed)
    share = area.cumsum()[:-1] / area.sum()
    face = np.searchsorted(share, (np.arange(n) + rng.random(n)) / n, side="right")
    r, s = qmc.Halton(2, rng=rng).random(n).T
    r = np.sqrt(r)
    weight = np.stack([1 - r, r * (1 - s), r * s], 1)
    means, color = (np.einsum("nc,ncd->nd", weight, x[faces[face]]) for x in (vertices, vertex_colors(mesh)))

    normal = normal[face] / (2 * area[face, None])
    light = np.abs(normal @ SUN)
    light = light[cKDTree(means).query(means, min(n, NEIGHBORS))[1].reshape(n, -1)].mean(1)
    normal *= np.where(normal[:, 2:] < 0, -1, 1)
    turn = np.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], np.zeros(n)], 1)  # takes z to the normal
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    scales = np.sqrt(area.sum() / n) * np.array([[SPREAD, SPREAD, THICKNESS]]).repeat(n, 0)
    parts = means, scales, turn, np.full(n, 0.99), color * (0.4 + 0.6 * light[:, None])
    return Gaussians(*(torch.as_tensor(part, dtype=torch.float32) for part in parts))
