"""Stage 2's autoencoder: from the analytic field to structured latents, and back to a mesh.

Encoder and mesh decoder learn together, straight from the field: what the decoder says at the corners of its voxels is
compared with the true signed distance and color there; nothing is extracted or rendered. Deformation and FlexiCubes
weights get no gradient, so they stay at zero.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.generator.collection import Collection
from lib.generator.fields import FINE
from lib.generator.recipe import RESOLUTION, Recipe
from lib.placement import mixed_precision
from lib.training import fit, outdated
from lib.trellis.flexicubes import corner_steps
from lib.trellis.layers import grid_coords
from lib.trellis.losses import kl_divergence, posterior_sample
from lib.trellis.sparse import SparseTensor, collate, subdivide

VOXEL = 1 / (FINE * RESOLUTION)
BAND = 4 * VOXEL  # distances are clamped there and divided by it, so that far outside is +1 as in cells not decoded
OUTSIDE = 0.25 * VOXEL / BAND  # least distance at the border of the grid, where the object ends and rounding decides
NEAR = 5  # weight of the distance within a voxel of the surface
EVERY = 50  # steps between looks at objects that are not trained on
AFTER = 1_000_000  # number of the mesh decoder's first step alone: other draws than with the encoder
ENCODED = 16  # objects in one call
LATENTS, NORMALIZATION = "slat_latents.npy", "slat_normalization.json"


@cache
def corner_nodes() -> Tensor:
    """Which of the 5^3 nodes of a cell are the corners of its 64 voxels, in the mesh decoder's order: int64 [64, 8]."""
    cell = SparseTensor(torch.zeros(1, 0), torch.zeros(1, 4, dtype=torch.int32))
    corners = subdivide(subdivide(cell)).coords[:, None, 1:] + corner_steps()
    return corners @ torch.tensor([(FINE + 1) ** 2, FINE + 1, 1])


def voxels(cells: Sequence[Tensor], device="cpu") -> SparseTensor:
    """The active cells (L,3) of several objects as one sparse tensor without features."""
    coords = [F.pad(cell.to(device).int(), (1, 0)) for cell in cells]
    return collate([SparseTensor(torch.empty(len(one), 0, device=device), one, 1) for one in coords])


def mirrored_cells(cells: Tensor) -> Tensor:
    """Cells (L,3) of the object mirrored at x = 0, in the same order of rows."""
    return torch.cat([RESOLUTION - 1 - cells[:, :1], cells[:, 1:]], 1)


class Fields:
    """The field of some objects: voxels, and at their nodes distance [T,125] in [-1,1] and RGB [T,125,3] in [0,1]."""

    def __init__(self, objects: Sequence[dict[str, Tensor]], mirror: bool = False, device="cpu"):
        """objects: cells, sdf, part, palette as in `fields.sample`."""
        cells = [one["cells"] for one in objects]
        self.voxels = voxels([mirrored_cells(one) for one in cells] if mirror else cells, device)
        distance, color = [], []
        for one in objects:
            sdf, part = ((one[name].flip(1) if mirror else one[name]).to(device).flatten(1) for name in ("sdf", "part"))
            distance.append((sdf.float() / BAND).clamp(-1, 1))
            color.append((one["palette"].to(device).float() / 255)[part.long()])
        self.distance, self.color = torch.cat(distance), torch.cat(color)
        nodes = FINE * self.voxels.coords[:, None, 1:] + grid_coords(FINE + 1, device)
        border = ((nodes == 0) | (nodes == FINE * RESOLUTION)).any(-1)
        self.distance[border] = self.distance[border].clamp(min=OUTSIDE)

    @classmethod
    def of(cls, data: Collection, items: Sequence[int], mirror: bool, device) -> "Fields":
        names = "cells", "sdf", "part", "palette"
        return cls([{name: data[name][i] for name in names} for i in items], mirror, device)

    def encoder_input(self) -> SparseTensor:
        """Distance and color at all nodes of every cell [T, 500]."""
        return self.voxels.with_feats(torch.cat([self.distance, self.color.flatten(1)], 1))


def fill(sizes: np.ndarray, order: np.ndarray, cells: int) -> list[int]:
    """The first of `order` whose sizes add up to `cells` at most, one at least."""
    return order[: max(1, np.searchsorted(sizes[order].cumsum(), cells, side="right"))].tolist()


class AutoencoderLoss:
    """Loss of a step: distance everywhere, more near the surface; color near the surface; divergence of the latents."""

    def __init__(self, networks: nn.ModuleDict, data: Collection, recipe: Recipe):
        self.encoder, self.decoder = networks["slat_encoder"], networks["slat_decoder_mesh"]
        self.data, self.recipe, self.sizes = data, recipe, np.array([len(one) for one in data["cells"]])
        self.device = next(self.decoder.parameters()).device
        self.nodes = corner_nodes().to(self.device)

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng, slat = np.random.default_rng([self.recipe.seed, 4, step]), self.recipe.slat
        mirror = bool(rng.random() < 0.5)
        losses = self.losses(fill(self.sizes, rng.permutation(self.data.trained), slat.vae_cells), mirror, rng)
        values = {name: loss.item() for name, loss in losses.items()}
        if step % EVERY == 0:
            with torch.no_grad():
                held = self.losses(fill(self.sizes, self.data.held.numpy(), slat.vae_cells), False, rng)
            values |= {f"{name}, held out": held[name].item() for name in ("sign", "color")}
        first, later = slat.color
        color = first + (later - first) * min(1, step / slat.color_steps)
        return 2 * losses["distance"] + color * losses["color"] + slat.kl * losses["divergence"], values

    def losses(self, items: Sequence[int], mirror: bool, rng: np.random.Generator) -> dict[str, Tensor]:
        """`sign` is the share of corners within a voxel of the surface that are on its wrong side."""
        fields = Fields.of(self.data, items, mirror, self.device)
        with mixed_precision(self.device):
            mean, logvar = (x.float() for x in self.encoder.posterior(fields.encoder_input()))
            noise = torch.from_numpy(rng.standard_normal(mean.shape, np.float32)).to(self.device)
            cells = self.decoder.cells(fields.voxels.with_feats(posterior_sample(mean, logvar, noise))).feats
        sdf, _, color = cells.float().unflatten(0, (-1, len(self.nodes))).split([8, 24 + 21, 48], dim=-1)
        sdf, color = sdf - 1 / self.decoder.resolution, color.unflatten(-1, (8, 6))[..., :3].sigmoid()
        distance = fields.distance[:, self.nodes]
        near = (distance.abs() < VOXEL / BAND).float()
        error = (color - fields.color[:, self.nodes]).abs().mean(-1)
        return {
            "distance": ((sdf - distance).abs() * (1 + (NEAR - 1) * near)).mean(),
            "color": (error * near).sum() / near.sum(),
            "divergence": kl_divergence(mean, logvar),
            "sign": (((sdf < 0) != (distance < 0)) * near).sum() / near.sum(),
        }


def train_slat_vae(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Encoder and mesh decoder change; writes the latents of all objects and their normalisation."""
    parts = nn.ModuleDict({role: networks[role] for role in ("slat_encoder", "slat_decoder_mesh")})
    loss = AutoencoderLoss(networks, data, recipe)
    curve = fit(parts, loss, recipe.slat.vae_budget, scratch / "slat_vae.pt", recipe.slat.vae_rate)
    if outdated(scratch / LATENTS, scratch / "slat_vae.pt"):
        write_latents(networks["slat_encoder"], data, scratch)
    return curve


def train_mesh_decoder(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Only the mesh decoder changes: colors need longer than geometry, and the latents are by now what others learn."""
    networks["slat_encoder"].requires_grad_(False)
    loss, parts = AutoencoderLoss(networks, data, recipe), nn.ModuleDict({"decoder": networks["slat_decoder_mesh"]})
    checkpoint, rate = scratch / "mesh_decoder.pt", recipe.slat.decoder_rate
    return fit(parts, lambda step: loss(AFTER + step), recipe.slat.decoder_budget, checkpoint, rate)


@torch.no_grad()
def write_latents(encoder: nn.Module, data: Collection, scratch: Path):
    """slat_latents.npy (cells of all objects end to end, 2, 8) float16, plain and mirrored: posterior means; and
    slat_normalization.json, their mean and standard deviation over what is trained on."""
    sizes, device = [len(one) for one in data["cells"]], next(encoder.parameters()).device
    table, done = np.empty((sum(sizes), 2, encoder.out_layer.out_features // 2), np.float16), 0
    for start in tqdm(range(0, len(data), ENCODED), desc="structured latents", mininterval=5):
        items = range(start, min(start + ENCODED, len(data)))
        rows = slice(done, done := done + sum(sizes[i] for i in items))
        for mirror in (False, True):
            fields = Fields.of(data, items, mirror, device)
            table[rows, int(mirror)] = encoder(fields.encoder_input()).feats.cpu().numpy()
    known = table[: sum(sizes[: data.trained])].astype(np.float32)
    statistics = {"mean": known.mean((0, 1)).tolist(), "std": known.std((0, 1)).tolist()}
    (scratch / NORMALIZATION).write_text(json.dumps(statistics))
    with (scratch / LATENTS).with_suffix(".partial").open("wb") as file:
        np.save(file, table)
    Path(file.name).replace(scratch / LATENTS)


class Latents:
    """The latents of a collection's objects, normalised to mean 0 and standard deviation 1 a channel."""

    def __init__(self, data: Collection, scratch: Path):
        sizes = [len(one) for one in data["cells"]]
        self.cells, self.ends = data["cells"], np.cumsum([0, *sizes])
        self.table = np.load(scratch / LATENTS, mmap_mode="r")
        statistics = json.loads((scratch / NORMALIZATION).read_text())
        self.mean, self.std = (np.array(statistics[name], np.float32) for name in ("mean", "std"))

    def __call__(self, items: Sequence[int], mirror: bool, device) -> SparseTensor:
        """[T, 8] on the cells of these objects."""
        rows = [self.table[self.ends[i] : self.ends[i + 1], int(mirror)] for i in items]
        feats = (np.concatenate(rows).astype(np.float32) - self.mean) / self.std
        cells = [mirrored_cells(self.cells[i]) if mirror else self.cells[i] for i in items]
        return voxels(cells, device).with_feats(torch.from_numpy(feats).to(device))
