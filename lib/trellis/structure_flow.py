"""Stage 1: rectified-flow transformer over the latent grid of the occupied voxels (paper Sec. 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.layers import grid_coords, position_embedding
from lib.trellis.transformer import FlowTransformer


class SparseStructureFlowModel(FlowTransformer):
    """Velocity of the structure latent, seen as (resolution / patch_size)^3 tokens."""

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        patch_size: int = 2,
        use_fp16: bool = False,
        **transformer,
    ):
        super().__init__(model_channels, cond_channels, num_blocks, **transformer)
        self.resolution, self.in_channels, self.patch_size = resolution, in_channels, patch_size
        self.register_buffer("pos_emb", position_embedding(grid_coords(resolution // patch_size), model_channels))
        self.input_layer = nn.Linear(in_channels * patch_size**3, model_channels)
        self.out_layer = nn.Linear(model_channels, out_channels * patch_size**3)
        self.finish(use_fp16)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """x [B, in, R, R, R], t [B] in [0, 1000], cond [B, L, cond channels]: velocity [B, out, R, R, R]."""
        h = self.input_layer(patchify(x, self.patch_size)) + self.pos_emb
        h = self.transform(h.to(self.dtype), self.t_embedder(t), cond).to(x.dtype)
        h = self.out_layer(F.layer_norm(h, h.shape[-1:]))
        return unpatchify(h, self.resolution, self.patch_size)


def patchify(x: Tensor, patch: int) -> Tensor:
    """[B, C, R, R, R] to tokens [B, (R / patch)^3, C * patch^3]."""
    x = x.unfold(2, patch, patch).unfold(3, patch, patch).unfold(4, patch, patch)
    return x.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


def unpatchify(tokens: Tensor, resolution: int, patch: int) -> Tensor:
    """Inverse of `patchify`."""
    n = resolution // patch
    x = tokens.unflatten(1, (n, n, n)).unflatten(-1, (-1, patch, patch, patch))
    return torch.einsum("bxyzcijk->bcxiyjzk", x).reshape(len(x), -1, resolution, resolution, resolution)
