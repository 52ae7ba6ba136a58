"""Attention inside groups of tokens, dense or packed (paper Sec. 3.2, 3.3).

Dense tokens are [B, N, C] (`groups` = None). Packed tokens are [T, C] with a `TokenGroups` that says who sees whom.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.layers import HeadRMSNorm


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v for q [B, N, heads, head_dim] and k, v [B, M, heads, head_dim].

    mask: bool [B, M], False for keys that nobody sees.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else mask[:, None, None]
    small = q.shape[-2] * k.shape[-2] <= 2**20
    if small and q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
        # on a CPU the backward of the fused kernel is two to three times slower than that of plain softmax
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
        scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        out = scores.softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2)


def take(x: Tensor, index: Tensor) -> Tensor:
    """x[index] for an index of any shape; its backward is far faster on a CPU than that of the bracket."""
    return x.index_select(0, index.flatten()).unflatten(0, index.shape)


@dataclass(frozen=True)
class Bucket:
    """Groups of about one size: their numbers [G], rows [G, L] padded with any row, and which are no padding [G, L]."""

    groups: Tensor
    rows: Tensor
    present: Tensor


class TokenGroups:
    """Packed tokens [T, ...] in groups of different sizes; tokens attend inside their group.

    Groups are padded together with groups of nearly their size (19% at most), so one window of 400 voxels
    does not make every window of 20 pay for 400.
    """

    def __init__(self, group: Tensor, n_groups: int):
        """group: int64 [T], the group of each token, in [0, n_groups)."""
        self.group = group
        order = group.argsort(stable=True)
        counts = torch.bincount(group, minlength=n_groups)
        starts = counts.cumsum(0) - counts
        size_class = (4 * counts.clamp(min=1).float().log2()).ceil() * (counts > 0)
        size_class[counts == 0] = -1
        self.buckets = []
        for value in size_class.unique().tolist():
            if value < 0:
                continue
            groups = (size_class == value).nonzero().flatten()
            slot = torch.arange(int(counts[groups].max()), device=group.device)
            present = slot < counts[groups, None]
            rows = order[torch.where(present, starts[groups, None] + slot, 0)]
            self.buckets.append(Bucket(groups, rows, present))
        packed = [bucket.rows[bucket.present] for bucket in self.buckets]
        self.restore = torch.cat(packed).argsort() if packed else order

    def spread(self, x: Tensor) -> Tensor:
        """Per-group values [G, ...] to per-token values [T, ...]."""
        return x.index_select(0, self.group)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [T, heads, head_dim]; k and v like q, or [G, M, heads, head_dim] when each group sees tokens of its own."""
        out = []
        for bucket in self.buckets:
            own = k.ndim == 4
            keys, values = (take(x, bucket.groups if own else bucket.rows) for x in (k, v))
            mask = None if own or bucket.present.all() else bucket.present
            out.append(attend(take(q, bucket.rows), keys, values, mask).flatten(0, 1)[bucket.present.flatten()])
        return torch.cat(out).index_select(0, self.restore) if out else q


class _Attention(nn.Module):
    """What self- and cross-attention share: heads, their optional norm, output projection."""

    def __init__(self, channels: int, heads: int, qk_rms_norm: bool):
        super().__init__()
        self.heads = heads
        if qk_rms_norm:
            self.q_rms_norm = HeadRMSNorm(heads, channels // heads)
            self.k_rms_norm = HeadRMSNorm(heads, channels // heads)
        self.qk_rms_norm = qk_rms_norm
        self.to_out = nn.Linear(channels, channels)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, groups: TokenGroups | None) -> Tensor:
        if self.qk_rms_norm:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        out = attend(q, k, v) if groups is None else groups.attend(q, k, v)
        return self.to_out(out.flatten(-2))


class SelfAttention(_Attention):
    """Tokens attend to each other (inside their group)."""

    def __init__(self, channels: int, heads: int, qk_rms_norm: bool = False):
        super().__init__(channels, heads, qk_rms_norm)
        self.to_qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x: Tensor, groups: TokenGroups | None = None) -> Tensor:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.mix(q, k, v, groups)


class CrossAttention(_Attention):
    """Tokens attend to their item's condition tokens [B, L, condition channels]."""

    def __init__(self, channels: int, cond_channels: int, heads: int, qk_rms_norm: bool = False):
        super().__init__(channels, heads, qk_rms_norm)
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(cond_channels, 2 * channels)

    def forward(self, x: Tensor, cond: Tensor, groups: TokenGroups | None = None) -> Tensor:
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(cond).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return self.mix(q, k, v, groups)
