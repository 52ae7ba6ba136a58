"""Convolutions on sparse voxels as gathered matrix products.

A kernel map names, for every output row and kernel cell, the input row below it. Rows with most neighbors present are
gathered side by side and multiplied in one product; rows with few are handled pair by pair, one product a kernel cell.
The backward pass is the same two products over the transposed map.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

CPU_BLOCK, GPU_BLOCK = 2**18, 2**26  # gathered numbers held at a time: on a CPU what its second-level cache holds
CPU_PAIRS = 1024  # rows of pairs multiplied at a time on a CPU


@dataclass(frozen=True)
class KernelMap:
    """Input row of each output row and kernel cell.

    rows: int32 [outputs, K], with the number of inputs standing for "absent".
    transposed: int32 [inputs, K], the output row that input feeds through kernel cell k (number of outputs = none).
    """

    rows: Tensor
    transposed: Tensor

    @cached_property
    def density(self) -> float:
        """Share of the neighbors that are present."""
        return (self.rows < len(self.transposed)).float().mean().item()

    def gathers(self, weight: Tensor) -> bool:
        """Whether multiplying absent neighbors too, as zeros, is cheaper than adding up pair after pair.

        Measured on CPUs: copying a row costs as much as 600 multiply-adds, adding one to a sum another 3,000.
        """
        work = weight.shape[1] * weight.shape[2]
        return self.density > (work + 600) / (work + 3600)

    @cached_property
    def children(self) -> "KernelMap":
        """Map of the same convolution on the subdivided grid, whose rows are 8 consecutive children a row here."""
        rows = len(self.rows)
        child, step = torch.arange(2)[:, None], torch.arange(-1, 2)
        place = (child + step).to(self.rows.device)  # of the neighbor in the grid of children, per axis [2, 3]
        parent, octant = _cells(place.div(2, rounding_mode="floor") + 1, 3), _cells(place % 2, 2)
        found = (self.rows[:, parent] * 8 + octant).clamp_(max=8 * rows).int().view(8 * rows, 27)
        return KernelMap(found, found.flip(1))

    @cached_property
    def octants(self) -> list["KernelMap"]:
        """The 2x2x2 rows that a 3x3x3 convolution of the subdivided grid touches, for each of the 8 children."""
        place = torch.arange(2)[:, None] + torch.arange(2)
        columns = _cells(place, 3).to(self.rows.device)
        return [KernelMap(self.rows[:, c], self.transposed[:, c]) for c in columns]

    @cached_property
    def pairs(self) -> list[tuple[int, Tensor, Tensor]]:
        """(kernel cell, output rows, input rows), on a CPU in pieces that its cache holds."""
        pieces = []
        for k, column in enumerate(self.rows.T):
            present = (column < len(self.transposed)).nonzero().flatten()
            size = CPU_PAIRS if present.device.type == "cpu" else max(1, len(present))
            pieces += [(k, out, column[out].long()) for out in present.split(size)]
        return pieces


def _cells(place: Tensor, side: int) -> Tensor:
    """Per-axis positions [2, n] of child and kernel cell to places in a side^3 cube: [8 children, n^3 kernel cells]."""
    x, y, z = place * side**2, place * side, place
    sums = x[:, None, None, :, None, None] + y[None, :, None, None, :, None] + z[None, None, :, None, None, :]
    return sums.reshape(8, -1)


def _gathered(x: Tensor, rows: Tensor):
    """Blocks (slice of rows, x at these rows laid side by side [n, K * channels]); absent rows are zero."""
    padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
    width = rows.shape[1] * x.shape[1]
    step = max(256, (CPU_BLOCK if x.device.type == "cpu" else GPU_BLOCK) // width)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        yield slice(start, start + step), padded.index_select(0, block.flatten()).view(len(block), width)


def _product(x: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    out = x.new_empty(len(rows), weight.shape[2])
    matrix = weight.reshape(-1, weight.shape[2])
    for block, gathered in _gathered(x, rows):
        torch.mm(gathered, matrix, out=out[block])
    return out


class SparseConvolution(torch.autograd.Function):
    """out[n] = sum_k x[map.rows[n, k]] @ weight[k], with x [inputs, I] and weight [K, I, O]."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kernel_map = kernel_map
        if kernel_map.gathers(weight):
            return _product(x, weight, kernel_map.rows)
        out = torch.zeros(len(kernel_map.rows), weight.shape[2], dtype=_sum_type(x), device=x.device)
        for k, to, source in kernel_map.pairs:
            out.index_add_(0, to, (x.index_select(0, source) @ weight[k]).to(out.dtype))
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, weight), kernel_map = ctx.saved_tensors, ctx.kernel_map
        for_x, for_weight, _ = ctx.needs_input_grad  # below an adapter the weights are frozen
        grad, gathers = grad.contiguous(), kernel_map.gathers(weight)
        sums = {"dtype": _sum_type(x), "device": x.device}
        grad_weight = torch.zeros(weight.shape, **sums) if for_weight else None
        if gathers:
            grad_x = _product(grad, weight.transpose(1, 2), kernel_map.transposed) if for_x else None
            for block, gathered in _gathered(x, kernel_map.rows) if for_weight else []:
                grad_weight.flatten(0, 1).add_(gathered.T @ grad[block])
        else:
            grad_x = torch.zeros(x.shape, **sums) if for_x else None
        for k, to, source in [] if gathers else kernel_map.pairs:
            block = grad.index_select(0, to)
            if for_x:
                grad_x.index_add_(0, source, (block @ weight[k].T).to(grad_x.dtype))
            if for_weight:
                grad_weight[k] += x.index_select(0, source).T @ block
        return grad_x.to(x.dtype) if for_x else None, grad_weight.to(weight.dtype) if for_weight else None, None


def _sum_type(x: Tensor) -> torch.dtype:
    """Sums over kernel cells of 16-bit tensors are kept in 32 bits."""
    return torch.promote_types(x.dtype, torch.float32)


def sparse_convolution(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """`SparseConvolution` in the type that autocast asks for, where it is on."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x, weight = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (x, weight))
    return SparseConvolution.apply(x, weight, kernel_map)


def subdivided_convolution(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """3x3x3 convolution [27, I, O] of the subdivided features, without subdividing them: [T, I] to [8 T, O].

    The children of a voxel are copies, so the 27 neighbors of a child lie in 2x2x2 voxels: the kernel cells that meet
    in one voxel are added up first, which saves 70% of the products.
    """
    meet = torch.tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], dtype=torch.float32, device=x.device)
    fold = torch.einsum("axi,byj,czk->abcxyzijk", meet, meet, meet).reshape(64, 27)
    folded = (fold.to(_sum_type(weight)) @ weight.to(_sum_type(weight)).flatten(1)).to(weight.dtype)
    folded = folded.view(8, 8, *weight.shape[1:])
    children = [sparse_convolution(x, w, octant) for w, octant in zip(folded, kernel_map.octants, strict=True)]
    return torch.stack(children, dim=1).flatten(0, 1)


class SparseConv3d(nn.Module):
    """Sub-manifold convolution (spconv's layout): output rows are the input rows, kernel size 3 or 1.

    Parameters `conv.weight` [out, k, k, k, in] and `conv.bias` [out].
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Module()
        self.conv.weight = nn.Parameter(torch.empty(out_channels, *[kernel_size] * 3, in_channels))
        self.conv.bias = nn.Parameter(torch.empty(out_channels))
        bound = (in_channels * kernel_size**3) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def matrices(self) -> Tensor:
        """Weight as one matrix a kernel cell: [k^3, in, out]."""
        weight = self.conv.weight
        if weight.shape[1] == 1:
            # spconv reads the memory of a 1x1x1 weight [out, 1, 1, 1, in] as if it were [in, out], and the published
            # weights were trained that way.
            return weight.reshape(1, weight.shape[-1], weight.shape[0])
        return weight.flatten(1, 3).permute(1, 2, 0)

    def forward(self, feats: Tensor, kernel_map: KernelMap | None = None) -> Tensor:
        """feats [T, in] to [T, out]; the kernel map of the voxels is needed for kernel size 3 only."""
        if kernel_map is None:
            return nn.functional.linear(feats, self.matrices()[0].T, self.conv.bias)
        return sparse_convolution(feats, self.matrices(), kernel_map).add_(self.conv.bias)
