"""What is known of a candidate because it was damaged on purpose: its error, where it is, the answer to learn."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lib.judges.training.layers import NOTHING
from lib.judges.training.recipes import KINDS, Recipe
from lib.renderers.cameras import UNIT_BOX_RADIUS

STEP = 0.05 / (2 * UNIT_BOX_RADIUS) * (NOTHING - 1)  # difference in depth from which two surfaces are two
SHARPNESS = 0.05  # difference in error that makes the better one win 73% of the time


def error_maps(normals: Tensor, depth: Tensor, true_normals: Tensor, true_depth: Tensor) -> tuple[Tensor, Tensor]:
    """Montages (B,H,W,3) and (B,H,W) uint8 -> error (B,H,W) in [0,1] and where either shows a surface (B,H,W) bool.

    1 where only one shows a surface or their depths differ by over .05, else the angle of the normals over 90 degrees.
    """
    mask, true_mask = depth != NOTHING, true_depth != NOTHING
    both, union = mask & true_mask, mask | true_mask
    both &= (depth.int() - true_depth.int()).abs() <= STEP
    a, b = ((image[both].float() - 127.5) / 127.5 for image in (normals, true_normals))
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-6)
    error = union.float()
    error[both] = (cosine.clamp(-1, 1).arccos() * (2 / torch.pi)).clamp(max=1)
    return error, union


def view_error(*montages: Tensor) -> Tensor:
    """(B,) mean of `error_maps` over the union of the silhouettes; its arguments."""
    error, union = error_maps(*montages)
    return error.sum((1, 2)) / union.sum((1, 2)).clamp(min=1)


def charges(recipe: Recipe, kinds: Tensor, severity: Tensor) -> Tensor:
    """What a judge's recipe adds to the error of candidates of these kinds and severities, all of one shape."""
    table = torch.tensor([recipe.charge.get(kind, (0.0, 0.0)) for kind in KINDS])[kinds]
    return table[..., 0] + table[..., 1] * severity


def preference(error_a: Tensor, error_b: Tensor) -> Tensor:
    """Probability that a is to be preferred."""
    return torch.sigmoid((error_b - error_a) / SHARPNESS)


def cells(image: Tensor, size: int) -> Tensor:
    """(B,H,W,C) -> (B, 16, values): means over cells of `size` pixels, gathered for each of the 4 x 4 image tokens."""
    pooled = avg_pool2d(image.permute(0, 3, 1, 2), size)
    side = pooled.shape[-1] // 4
    tokens = pooled.unflatten(3, (4, side)).unflatten(2, (4, side))  # (B,C,4,side,4,side)
    return tokens.permute(0, 2, 4, 1, 3, 5).reshape(len(image), 16, -1)


def appearance(normals: Tensor) -> Tensor:
    """(B,H,W,3) uint8 normals -> (B,16,64): silhouette and mean normal of the 4 x 4 cells below each token."""
    drawn = (normals < 255).any(-1, keepdim=True).float()
    return cells(torch.cat([(normals.float() / 127.5 - 1) * drawn, drawn], -1), 7)


def turned_montage(image: Tensor, quarter: int) -> Tensor:
    """The montage (...,H,W,C) of the object after `quarter` quarter turns: its four views change places."""
    rows = [row.chunk(2, -2) for row in image.chunk(2, -3)]
    views = [view for row in rows for view in row]
    a, b, c, d = views[quarter:] + views[:quarter]
    return torch.cat([torch.cat([a, b], -2), torch.cat([c, d], -2)], -3)


def mirrored_montage(image: Tensor, normals: bool) -> Tensor:
    """The montage (...,H,W,C) uint8 of the mirrored object: left and right views change places, normals turn."""
    image = image.flip(-2).roll(image.shape[-3] // 2, -3)
    return mirrored_normals(image) if normals else image


def mirrored_normals(image: Tensor) -> Tensor:
    """Normal colors (...,3) uint8 with x reversed; white stays white."""
    turned = image.clone()
    turned[..., 0] = torch.where((image < 255).any(-1), 255 - image[..., 0], image[..., 0])
    return turned
