"""Sparse voxel tensors: features on listed cells of a grid, and what depends on the cells alone.

Neighbors, attention groups and coarser cells are found once per set of cells and kept in a cache that every tensor on
the same cells shares; the forty or so model calls of one sample then pay for them once.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lib.trellis.attention import TokenGroups
from lib.trellis.sparse_conv import KernelMap


@dataclass(frozen=True)
class SparseTensor:
    """Features `feats` [T, ...] on cells `coords` int32 [T, 4] = (batch, x, y, z), each item's rows contiguous.

    The order of rows inside an item is free and kept by every layer.
    """

    feats: Tensor
    coords: Tensor
    batch_size: int = 0  # 0: as many items as the coordinates name
    cache: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if not self.batch_size:
            object.__setattr__(self, "batch_size", int(self.coords[:, 0].max()) + 1 if len(self.coords) else 0)

    def with_feats(self, feats: Tensor) -> "SparseTensor":
        """Other features on the same cells."""
        return replace(self, feats=feats)

    def cached(self, key, make):
        """What `make` returns for these cells, computed once."""
        if key not in self.cache:
            self.cache[key] = make(self)
        return self.cache[key]

    @property
    def batch(self) -> Tensor:
        """Item of each row, int64 [T]."""
        return self.cached("batch", lambda x: x.coords[:, 0].long())

    def slices(self) -> list[slice]:
        """Rows of each item."""
        ends = torch.bincount(self.batch, minlength=self.batch_size).cumsum(0).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def items(self) -> list["SparseTensor"]:
        """One tensor an item, each with batch index 0."""
        offset = self.coords.new_tensor([1, 0, 0, 0])
        return [SparseTensor(self.feats[s], self.coords[s] - i * offset, 1) for i, s in enumerate(self.slices())]


def collate(items: list[SparseTensor]) -> SparseTensor:
    """One batch of several single items."""
    coords = [torch.cat([torch.full_like(x.coords[:, :1], i), x.coords[:, 1:]], dim=1) for i, x in enumerate(items)]
    return SparseTensor(torch.cat([x.feats for x in items]), torch.cat(coords), len(items))


def _keys(coords: Tensor, side: int) -> Tensor:
    """One integer a cell, ascending in (batch, x, y, z), for coordinates in [-1, side - 2]."""
    b, x, y, z = coords.long().unbind(-1)
    return ((b * side + x + 1) * side + y + 1) * side + z + 1


def _find_neighbors(x: SparseTensor) -> KernelMap:
    side = int(x.coords[:, 1:].max()) + 3
    keys, order = _keys(x.coords, side).sort()
    steps = torch.arange(-1, 2, device=keys.device)
    offsets = ((steps[:, None, None] * side + steps[:, None]) * side + steps).flatten()
    wanted = _keys(x.coords, side)[:, None] + offsets
    place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    rows = torch.where(keys[place] == wanted, order[place], len(keys)).int()
    return KernelMap(rows, rows.flip(1))


def neighbors(x: SparseTensor) -> KernelMap:
    """Map of the 3x3x3 sub-manifold convolution, kernel cells in (x, y, z) order; rows [T, 27]."""
    return x.cached("neighbors", _find_neighbors)


def batch_groups(x: SparseTensor) -> TokenGroups:
    """Every item's voxels attend to each other."""
    return x.cached("batch groups", lambda x: TokenGroups(x.batch, x.batch_size))


def window_groups(x: SparseTensor, window: int, shift: int) -> TokenGroups:
    """Voxels of the same item and window^3 cube attend to each other; the cubes are cut on shifted coordinates."""

    def make(x: SparseTensor) -> TokenGroups:
        cubes = torch.cat([x.coords[:, :1], (x.coords[:, 1:] + shift) // window], dim=1)
        _, group = torch.unique(_keys(cubes, int(cubes[:, 1:].max()) + 3), return_inverse=True)
        return TokenGroups(group, int(group.max()) + 1)

    return x.cached(("window groups", window, shift), make)


def downsample(x: SparseTensor) -> tuple[SparseTensor, Tensor]:
    """Halve the grid: (coarse tensor with cells in (b, x, y, z) order, coarse row of each fine row [T]).

    Features are the sum over the n fine cells divided by n + 1: the published mean counts its zero start.
    """

    def make(x: SparseTensor):
        cells = torch.cat([x.coords[:, :1], x.coords[:, 1:] // 2], dim=1)
        keys = _keys(cells, int(cells[:, 1:].max()) + 3)
        _, index, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        coords = torch.empty(len(counts), 4, dtype=x.coords.dtype, device=x.coords.device)
        coords[index] = cells
        return SparseTensor(torch.empty(0), coords, x.batch_size), index, counts

    coarse, index, counts = x.cached("coarse", make)
    total = torch.zeros(len(counts), x.feats.shape[1], dtype=torch.float32, device=x.feats.device)
    total = total.index_add(0, index, x.feats.float())
    return coarse.with_feats((total / (counts + 1)[:, None]).to(x.feats.dtype)), index


def upsample(coarse: SparseTensor, fine: SparseTensor, index: Tensor) -> SparseTensor:
    """Undo `downsample`: coarse features on the cells, in the order and the batch of the fine tensor."""
    return fine.with_feats(coarse.feats.index_select(0, index))


def subdivide(x: SparseTensor) -> SparseTensor:
    """Double the grid: each row becomes 8 consecutive rows, its children in z-fastest order, features copied."""
    bits = torch.cartesian_prod(*[torch.arange(2, dtype=x.coords.dtype, device=x.coords.device)] * 3)
    children = torch.cat([torch.zeros_like(bits[:, :1]), bits], dim=1)
    doubled = x.coords * x.coords.new_tensor([1, 2, 2, 2])
    coords = (doubled[:, None] + children).flatten(0, 1)
    return SparseTensor(x.feats.repeat_interleave(8, dim=0), coords, x.batch_size)
