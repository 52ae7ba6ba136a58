"""Stage 2's flow: it learns to sample the structured latents of the given cells from a photo's condition."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib.generator.collection import Collection
from lib.generator.recipe import Recipe
from lib.generator.slat import EVERY, Latents
from lib.placement import mixed_precision
from lib.training import fit
from lib.trellis.losses import drop_condition, flow_matching_loss, sample_times


class FlowLoss:
    """Flow matching on the normalised latents, each object with the condition of one of its photos."""

    def __init__(self, networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path):
        self.flow, self.data, self.recipe = networks["slat_flow_model"], data, recipe
        self.latents, self.conditions = Latents(data, scratch), np.load(scratch / "conditions.npy", mmap_mode="r")
        self.device = next(self.flow.parameters()).device

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng, slat = np.random.default_rng([self.recipe.seed, 5, step]), self.recipe.slat
        mirror = bool(rng.random() < 0.5)
        loss = self.loss(self.data.draw(slat.flow_batch, rng).tolist(), mirror, rng)
        values = {"loss": loss.item()}
        if step % EVERY == 0:  # at the same times, with the same noise
            with torch.no_grad():
                held = self.data.held[: 2 * slat.flow_batch].tolist()
                values["loss, held out"] = self.loss(held, False, np.random.default_rng(self.recipe.seed)).item()
        return loss, values

    def loss(self, items: Sequence[int], mirror: bool, rng: np.random.Generator) -> Tensor:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        x_0 = self.latents(items, mirror, self.device)
        noise = torch.randn(x_0.feats.shape, generator=generator).to(self.device)
        t = sample_times(len(items), generator).to(self.device)
        views = rng.integers(self.conditions.shape[1], size=len(items))
        cond = np.stack([self.conditions[i, view, int(mirror)] for i, view in zip(items, views, strict=True)])
        drop = torch.from_numpy(rng.random(len(items)) < self.recipe.slat.drop)
        cond = drop_condition(torch.from_numpy(cond).float(), drop).to(self.device)
        with mixed_precision(self.device):
            return flow_matching_loss(self.flow, x_0, noise, t, cond)


def train_slat_flow(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Only the flow changes; needs the conditions and the latents."""
    loss = FlowLoss(networks, data, recipe, scratch)
    parts = nn.ModuleDict({"flow": loss.flow})
    return fit(parts, loss, recipe.slat.flow_budget, scratch / "slat_flow.pt", recipe.slat.flow_rate, decay=0)
