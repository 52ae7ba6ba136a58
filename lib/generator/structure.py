"""Stage 1: the occupancy's autoencoder, and the flow of its latents given a photo's condition.

Procedural photos and objects match perfectly, and a flow trained on perfect pairs needs no guidance: it takes from the
photo whatever there is to take in its first step, so that 2 steps without guidance are as good as 25 with it. Models
trained on collected pairs underuse their condition, and guidance makes up for that (Ho and Salimans, 2022, arXiv
2207.12598). So some conditions here are of another object (`Structure.mismatch`): without guidance the flow hedges
between the photo and any furniture at all, and guidance of about the published strength brings it back.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from lib.generator.collection import Collection
from lib.generator.conditioner import overlap
from lib.generator.recipe import Recipe
from lib.placement import mixed_precision
from lib.training import fit, outdated
from lib.trellis.losses import (
    drop_condition,
    posterior_sample,
    predict_velocity,
    sample_times,
    structure_vae_loss,
    velocity_target,
)
from lib.trellis.samplers import sample_flow

EVERY, SAMPLED = 500, 32  # steps between examinations on objects that are not trained on; how many are sampled
ENCODED, MEASURED = 128, 1024  # occupancies in one call, and in the measurement of the latents' spread


class StructureVaeLoss:
    """The autoencoder's loss as a function of the step."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, data: Collection, recipe: Recipe):
        self.encoder, self.decoder, self.data, self.recipe = encoder, decoder, data, recipe
        self.device = next(encoder.parameters()).device

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng, recipe = np.random.default_rng([self.recipe.seed, 2, step]), self.recipe.structure
        occupancy = self.data.occupancy[self.data.draw(recipe.vae_batch, rng)][:, None].to(self.device)
        if rng.random() < 0.5:
            occupancy = occupancy.flip(2)
        draws = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with mixed_precision(self.device):
            mean, logvar = self.encoder.posterior(occupancy.float())
            mean, logvar = mean.float(), logvar.float()
            noise = torch.randn(mean.shape, generator=draws).to(self.device)
            logits = self.decoder(posterior_sample(mean, logvar, noise)).float()
        loss = structure_vae_loss(logits, occupancy.float(), mean, logvar, lambda_kl=recipe.kl)
        values = {"loss": loss.item(), "IoU": overlap(logits > 0, occupancy)}
        values |= {"spread of the mean": mean.std().item(), "noise": torch.exp(logvar / 2).mean().item()}
        if step % EVERY == 0:
            values["IoU, held out"] = self.examine()
        return loss, values

    @torch.no_grad()
    def examine(self) -> float:
        occupancy = self.data.occupancy[self.data.held][:, None].to(self.device)
        with mixed_precision(self.device):
            return overlap(self.decoder(self.encoder(occupancy.float())) > 0, occupancy)


def train_structure_vae(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Encoder and decoder of the occupancy; writes the latents of all objects, which have a spread of 1."""
    encoder, decoder = (networks[f"sparse_structure_{half}"] for half in ("encoder", "decoder"))
    parts = nn.ModuleDict({"encoder": encoder, "decoder": decoder}).train().requires_grad_(True)
    loss, structure = StructureVaeLoss(encoder, decoder, data, recipe), recipe.structure
    curve = fit(parts, loss, structure.vae_budget, scratch / "structure_vae.pt", structure.vae_rate)
    rescale(encoder, decoder, encode(encoder, data.occupancy[:MEASURED]).std())
    if outdated(scratch / "structure_latents.npy", scratch / "structure_vae.pt"):
        partial = scratch / "structure_latents.partial.npy"
        np.save(partial, encode(encoder, data.occupancy).half().numpy())
        partial.replace(scratch / "structure_latents.npy")
    return curve


@torch.no_grad()
def encode(encoder: nn.Module, occupancy: Tensor) -> Tensor:
    """(N, 2, C, n, n, n) float32: latents of occupancies (N,16,16,16), plain and mirrored."""
    device, done = next(encoder.parameters()).device, []
    for rows in tqdm(occupancy.split(ENCODED), desc="structure latents", mininterval=5):
        both = torch.stack([rows, rows.flip(1)], 1).flatten(0, 1)[:, None].float().to(device)
        with mixed_precision(device):
            done.append(encoder(both).float().unflatten(0, (-1, 2)).cpu())
    return torch.cat(done)


@torch.no_grad()
def rescale(encoder: nn.Module, decoder: nn.Module, spread: Tensor):
    """Divides all latents by `spread`, inside the networks: the pipeline does not normalise structure latents."""
    mean = slice(encoder.out_layer[-1].out_channels // 2)  # the other half is the log-variance
    encoder.out_layer[-1].weight[mean] /= spread
    encoder.out_layer[-1].bias[mean] /= spread
    encoder.out_layer[-1].bias[mean.stop :] -= 2 * spread.log()
    decoder.input_layer.weight *= spread


class StructureFlowLoss:
    """The flow's loss as a function of the step. latents, conditions: as the stages before wrote them."""

    def __init__(
        self,
        flow: nn.Module,
        decoder: nn.Module,
        latents: np.ndarray,
        conditions: np.ndarray,
        data: Collection,
        recipe: Recipe,
    ):
        self.flow, self.decoder, self.latents, self.conditions = flow, decoder, latents, conditions
        self.data, self.recipe, self.device = data, recipe, next(flow.parameters()).device

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng, count = np.random.default_rng([self.recipe.seed, 3, step]), self.recipe.structure.flow_batch
        item, mirror = self.data.draw(count, rng).numpy(), rng.integers(2, size=count)
        drop = torch.from_numpy(rng.random(count) < self.recipe.structure.drop)
        view = rng.integers(self.conditions.shape[1], size=count)
        draws = torch.Generator().manual_seed(int(rng.integers(2**31)))
        shown = np.where(rng.random(count) < self.recipe.structure.mismatch, np.roll(item, 1), item)
        loss = self.error(item, shown, view, mirror, drop, draws)
        values = {"loss": loss.item()}
        return loss, values | (self.examine() if step % EVERY == 0 else {})

    @torch.no_grad()
    def examine(self) -> dict[str, float]:
        """On the first photos of objects that are not trained on, always with the same noise: the loss, and the IoU of
        samples as the pipeline draws them, with the right photos and with each other's."""
        item, draws = self.data.held.numpy(), torch.Generator().manual_seed(0)
        nothing = np.zeros_like(item)
        loss = self.error(item, item, nothing, nothing, torch.zeros(len(item), dtype=torch.bool), draws)
        cond = torch.from_numpy(self.conditions[item[:SAMPLED], 0, 0]).float().to(self.device)
        noise = torch.randn(self.latents[item[:SAMPLED], 0].shape, generator=draws).to(self.device)
        settings = self.recipe.structure_sampler["args"] | self.recipe.structure_sampler["params"]
        with mixed_precision(self.device):
            latent = sample_flow(self.flow, noise, cond, torch.zeros_like(cond), **settings).sample
            found = self.decoder(latent)[:, 0] > 0
        true = self.data.occupancy[item[:SAMPLED]].to(self.device)
        sampled = {"IoU": overlap(found, true), "IoU, other photo": overlap(found, true.roll(1, 0))}
        return {"loss, held out": loss.item()} | sampled

    def error(self, item, shown, view, mirror, drop: Tensor, draws: torch.Generator) -> Tensor:
        """item: whose latents; shown: whose photos."""
        x_0 = torch.from_numpy(self.latents[item, mirror]).float()
        cond = drop_condition(torch.from_numpy(self.conditions[shown, view, mirror]).float(), drop)
        noise, t = torch.randn(x_0.shape, generator=draws), sample_times(len(x_0), draws)
        x_0, cond, noise, t = (tensor.to(self.device) for tensor in (x_0, cond, noise, t))
        with mixed_precision(self.device):
            velocity = predict_velocity(self.flow, x_0, noise, t, cond)
        return mse_loss(velocity.float(), velocity_target(x_0, noise))


def train_structure_flow(networks: nn.ModuleDict, data: Collection, recipe: Recipe, scratch: Path) -> pd.DataFrame:
    """Only the flow changes. Needs the latents and the conditions."""
    flow, structure = networks["sparse_structure_flow_model"].train().requires_grad_(True), recipe.structure
    latents = np.load(scratch / "structure_latents.npy")
    conditions = np.load(scratch / "conditions.npy", mmap_mode="r")
    loss = StructureFlowLoss(flow, networks["sparse_structure_decoder"], latents, conditions, data, recipe)
    parts = nn.ModuleDict({"flow": flow})
    return fit(parts, loss, structure.flow_budget, scratch / "structure_flow.pt", structure.flow_rate)
