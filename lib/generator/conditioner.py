"""The photo's encoder, taught by throw-away heads what its tokens should tell the flows, and frozen afterwards.

The heads see what the flows will see: tokens before the model's own final norm, normalised without parameters.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    affine_grid,
    binary_cross_entropy_with_logits,
    cross_entropy,
    grid_sample,
    smooth_l1_loss,
)
from tqdm.auto import tqdm
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from lib.data.procedural import CATEGORIES
from lib.generator.collection import Collection
from lib.generator.fields import PATCHES
from lib.generator.recipe import RESOLUTION, Recipe
from lib.placement import mixed_precision
from lib.training import fit, outdated, seeded
from lib.trellis.conditioning import ImageConditioner
from lib.trellis.layers import grid_coords, position_embedding
from lib.trellis.structure_flow import unpatchify

BLOCKS = 4  # registers a side of space: each tells of a block of cells
BLOCK = RESOLUTION // BLOCKS
NEAR = 2 / RESOLUTION  # distances beyond two cells are all the same
JITTER = 0.02  # of the photo: how far crops of the same object may differ in place and scale
EVERY = 250  # steps between examinations on the objects that are not trained on
ENCODED = 64  # photos in one call


def build_conditioner(recipe: Recipe) -> ImageConditioner:
    """Untrained, from torch's global random numbers; patches and registers start as sines and cosines of their places.

    The release has 4 registers. Here there is one for every block of space, so that the encoder itself carries what
    the photo shows over into space, where both flows find it.
    """
    config = Dinov2WithRegistersConfig(**recipe.conditioner.arguments)
    model = Dinov2WithRegistersModel(config)
    side = config.image_size // config.patch_size
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side), torch.zeros(1, dtype=torch.long))
    with torch.no_grad():
        model.embeddings.position_embeddings[0, 1:] = position_embedding(places, config.hidden_size)
        model.embeddings.register_tokens[0] = position_embedding(grid_coords(BLOCKS), config.hidden_size)
    return ImageConditioner(model)


def photo_pixels(conditioner: ImageConditioner, photos: Tensor, mirror: bool) -> Tensor:
    """RGBA photos (B,H,W,4) uint8 to pixels (B,3,H,W), as `lib.trellis.conditioning` makes them of a cropped photo."""
    photos = (photos.flip(2) if mirror else photos).to(conditioner.mean.device).float()
    color = (photos[..., :3] * photos[..., 3:] / 255).floor()
    return (color.movedim(-1, 1) / 255 - conditioner.mean) / conditioner.std


def jittered(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image a little moved and scaled."""
    change = torch.from_numpy(rng.uniform(-JITTER, JITTER, (len(pixels), 3))).to(pixels)
    matrix = torch.eye(2, 3).to(pixels) * (1 + change[:, :1, None])
    matrix[:, :, 2] = change[:, 1:]
    return grid_sample(
        pixels, affine_grid(matrix, pixels.shape, align_corners=False), padding_mode="border", align_corners=False
    )


class Heads(nn.Module):
    """Throw-away read-outs of a condition (B,L,C), all linear: the first token, the registers, then the patches."""

    def __init__(self, width: int):
        super().__init__()
        self.whole = nn.Linear(width, len(CATEGORIES) + 2)
        self.cells = nn.Linear(width, 5 * BLOCK**3)
        self.patch = nn.Linear(width, 16)

    def space(self, registers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Occupancy logits and distances (B,16,16,16), colors (B,16,16,16,3)."""
        grid = unpatchify(self.cells(registers).float(), RESOLUTION, BLOCK)
        return grid[:, 0], grid[:, 1], grid[:, 2:].movedim(1, -1)

    def image(self, patches: Tensor) -> Tensor:
        """Patch tokens (B,8*8,C) to (B,16,16,4): the visible point, and the logit of there being one."""
        side = PATCHES // 2
        grid = self.patch(patches).float().unflatten(1, (side, side)).unflatten(-1, (2, 2, 4))
        return grid.permute(0, 1, 3, 2, 4, 5).reshape(len(patches), PATCHES, PATCHES, 4)


def overlap(found: Tensor, true: Tensor) -> float:
    """Mean IoU of grids (B,...) bool."""
    both, either = (found & true).flatten(1).sum(1), (found | true).flatten(1).sum(1)
    return (both / either).mean().item()


class ConditionerLoss:
    """The loss as a function of the step."""

    def __init__(self, conditioner: ImageConditioner, heads: Heads, data: Collection, recipe: Recipe):
        self.conditioner, self.heads, self.data, self.recipe = conditioner, heads, data, recipe
        self.device = conditioner.mean.device

    def condition(self, item: Tensor, view: Tensor, mirror: bool, rng: np.random.Generator | None = None) -> Tensor:
        pixels = photo_pixels(self.conditioner, self.data["photos"][item, view], mirror)
        with mixed_precision(self.device):
            return self.conditioner(pixels if rng is None else jittered(pixels, rng))

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng, recipe = np.random.default_rng([self.recipe.seed, 1, step]), self.recipe.conditioner
        item, mirror = self.data.draw(recipe.batch, rng), bool(rng.random() < 0.5)
        view = torch.from_numpy(rng.integers(self.recipe.data.photos, size=recipe.batch))
        losses, found = self.losses(self.condition(item, view, mirror, rng), item, view, mirror)
        values = {name: loss.item() for name, loss in losses.items()} | {"IoU": found}
        if step % EVERY == 0:
            values["IoU, held out"] = self.examine()
        return sum(recipe.weights[name] * loss for name, loss in losses.items()), values

    @torch.no_grad()
    def examine(self) -> float:
        """IoU of the first photos of the objects that are not trained on."""
        item = self.data.held
        cond = self.condition(item, torch.zeros_like(item), False)
        return self.losses(cond, item, torch.zeros_like(item), False)[1]

    def losses(self, cond: Tensor, item: Tensor, view: Tensor, mirror: bool) -> tuple[dict[str, Tensor], float]:
        def field(values: Tensor, axis: int = 1) -> Tensor:
            return (values.flip(axis) if mirror else values).to(self.device)

        data, heads = self.data, self.heads
        occupied, color = field(data.occupancy[item]), field(data.colors[item]).float() / 255
        distance = field(data["distance"][item]).float().clamp(-NEAR, NEAR) / NEAR
        sign = torch.tensor([-1.0 if mirror else 1.0, 1, 1], device=self.device)
        seen = field(data["seen"][item, view], 2).float() * sign
        visible = seen[..., 0].isfinite()
        angles = data["views"][item, view].float().to(self.device) * torch.tensor([sign[0], 1], device=self.device)
        with mixed_precision(self.device):
            registers, patches = cond[:, 1:].split([BLOCKS**3, (PATCHES // 2) ** 2], 1)
            (logits, far, paint), image = heads.space(registers), heads.image(patches)
            whole = heads.whole(cond[:, 0]).float()
        losses = {
            "occupancy": binary_cross_entropy_with_logits(logits, occupied.float()),
            "distance": smooth_l1_loss(far, distance, beta=0.1),
            "color": (paint - color)[occupied].abs().mean(),
            "seen": smooth_l1_loss(image[..., :3][visible], seen[visible], beta=0.05)
            + 0.1 * binary_cross_entropy_with_logits(image[..., 3], visible.float()),
            "view": smooth_l1_loss(whole[:, -2:], angles / 30, beta=0.1),
            "category": cross_entropy(whole[:, :-2], data["category"][item].to(self.device)),
        }
        return losses, overlap(logits > 0, occupied)


def train_conditioner(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Only the conditioner changes; writes the conditions of all photos."""
    conditioner = networks["conditioner"].train()
    heads = seeded(recipe.seed, lambda: Heads(conditioner.model.config.hidden_size)).to(conditioner.mean.device)
    loss = ConditionerLoss(conditioner, heads, data, recipe)
    parts = nn.ModuleDict({"model": conditioner.model, "heads": heads})
    conditioner.model.set_attn_implementation("eager")  # on a CPU the fused kernel is slow backwards
    curve = fit(parts, loss, recipe.conditioner.budget, scratch / "conditioner.pt", recipe.conditioner.rate)
    conditioner.model.set_attn_implementation("sdpa")
    if outdated(scratch / "conditions.npy", scratch / "conditioner.pt"):
        write_conditions(conditioner.eval(), data, scratch / "conditions.npy")
    return curve


@torch.no_grad()
def write_conditions(conditioner: ImageConditioner, data: Collection, path: Path):
    """(N, V, 2, L, C) float16: the condition of every photo, plain and mirrored."""
    photos, device = data["photos"], conditioner.mean.device
    first = conditioner(photo_pixels(conditioner, photos[0], False))
    partial = path.with_suffix(".partial")
    shape = (len(data), photos.shape[1], 2, *first.shape[1:])
    table = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for start in tqdm(range(0, len(data), ENCODED), desc="conditions", mininterval=5):
        rows = photos[start : start + ENCODED].flatten(0, 1)
        for mirror in (False, True):
            with mixed_precision(device):
                cond = conditioner(photo_pixels(conditioner, rows, mirror))
            table[start : start + ENCODED, :, int(mirror)] = (
                cond.unflatten(0, (-1, photos.shape[1])).half().cpu().numpy()
            )
    table.flush()
    partial.replace(path)
