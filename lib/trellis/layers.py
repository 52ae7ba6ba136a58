"""Layers shared by the dense and the sparse networks: norms, MLP, embeddings, and the 16-bit torso.

Every norm computes in float32 and returns the type it was given, so that a 16-bit torso stays stable.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import BadInput
from lib.trellis.sparse_conv import SparseConv3d


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class ChannelLayerNorm(LayerNorm):
    """Layer norm over the channel axis of a dense grid [B, C, X, Y, Z], voxel by voxel (eps 1e-5)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GroupNorm(nn.GroupNorm):
    """Group norm of a dense grid [B, C, ...], in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class HeadRMSNorm(nn.Module):
    """x [..., heads, head_dim] to unit root mean square in every head, times a learned gamma [heads, head_dim]."""

    def __init__(self, heads: int, head_dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return (F.normalize(x.float(), dim=-1) * self.gamma * math.sqrt(x.shape[-1])).to(x.dtype)


class FeedForward(nn.Module):
    """Linear, GELU (tanh approximation), Linear; the hidden width is `ratio` times the width."""

    def __init__(self, channels: int, ratio: float):
        super().__init__()
        hidden = int(channels * ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


def timestep_features(t: Tensor, channels: int) -> Tensor:
    """[cos(t f) | sin(t f)] of times t [B] in [0, 1000], with f from 1 down to 1/10000: [B, channels]."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Times [B] (1000 = noise, 0 = data) to embeddings [B, channels]."""

    def __init__(self, channels: int, features: int = 256):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(features, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_features(t, self.mlp[0].in_features))


def position_embedding(coords: Tensor, channels: int) -> Tensor:
    """Sines and cosines of integer grid coordinates [N, 3], axis after axis, padded with zeros: [N, channels]."""
    n = channels // 3 // 2
    frequencies = 1.0 / 10000 ** (torch.arange(n, dtype=torch.float32, device=coords.device) / n)
    angles = coords[:, :, None].float() * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(waves, (0, channels - waves.shape[1]))


def grid_coords(resolution: int, device=None) -> Tensor:
    """Coordinates of all cells of a cubic grid, z fastest: int64 [resolution^3, 3]."""
    axis = torch.arange(resolution, device=device)
    return torch.cartesian_prod(axis, axis, axis)


class MixedPrecision(nn.Module):
    """A network whose large sub-modules (named in `torso`) hold their linear and convolution weights in 16 bits.

    `dtype` is the torso's type. Norms and everything outside the torso stay in float32.
    """

    torso: tuple[str, ...] = ("blocks",)
    dtype = torch.float32

    def set_torso_dtype(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        for name in self.torso:
            for module in getattr(self, name).modules():
                if isinstance(module, nn.Linear | nn.Conv3d | SparseConv3d):
                    module.to(dtype)

    def finish(self, use_fp16: bool) -> None:
        """Last line of every constructor: initialise the linears and set the type of the torso."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for name, module in self.named_modules():
            if name.endswith(("t_embedder.mlp.0", "t_embedder.mlp.2")):
                nn.init.normal_(module.weight, std=0.02)
            elif name == "out_layer" or name.endswith("adaLN_modulation.1"):
                zero(module)
        self.set_torso_dtype(torch.float16 if use_fp16 else torch.float32)


def zero(module: nn.Module) -> nn.Module:
    """The module with all its parameters set to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def head_count(channels: int, num_heads: int | None, num_head_channels: int | None) -> int:
    """Number of attention heads; either count or width of a head may be left out (published configurations do)."""
    return num_heads or channels // (num_head_channels or 64)


def require(name: str, value, allowed: tuple) -> None:
    """Refuse a constructor argument that this implementation does not have."""
    if value not in allowed:
        raise BadInput(name, f"{value!r} is not supported", f"Use one of {', '.join(map(repr, allowed))}.")
