"""Autoencoder between dense occupancy grid and structure latent, 64^3 <-> 16^3 in the release (paper Sec. 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.layers import ChannelLayerNorm, GroupNorm, MixedPrecision, require, zero


class ResBlock3d(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))) on a grid [B, C, X, Y, Z]."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelLayerNorm(channels), ChannelLayerNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = zero(nn.Conv3d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Downsample3d(nn.Module):
    """Halve the grid with a strided convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample3d(nn.Module):
    """Double the grid: eight times the channels, then one of eight for each child voxel (3-D pixel shuffle)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).unflatten(1, (-1, 2, 2, 2))
        b, c, *_, nx, ny, nz = h.shape
        return torch.einsum("bcijkxyz->bcxiyjzk", h).reshape(b, c, 2 * nx, 2 * ny, 2 * nz)


class _GridNetwork(MixedPrecision):
    """Layers of both halves: ResBlocks at every level with a resampling between levels, middle blocks, and a head.

    `num_groups` (32 in the release) counts for norm_type "group" only.
    """

    torso = ("blocks", "middle_block")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: list[int],
        middle_channels: int,
        resample: type[nn.Module],
        num_res_blocks: int,
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        num_groups: int = 32,
        use_fp16: bool = False,
    ):
        super().__init__()
        require("norm_type", norm_type, ("layer", "group"))
        last = channels[-1]
        norm = ChannelLayerNorm(last) if norm_type == "layer" else GroupNorm(num_groups, last)
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, following in zip(channels, [*channels[1:], None], strict=True):
            self.blocks.extend(ResBlock3d(width) for _ in range(num_res_blocks))
            if following:
                self.blocks.append(resample(width, following))
        self.middle_block = nn.Sequential(*[ResBlock3d(middle_channels) for _ in range(num_res_blocks_middle)])
        self.out_layer = nn.Sequential(norm, nn.SiLU(), nn.Conv3d(last, out_channels, 3, padding=1))
        self.set_torso_dtype(torch.float16 if use_fp16 else torch.float32)


class SparseStructureEncoder(_GridNetwork):
    """Occupancy to structure latent."""

    def __init__(self, in_channels: int, latent_channels: int, channels: list[int], **network):
        super().__init__(in_channels, 2 * latent_channels, channels, channels[-1], Downsample3d, **network)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Occupancy [B, 1, N, N, N] to mean and log-variance [B, latent, n, n, n]."""
        h = self.input_layer(x).to(self.dtype)
        for block in self.blocks:
            h = block(h)
        mean, logvar = self.out_layer(self.middle_block(h).to(x.dtype)).chunk(2, dim=1)
        return mean, logvar

    def forward(self, x: Tensor) -> Tensor:
        """The posterior mean [B, latent, n, n, n] of occupancy [B, 1, N, N, N]."""
        return self.posterior(x)[0]


class SparseStructureDecoder(_GridNetwork):
    """Structure latent to occupancy logits; a voxel is occupied where the logit is positive."""

    def __init__(self, out_channels: int, latent_channels: int, channels: list[int], **network):
        super().__init__(latent_channels, out_channels, channels, channels[0], Upsample3d, **network)

    def forward(self, z: Tensor) -> Tensor:
        """Latent [B, latent, n, n, n] to logits [B, 1, N, N, N]."""
        h = self.middle_block(self.input_layer(z).to(self.dtype))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(z.dtype))
