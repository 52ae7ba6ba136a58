"""The transformer that encoder and decoders of the structured latents share, and the encoder (paper Sec. 3.2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.layers import MixedPrecision, head_count, position_embedding, require
from lib.trellis.sparse import SparseTensor, batch_groups, window_groups
from lib.trellis.transformer import Block


class SparseTransformerBase(MixedPrecision):
    """Transformer over voxels, attending in windows that shift by half in every other block, or over the whole item."""

    def __init__(
        self,
        in_channels: int,
        model_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int | None = 64,
        mlp_ratio: float = 4,
        attn_mode: str = "swin",
        window_size: int = 8,
        pe_mode: str = "ape",
        qk_rms_norm: bool = False,
    ):
        super().__init__()
        require("pe_mode", pe_mode, ("ape",))
        require("attn_mode", attn_mode, ("swin", "full"))
        self.attn_mode, self.window_size = attn_mode, window_size
        heads = head_count(model_channels, num_heads, num_head_channels)
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.blocks = nn.ModuleList(Block(model_channels, heads, mlp_ratio, qk_rms_norm) for _ in range(num_blocks))

    def transform(self, x: SparseTensor) -> SparseTensor:
        """Features [T, in] to [T, C], in the torso's type."""
        h = self.input_layer(x.feats)
        h = (h + position_embedding(x.coords[:, 1:], h.shape[-1])).to(self.dtype)
        for i, block in enumerate(self.blocks):
            shift = self.window_size // 2 * (i % 2)
            groups = batch_groups(x) if self.attn_mode == "full" else window_groups(x, self.window_size, shift)
            h = block(h, groups)
        return x.with_feats(h)


class SLatEncoder(SparseTransformerBase):
    """Image features pooled on the occupied voxels to structured latents."""

    def __init__(
        self,
        resolution: int,
        in_channels: int,
        model_channels: int,
        latent_channels: int,
        num_blocks: int,
        use_fp16: bool = False,
        **transformer,
    ):
        super().__init__(in_channels, model_channels, num_blocks, **transformer)
        self.resolution = resolution
        self.out_layer = nn.Linear(model_channels, 2 * latent_channels)
        self.finish(use_fp16)

    def posterior(self, x: SparseTensor) -> tuple[Tensor, Tensor]:
        """Features [T, in] on resolution^3 voxels to mean and log-variance [T, latent]."""
        h = self.transform(x).feats.to(x.feats.dtype)
        mean, logvar = self.out_layer(F.layer_norm(h, h.shape[-1:])).chunk(2, dim=-1)
        return mean, logvar

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The posterior mean, a sparse tensor [T, latent]."""
        return x.with_feats(self.posterior(x)[0])
