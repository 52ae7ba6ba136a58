"""Stage 2: rectified-flow transformer over the structured latents of the occupied voxels (paper Sec. 3.3).

Sparse convolutions pack each 2x2x2 of voxels into one token before the transformer and unpack it behind, with skip
connections between the two sides.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import BadInput
from lib.trellis.layers import LayerNorm, position_embedding, zero
from lib.trellis.sparse import SparseTensor, batch_groups, downsample, neighbors, upsample
from lib.trellis.sparse_conv import SparseConv3d
from lib.trellis.transformer import FlowTransformer


class SparseResBlock3d(nn.Module):
    """Two sparse convolutions, the second scaled and shifted by the time embedding, after an optional resampling."""

    def __init__(self, channels: int, emb_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = LayerNorm(channels, eps=1e-6)
        self.norm2 = LayerNorm(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels, 3)
        self.conv2 = zero(SparseConv3d(out_channels, out_channels, 3))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.skip_connection = nn.Linear(channels, out_channels) if channels != out_channels else nn.Identity()

    def forward(self, x: SparseTensor, e: Tensor) -> SparseTensor:
        """Features [T, channels] to [T, out_channels], e [B, emb_channels]."""
        scale, shift = self.emb_layers(e).index_select(0, x.batch).chunk(2, dim=-1)
        h = self.conv1(F.silu(self.norm1(x.feats)), neighbors(x))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift), neighbors(x))
        return x.with_feats(h + self.skip_connection(x.feats))


class SLatFlowModel(FlowTransformer):
    """Velocity of the structured latents.

    `io_block_channels` [c1, ...] has one entry per halving of the grid (patch_size = 2 per halving); None runs the
    transformer on the voxels themselves, whatever the patch_size (2 by default, as published).
    """

    torso = ("input_blocks", "blocks", "out_blocks")

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        patch_size: int = 2,
        num_io_res_blocks: int = 2,
        io_block_channels: list[int] | None = None,
        use_skip_connection: bool = True,
        use_fp16: bool = False,
        **transformer,
    ):
        super().__init__(model_channels, cond_channels, num_blocks, **transformer)
        widths = [*(io_block_channels or []), model_channels]
        if io_block_channels and patch_size != 2 ** len(io_block_channels):
            raise BadInput("patch_size", f"{patch_size} with io_block_channels {io_block_channels}", "Use 2 per level.")
        self.resolution, self.in_channels, self.use_skip_connection = resolution, in_channels, use_skip_connection
        self.input_layer = nn.Linear(in_channels, widths[0])
        self.input_blocks, self.out_blocks = nn.ModuleList(), nn.ModuleList()
        wider = 2 if use_skip_connection else 1
        self.halving, self.doubling = set(), set()  # positions of the blocks that resample first
        for width, following in pairwise(widths):
            for _ in range(num_io_res_blocks - 1):
                self.input_blocks.append(SparseResBlock3d(width, model_channels, width))
            self.halving.add(len(self.input_blocks))
            self.input_blocks.append(SparseResBlock3d(width, model_channels, following))
        for width, previous in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.doubling.add(len(self.out_blocks))
            self.out_blocks.append(SparseResBlock3d(previous * wider, model_channels, width))
            for _ in range(num_io_res_blocks - 1):
                self.out_blocks.append(SparseResBlock3d(width * wider, model_channels, width))
        self.out_layer = nn.Linear(widths[0], out_channels)
        self.finish(use_fp16)

    def forward(self, x: SparseTensor, t: Tensor, cond: Tensor) -> SparseTensor:
        """x [T, in] on resolution^3 voxels, t [B] in [0, 1000], cond [B, L, cond channels]: velocity [T, out]."""
        embedding = self.t_embedder(t)
        e = embedding.to(self.dtype)
        h = x.with_feats(self.input_layer(x.feats).to(self.dtype))
        skips, finer = [], []
        for i, block in enumerate(self.input_blocks):
            if i in self.halving:
                fine, (h, index) = h, downsample(h)
                finer.append((fine, index))
            h = block(h, e)
            skips.append(h.feats)
        tokens = h.feats + position_embedding(h.coords[:, 1:], h.feats.shape[-1]).to(self.dtype)
        h = h.with_feats(self.transform(tokens, embedding, cond, batch_groups(h)))
        for i, block in enumerate(self.out_blocks):
            if self.use_skip_connection:
                h = h.with_feats(torch.cat([h.feats, skips.pop()], dim=1))
            if i in self.doubling:
                h = upsample(h, *finer.pop())
            h = block(h, e)
        # the release normalises here in the torso's type, unlike every other network
        return x.with_feats(self.out_layer(F.layer_norm(h.feats, h.feats.shape[-1:]).to(x.feats.dtype)))
