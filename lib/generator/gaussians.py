"""Stage 2's second decoder: Gaussians on the surface, from frozen latents, that look like the object from everywhere.

Every Gaussian learns from the field where it lies: to be on the surface, flat along it, of its color in a mild light.
An image of the object beside the same image of the Gaussians teaches the rest: gaps, outlines, what nobody should see.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, normalize

from lib.data.procedural import furniture
from lib.generator.collection import Collection
from lib.generator.fields import FINE
from lib.generator.recipe import RESOLUTION, Recipe
from lib.generator.slat import BAND, EVERY, VOXEL, Latents, fill
from lib.renderers.cameras import Camera
from lib.renderers.raycast import render
from lib.renderers.splats import SUN, render_splats
from lib.training import fit
from lib.trellis.gaussian_decoder import Gaussians
from lib.trellis.layers import grid_coords
from lib.trellis.losses import render_loss

NOISE = 0.2  # standard deviations added to the latents: what the flow samples is not exact
ELEVATIONS = -20.0, 60.0  # degrees, of the images
FLAT = 0.25  # thickness of a disc in its widths; the decoder's own filter allows no less than a tenth
SIDE = FINE * RESOLUTION + 1  # nodes


class Surface:
    """The field of one object, to be asked at any place near its surface."""

    def __init__(self, cells: Tensor, sdf: Tensor, part: Tensor, palette: Tensor):
        """As in `fields.sample`, all on one device."""
        where = (FINE * cells.long()[:, None] + grid_coords(FINE + 1, cells.device)).flatten(0, 1).unbind(1)
        self.distance = torch.full([SIDE] * 3, BAND, device=cells.device)  # where nothing else is known
        self.distance[where] = sdf.float().flatten()
        self.color = torch.zeros(SIDE, SIDE, SIDE, 3, device=cells.device)
        self.color[where] = (palette.float() / 255)[part.flatten().long()]

    def distances(self, points: Tensor) -> Tensor:
        """Signed distance (N,) at points (N,3), differentiable: interpolated between the nodes."""
        grid = 2 * points.flip(-1)  # grid_sample wants z first, in [-1,1]
        return grid_sample(self.distance[None, None], grid[None, None, None], align_corners=True).flatten()

    def colors(self, points: Tensor) -> Tensor:
        """RGB (N,3) at the nearest node."""
        node = ((points + 0.5) * (SIDE - 1)).round().long().clamp(0, SIDE - 1)
        return self.color[node.unbind(1)]


def light(normals: Tensor) -> Tensor:
    """(...,) of unit normals (...,3): what `surface_splats` bakes in."""
    return 0.4 + 0.6 * (normals @ torch.as_tensor(SUN).to(normals)).abs()


def surface_losses(gaussians: Gaussians, surface: Surface, points: Tensor, spacing: float) -> dict[str, Tensor]:
    """Distances in voxels: of the Gaussians from the surface, and of points (P,3) on it from the next Gaussian; the
    angle between disc and surface; the color; and how far the scales are from discs that cover `spacing`."""
    means = gaussians.means
    distance = surface.distances(means)
    (gradient,) = torch.autograd.grad(distance.sum(), means, retain_graph=True)
    normal = normalize(gradient.detach(), dim=-1)
    on = (distance.detach().abs() < 2 * VOXEL).float()  # elsewhere neither normal nor color is known
    w, x, y, z = gaussians.rotations.unbind(-1)
    axis = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)  # the disc's normal
    color = surface.colors(means.detach()) * light(normal)[:, None]
    _, nearest = cKDTree(means.detach().cpu().numpy()).query(points.cpu().numpy())
    gap = (means[torch.from_numpy(nearest).to(means.device)] - points).norm(dim=-1)
    disc = means.new_tensor([spacing, spacing, FLAT * spacing]).log()
    return {
        "distance": distance.abs().mean() / VOXEL,
        "gap": gap.mean() / VOXEL,
        "angle": ((1 - (axis * normal).sum(-1) ** 2) * on).sum() / on.sum(),
        "color": ((gaussians.colors - color).abs().mean(-1) * on).sum() / on.sum(),
        "scale": (gaussians.scales.log() - disc).abs().mean(),
    }


def lit_image(mesh: trimesh.Trimesh, camera: Camera, size: int) -> tuple[Tensor, Tensor]:
    """The mesh on white (size,size,3), smooth at its edges, in the light that its Gaussians should have; and where it
    is (size,size) bool."""
    views = render(mesh, [camera], 2 * size)
    normal = torch.from_numpy(views.normal[0] @ camera.rotation.astype(np.float32))  # camera to world
    mask = torch.from_numpy(views.mask[0])[..., None].float()
    image = torch.from_numpy(views.color[0]) * light(normal)[..., None] * mask + 1 - mask
    pixels = avg_pool2d(torch.cat([image, mask], -1).movedim(-1, 0), 2).movedim(0, -1)
    return pixels[..., :3], pixels[..., 3] > 0.5


@lru_cache(maxsize=256)
def training_mesh(index: int) -> trimesh.Trimesh:
    return furniture("train", index).mesh


class GaussianLoss:
    """The loss as a function of the step."""

    def __init__(self, networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path):
        self.decoder, self.data, self.recipe = networks["slat_decoder_gs"], data, recipe
        self.sizes, self.latents = np.array([len(one) for one in data["cells"]]), Latents(data, scratch)
        self.device = next(self.decoder.parameters()).device

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng, slat = np.random.default_rng([self.recipe.seed, 6, step]), self.recipe.slat
        losses = self.losses(fill(self.sizes, rng.permutation(self.data.trained), slat.gaussian_cells), rng)
        values = {name: loss.item() for name, loss in losses.items()}
        if step % EVERY == 0:
            held = fill(self.sizes, self.data.held.numpy(), slat.gaussian_cells)
            with torch.no_grad():
                seen = self.images(self.decode(held, rng), held, np.random.default_rng(0))
            values["image, held out"] = seen.item()
        return sum(slat.gaussian_weights[name] * loss for name, loss in losses.items()), values

    def decode(self, items: Sequence[int], rng: np.random.Generator) -> list[Gaussians]:
        x = self.latents(items, False, self.device)
        noise = NOISE * torch.from_numpy(rng.standard_normal(x.feats.shape, np.float32)).to(self.device)
        mean, std = (torch.from_numpy(x).to(self.device) for x in (self.latents.mean, self.latents.std))
        return self.decoder(x.with_feats((x.feats + noise) * std + mean))

    def losses(self, items: Sequence[int], rng: np.random.Generator) -> dict[str, Tensor]:
        decoded, spacing = self.decode(items, rng), self.decoder.config["scaling_bias"]
        each = []
        for i, gaussians in zip(items, decoded, strict=True):
            surface = Surface(*(self.data[name][i].to(self.device) for name in ("cells", "sdf", "part", "palette")))
            each.append(surface_losses(gaussians, surface, self.data["points"][i].float().to(self.device), spacing))
        losses = {name: torch.stack([one[name] for one in each]).mean() for name in each[0]}
        return losses | {"image": self.images(decoded, items, rng)}

    def images(self, decoded: list[Gaussians], items: Sequence[int], rng: np.random.Generator) -> Tensor:
        """How far one image of each object's Gaussians is from that of its mesh."""
        size, pairs = self.recipe.slat.gaussian_image, []
        for i, gaussians in zip(items, decoded, strict=True):
            camera = Camera(rng.uniform(0, 360), rng.uniform(*ELEVATIONS))
            pairs.append((render_splats(gaussians, camera, size), lit_image(training_mesh(i), camera, size)[0]))
        seen, wanted = (torch.stack(images).to(self.device).movedim(-1, 1) for images in zip(*pairs, strict=True))
        return render_loss(seen, wanted)


def train_gaussians(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Only the Gaussian decoder changes; needs the latents."""
    loss = GaussianLoss(networks, data, recipe, scratch)
    parts = nn.ModuleDict({"decoder": loss.decoder})
    return fit(parts, loss, recipe.slat.gaussian_budget, scratch / "gaussians.pt", recipe.slat.gaussian_rate)
