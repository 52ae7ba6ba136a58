"""Structured latents to meshes: two sparse subdivisions, FlexiCubes parameters a cell, extraction (paper Sec. 3.2)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from lib.trellis.layers import zero
from lib.trellis.mesh_extraction import Mesh, cell_channels, extract_mesh
from lib.trellis.slat_vae import SparseTransformerBase
from lib.trellis.sparse import SparseTensor, neighbors, subdivide
from lib.trellis.sparse_conv import SparseConv3d, subdivided_convolution


class SparseGroupNorm(nn.GroupNorm):
    """Group norm over all voxels of an item and the channels of a group, in float32."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        lengths = torch.bincount(x.batch, minlength=x.batch_size).tolist()
        h = x.feats.float().unflatten(1, (self.num_groups, -1))
        mean = torch.stack([item.mean((0, 2)) for item in h.split(lengths)])
        h = h - mean.index_select(0, x.batch)[..., None]
        variance = torch.stack([item.square().mean((0, 2)) for item in h.split(lengths)])
        h = h * (variance + self.eps).rsqrt().index_select(0, x.batch)[..., None]
        return x.with_feats((h.flatten(1) * self.weight + self.bias).to(x.feats.dtype))


class SparseSubdivideBlock3d(nn.Module):
    """Double the grid, with two sparse convolutions behind the subdivision and a skip around them."""

    def __init__(self, channels: int, out_channels: int, num_groups: int):
        super().__init__()
        self.act_layers = nn.Sequential(SparseGroupNorm(num_groups, channels), nn.SiLU())
        self.out_layers = nn.Sequential(
            SparseConv3d(channels, out_channels, 3),
            SparseGroupNorm(num_groups, out_channels),
            nn.SiLU(),
            zero(SparseConv3d(out_channels, out_channels, 3)),
        )
        self.skip_connection = SparseConv3d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features [T, channels] to [8 T, out_channels]."""
        conv1, norm, activation, conv2 = self.out_layers
        h = F.silu(self.act_layers[0](x).feats)
        h = subdivided_convolution(h, conv1.matrices(), neighbors(x)) + conv1.conv.bias
        children = subdivide(x.with_feats(self.skip_connection(x.feats)))
        children.cached("neighbors", lambda _: neighbors(x).children)
        h = activation(norm(children.with_feats(h)).feats)
        return children.with_feats(conv2(h, neighbors(children)) + children.feats)


class SLatMeshDecoder(SparseTransformerBase):
    """Structured latents [T, latent] on resolution^3 voxels to a mesh an item, extracted at (4 * resolution)^3.

    `num_groups` is 32 in the release and then asks for a width that is a multiple of 256.
    """

    torso = ("blocks", "upsample")

    def __init__(
        self,
        resolution: int,
        model_channels: int,
        latent_channels: int,
        num_blocks: int,
        representation_config: dict | None = None,
        use_fp16: bool = False,
        num_groups: int = 32,
        **transformer,
    ):
        super().__init__(latent_channels, model_channels, num_blocks, **transformer)
        self.resolution = 4 * resolution
        use_color = (representation_config or {}).get("use_color", False)
        widths = model_channels, model_channels // 4, model_channels // 8
        self.upsample = nn.ModuleList(
            SparseSubdivideBlock3d(width, following, num_groups) for width, following in pairwise(widths)
        )
        self.out_layer = nn.Linear(widths[-1], cell_channels(use_color))
        self.finish(use_fp16)

    def cells(self, x: SparseTensor) -> SparseTensor:
        """FlexiCubes parameters [64 T, 101] of the fine cells (53 without color); layout in `mesh_extraction`."""
        h = self.transform(x)
        for block in self.upsample:
            h = block(h)
        return h.with_feats(self.out_layer(h.feats.to(x.feats.dtype)))

    def forward(self, x: SparseTensor, training: bool = False, fill_interior: bool = False) -> list[Mesh]:
        """The mesh of each item; see `extract_mesh`."""
        return [
            extract_mesh(item.coords[:, 1:], item.feats, self.resolution, training, fill_interior, block=4)
            for item in self.cells(x).items()
        ]
