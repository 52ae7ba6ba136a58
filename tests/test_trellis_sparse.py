"""Sparse voxels and attention behave like their dense counterparts."""

import pytest
import torch
import torch.nn.functional as F

from lib.trellis.attention import TokenGroups, attend
from lib.trellis.layers import grid_coords
from lib.trellis.sparse import (
    SparseTensor,
    batch_groups,
    collate,
    downsample,
    neighbors,
    subdivide,
    upsample,
    window_groups,
)
from lib.trellis.sparse_conv import SparseConv3d, sparse_convolution, subdivided_convolution


def voxels(share: float, channels: int, side: int = 6, items: int = 2, dtype=torch.float32, seed: int = 0):
    """Random voxels in random order inside each item."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for i in range(items):
        cells = grid_coords(side)
        cells = cells[torch.rand(len(cells), generator=generator) < share]
        cells = cells[torch.randperm(len(cells), generator=generator)]
        parts.append(torch.cat([torch.full_like(cells[:, :1], i), cells], dim=1))
    coords = torch.cat(parts).int()
    return SparseTensor(torch.randn(len(coords), channels, generator=generator, dtype=dtype), coords, items)


def to_dense(x: SparseTensor, side: int) -> torch.Tensor:
    grid = x.feats.new_zeros(x.batch_size, side, side, side, x.feats.shape[1])
    grid[tuple(x.coords.long().T)] = x.feats
    return grid.movedim(-1, 1)


# thin sets of wide features are added up pair by pair, full sets of narrow ones gathered side by side
@pytest.mark.parametrize(("share", "channels", "gathers"), [(1.0, 4, True), (0.5, 4, True), (0.15, 64, False)])
def test_sparse_convolution_equals_dense_convolution_at_active_voxels(share, channels, gathers):
    x = voxels(share, channels)
    conv = SparseConv3d(channels, 5, 3)
    assert neighbors(x).gathers(conv.matrices()) == gathers
    dense = F.conv3d(to_dense(x, 6), conv.conv.weight.permute(0, 4, 1, 2, 3), conv.conv.bias, padding=1)
    wanted = dense.movedim(1, -1)[tuple(x.coords.long().T)]
    torch.testing.assert_close(conv(x.feats, neighbors(x)), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("share", "channels", "gathers"), [(0.6, 2, True), (0.02, 2, False)])
def test_sparse_convolution_has_the_gradient_of_finite_differences(share, channels, gathers):
    x = voxels(share, channels, side=3 if gathers else 6, dtype=torch.float64)
    weight = torch.randn(27, channels, 3, dtype=torch.float64, requires_grad=True)
    kernel_map = neighbors(x)
    assert kernel_map.gathers(weight) == gathers
    feats = x.feats.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda f, w: sparse_convolution(f, w, kernel_map), (feats, weight))
    for frozen in (feats, weight):  # where one of the two is not learned, the other's gradient is the same
        frozen.requires_grad_(False)
        assert torch.autograd.gradcheck(lambda f, w: sparse_convolution(f, w, kernel_map), (feats, weight))
        frozen.requires_grad_()


def test_one_cell_kernel_reads_its_weight_as_input_by_output():
    conv = SparseConv3d(2, 3, 1)
    conv.conv.weight.data = torch.arange(6.0).view(3, 1, 1, 1, 2)
    conv.conv.bias.data.zero_()
    assert conv(torch.tensor([[1.0, 10.0]])).tolist() == [[0 + 30, 1 + 40, 2 + 50]]


def test_folded_convolution_equals_subdivide_then_convolve_with_its_gradients():
    x = voxels(0.3, 3, dtype=torch.float64)
    weight = torch.randn(27, 3, 4, dtype=torch.float64, requires_grad=True)
    feats = x.feats.clone().requires_grad_()
    folded = subdivided_convolution(feats, weight, neighbors(x))
    fine = subdivide(x.with_feats(feats))
    plain = sparse_convolution(fine.feats, weight, neighbors(fine))
    torch.testing.assert_close(folded, plain, atol=1e-6, rtol=1e-6)
    probe = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(y, (feats, weight), probe) for y in (folded, plain)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_neighbors_of_children_follow_from_those_of_their_parents():
    x = voxels(0.3, 1)
    assert torch.equal(neighbors(x).children.rows, neighbors(subdivide(x)).rows)


def test_convolution_does_not_depend_on_the_order_of_voxels():
    x = voxels(0.3, 4, items=1)
    order = torch.randperm(len(x.feats))
    shuffled = SparseTensor(x.feats[order], x.coords[order])
    conv = SparseConv3d(4, 4, 3)
    torch.testing.assert_close(conv(shuffled.feats, neighbors(shuffled)), conv(x.feats, neighbors(x))[order])


def test_downsample_divides_by_one_more_and_upsample_restores_the_voxels():
    coords = torch.tensor([[0, 3, 2, 2], [0, 0, 0, 0], [0, 0, 1, 1]], dtype=torch.int32)
    x = SparseTensor(torch.tensor([[6.0], [1.0], [2.0]]), coords)
    coarse, index = downsample(x)
    assert coarse.coords.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert coarse.feats.tolist() == [[1.0], [3.0]]
    fine = upsample(coarse, x, index)
    assert fine.coords is x.coords
    assert fine.feats.tolist() == [[3.0], [1.0], [1.0]]


def test_items_and_collate_are_inverse():
    x = voxels(0.2, 3, items=3)
    parts = x.items()
    assert all((part.coords[:, 0] == 0).all() for part in parts)
    again = collate(parts)
    assert torch.equal(again.coords, x.coords)
    assert torch.equal(again.feats, x.feats)


@pytest.mark.parametrize("shift", [0, 1])
def test_window_attention_equals_masked_attention(shift):
    x = voxels(0.3, 1, side=9)
    q, k, v = torch.randn(3, len(x.feats), 2, 8)
    window = torch.cat([x.coords[:, :1], (x.coords[:, 1:] + shift) // 4], dim=1)
    same = (window[:, None] == window).all(-1)
    scores = torch.einsum("nhd,mhd->hnm", q, k) / 8**0.5
    wanted = torch.einsum("hnm,mhd->nhd", scores.masked_fill(~same, -torch.inf).softmax(-1), v)
    torch.testing.assert_close(window_groups(x, 4, shift).attend(q, k, v), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_groups_of_very_different_sizes_attend_as_each_alone(trained):
    group = torch.tensor([2] * 40 + [0] * 3 + [3] * 5 + [0] * 2)  # group 1 is empty
    q, k, v = torch.randn(3, len(group), 2, 4).requires_grad_(trained)
    out = TokenGroups(group, 4).attend(q, k, v)
    for value in (0, 2, 3):
        rows = group == value
        torch.testing.assert_close(out[rows], attend(q[None, rows], k[None, rows], v[None, rows])[0])


def test_cross_attention_sees_the_own_item_only():
    x = voxels(0.3, 1)
    q, keys, values = torch.randn(len(x.feats), 2, 4), *torch.randn(2, 2, 7, 2, 4)
    out = batch_groups(x).attend(q, keys, values)
    for i, rows in enumerate(x.slices()):
        torch.testing.assert_close(out[rows], attend(q[None, rows], keys[i : i + 1], values[i : i + 1])[0])
