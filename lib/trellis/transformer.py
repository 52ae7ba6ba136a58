"""The transformer blocks of all networks, and what both flows share (paper Sec. 3.2, 3.3)."""

from torch import Tensor, nn

from lib.trellis.attention import CrossAttention, SelfAttention, TokenGroups
from lib.trellis.layers import FeedForward, LayerNorm, MixedPrecision, TimestepEmbedder, head_count, require


class Block(nn.Module):
    """Plain transformer block of the SLAT autoencoder (paper Sec. 3.2)."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float, qk_rms_norm: bool = False):
        super().__init__()
        self.norm1 = LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.attn = SelfAttention(channels, heads, qk_rms_norm)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor, groups: TokenGroups | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), groups)
        return x + self.mlp(self.norm2(x))


def modulation_layer(channels: int) -> nn.Sequential:
    """Time embedding [B, C] to shift, scale and gate of the two modulated sub-layers [B, 6 C] (adaLN)."""
    return nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))


class ModulatedCrossBlock(nn.Module):
    """Diffusion transformer block with cross-attention to the condition (paper Sec. 3.3).

    Self-attention and MLP are shifted, scaled and gated by the time embedding; cross-attention is not.
    """

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        heads: int,
        mlp_ratio: float,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        share_mod: bool = False,
    ):
        super().__init__()
        self.norm1 = LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm(channels, eps=1e-6)
        self.norm3 = LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, heads, qk_rms_norm)
        self.cross_attn = CrossAttention(channels, cond_channels, heads, qk_rms_norm_cross)
        self.mlp = FeedForward(channels, mlp_ratio)
        if not share_mod:
            self.adaLN_modulation = modulation_layer(channels)
        self.share_mod = share_mod

    def forward(self, x: Tensor, e: Tensor, cond: Tensor, groups: TokenGroups | None = None) -> Tensor:
        """x [B, N, C] or [T, C]; e the time embedding [B, C], or with `share_mod` the modulation itself [B, 6 C]."""
        modulation = e if self.share_mod else self.adaLN_modulation(e)
        modulation = modulation[:, None] if groups is None else groups.spread(modulation)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        x = x + gate1 * self.self_attn(self.norm1(x) * (1 + scale1) + shift1, groups)
        x = x + self.cross_attn(self.norm2(x), cond, groups)
        return x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)


class FlowTransformer(MixedPrecision):
    """Time embedding and modulated blocks; with `share_mod` one modulation serves all blocks."""

    def __init__(
        self,
        model_channels: int,
        cond_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int | None = 64,
        mlp_ratio: float = 4,
        pe_mode: str = "ape",
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
    ):
        super().__init__()
        require("pe_mode", pe_mode, ("ape",))
        heads = head_count(model_channels, num_heads, num_head_channels)
        block = model_channels, cond_channels, heads, mlp_ratio, qk_rms_norm, qk_rms_norm_cross, share_mod
        self.t_embedder = TimestepEmbedder(model_channels)
        self.adaLN_modulation = modulation_layer(model_channels) if share_mod else None
        self.blocks = nn.ModuleList(ModulatedCrossBlock(*block) for _ in range(num_blocks))

    def transform(self, tokens: Tensor, e: Tensor, cond: Tensor, groups: TokenGroups | None = None) -> Tensor:
        """Run all blocks on tokens in the torso's type; time embedding e [B, C], cond [B, L, cond channels]."""
        e = (e if self.adaLN_modulation is None else self.adaLN_modulation(e)).to(self.dtype)
        cond = cond.to(self.dtype)
        for block in self.blocks:
            tokens = block(tokens, e, cond, groups)
        return tokens
