"""What an adapter of a flow is trained on: a photo's condition, and latents that were preferred or rejected.

Winner and loser of a pair share time and noise (Diffusion-DPO, arXiv 2311.12908), so that their errors differ by what
they are and not by what was drawn. For the structure, a dense grid, that is plain. Structured latents lie on the
voxels of their own structure, and the two of a pair need not have the same: noise is then drawn once for each voxel
that either has, and the same voxel has the same noise. On the same voxels everything is shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.losses import drop_condition, predict_velocity, sample_times, velocity_target
from lib.trellis.pipeline import Pipeline
from lib.trellis.sparse import SparseTensor, collate

Latent = Tensor | SparseTensor
ROLES = "winner", "loser"


@dataclass(frozen=True, eq=False)
class Example:
    """Condition [L, C] and latents x_0 of one photo: [C, R, R, R] of the structure, or one item [T, C], normalized.

    Either latent may be missing: fine-tuning needs no loser, and DSO rewards or punishes a sample alone.
    """

    cond: Tensor
    winner: Latent | None = None
    loser: Latent | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """Winners, then losers, each in the order of their B examples: N latents with all that a flow is asked with."""

    x_0: Latent  # [N, C, R, R, R], or N sparse items
    noise: Tensor  # like x_0 or its features
    t: Tensor  # [N]
    cond: Tensor  # [N, L, C]
    winners: int  # how many of the N are winners


def structured_latent(pipeline: Pipeline, voxels: Tensor, feats: Tensor) -> SparseTensor:
    """A sample's voxels [T, 3] and latents [T, C], as `Pipeline.sample` gives them, as the x_0 of its flow."""
    coords = F.pad(voxels.int(), (1, 0))
    return SparseTensor((feats.float() - pipeline.mean.cpu()) / pipeline.std.cpu(), coords, 1)


def make_batch(
    examples: Sequence[Example], generator: torch.Generator, drop: float = 0.0, t: float | None = None, device="cpu"
) -> Batch:
    """Examples with noise and times drawn on the CPU, so the same on every device.

    drop: share of the examples whose condition is replaced by zeros. t: the time of all; None draws one an example.
    """
    named = [(i, one, role) for role in ROLES for i, one in enumerate(examples) if getattr(one, role) is not None]
    latents = [getattr(one, role) for _, one, role in named]
    owner = torch.tensor([i for i, _, _ in named])
    x_0 = collate(latents) if isinstance(latents[0], SparseTensor) else torch.stack(latents).float()
    times = sample_times(len(examples), generator) if t is None else torch.full((len(examples),), t)
    dropped = torch.rand(len(examples), generator=generator) < drop
    cond = drop_condition(torch.stack([one.cond for one in examples]).float(), dropped)
    noise = shared_noise(x_0, owner, generator)
    if isinstance(x_0, SparseTensor):
        x_0 = SparseTensor(x_0.feats.to(device), x_0.coords.to(device), x_0.batch_size)
    else:
        x_0 = x_0.to(device)
    winners = sum(role == "winner" for _, _, role in named)
    return Batch(x_0, noise.to(device), times[owner].to(device), cond[owner].to(device), winners)


def shared_noise(x_0: Latent, owner: Tensor, generator: torch.Generator) -> Tensor:
    """Noise like x_0 or its features, the same for latents of one owner [N], voxel by voxel where they are sparse."""
    if isinstance(x_0, SparseTensor):
        x, y, z = x_0.coords[:, 1:].long().T
        side = int(x_0.coords[:, 1:].max()) + 1
        cells, row = torch.unique(((owner[x_0.batch] * side + x) * side + y) * side + z, return_inverse=True)
        return torch.randn(len(cells), x_0.feats.shape[1], generator=generator)[row]
    return torch.randn(int(owner.max()) + 1, *x_0.shape[1:], generator=generator)[owner]


def velocity_errors(flow: nn.Module, batch: Batch, reduction: str) -> Tensor:
    """Squared error of the flow's velocity for each latent [N]; reduction over its elements: "sum" or "mean"."""
    return squared_errors(predict_velocity(flow, batch.x_0, batch.noise, batch.t, batch.cond), batch, reduction)


def squared_errors(velocity: Tensor, batch: Batch, reduction: str) -> Tensor:
    """As `velocity_errors`, for an answer like `batch.noise`."""
    squares = (velocity.float() - velocity_target(batch.x_0, batch.noise)).square()
    if isinstance(batch.x_0, SparseTensor):
        items, n = batch.x_0.batch, batch.x_0.batch_size
        sums = squares.new_zeros(n).index_add(0, items, squares.sum(1))
        return sums if reduction == "sum" else sums / (torch.bincount(items, minlength=n) * squares.shape[1])
    return getattr(squares.flatten(1), reduction)(1)


class Probe:
    """Flow matching error at one time with fixed noise on examples that are not trained on (the paper's Mechanism).

    Calling it with a flow gives the mean squared error of each winner [N]. `blank` is the mean of answering zero: a
    flow above it knows less than nothing.
    """

    def __init__(self, examples: Sequence[Example], seed: int, t: float = 0.5, device="cpu"):
        alone = [Example(one.cond, one.winner) for one in examples]
        self.batch = make_batch(alone, torch.Generator().manual_seed(seed), t=t, device=device)
        self.blank = squared_errors(torch.zeros_like(self.batch.noise), self.batch, "mean").mean().item()

    @torch.no_grad()
    def __call__(self, flow: nn.Module) -> Tensor:
        return velocity_errors(flow, self.batch, "mean").cpu()
