"""The training objects as tensors: every picture, every candidate's error, and where to find them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lib.judges.training.recipes import Recipe
from lib.judges.training.samples import EXTRA
from lib.judges.training.truth import (
    charges,
    error_maps,
    mirrored_montage,
    mirrored_normals,
    turned_montage,
    view_error,
)
from lib.shards import read_shards

PHOTO, MONTAGE = "photo", "montage"


@dataclass
class Collection:
    """N objects with K candidates and P photos each.

    photo (N,P,112,112,3), normals (N,K,112,112,3), depth (N,K,112,112) uint8; category, extra_layout (N,) int;
    kinds (N,K) int; severity (N,K) float32; extra: for each object (M,c,112,112,3) uint8, M may be 0.
    """

    recipe: Recipe
    photo: Tensor
    category: Tensor
    extra_layout: Tensor
    kinds: Tensor
    severity: Tensor
    normals: Tensor
    depth: Tensor
    extra: list[Tensor]

    @classmethod
    def read(cls, recipe: Recipe, paths: list[Path]) -> "Collection":
        data = read_shards(paths)
        return cls(recipe, extra=data.pop("extra"), **{name: torch.stack(values) for name, values in data.items()})

    @cached_property
    def charge(self) -> Tensor:
        """(N,K) what the recipe adds to a candidate's error, by its damage."""
        return charges(self.recipe, self.kinds, self.severity)

    @cached_property
    def error(self) -> Tensor:
        """(N,K) error against the object's own intact mesh, and the charge."""
        true = [x[:, :1].expand_as(x) for x in (self.normals, self.depth)]
        rows = zip(self.normals, self.depth, *true, strict=True)
        return torch.stack([view_error(*row) for row in rows]) + self.charge

    def wrong_error(self, other: Tensor, candidate: Tensor, photo: Tensor) -> Tensor:
        """(B,) error of candidates of `other` objects where the photo shows the objects `photo`; indices (B,)."""
        shown = self.normals[other, candidate], self.depth[other, candidate]
        error = view_error(*shown, self.normals[photo, 0], self.depth[photo, 0]) + self.charge[other, candidate]
        same, another = self.recipe.wrong
        return error + torch.where(self.category[other] == self.category[photo], same, another)

    def damage(
        self, item: Tensor, candidate: Tensor, mirror: bool, quarter: int = 0, photo: Tensor | None = None
    ) -> Tensor:
        """(B,112,112,1) error at every pixel of what `images` shows as montage, against the object `photo` or their
        own."""
        own = zip((item, item if photo is None else photo), (candidate, 0), strict=True)
        montages = [x[i, c] for i, c in own for x in (self.normals, self.depth)]
        error = turned_montage(error_maps(*montages)[0][..., None], quarter)
        return mirrored_montage(error, False) if mirror else error

    def images(self, layout: str, item: Tensor, candidate: Tensor, mirror: bool, quarter: int = 0) -> Tensor:
        """(B,c,112,112,3) uint8: what a layout shows of candidates; for "photo" the photo of that number.

        quarter: turns of the object before it is mirrored, in the layout "montage".
        """
        if layout == PHOTO:
            images = self.photo[item, candidate][:, None]
            return images.flip(-2) if mirror else images
        if layout == MONTAGE:
            images = turned_montage(self.normals[item, candidate][:, None], quarter)
        else:
            images = torch.stack([self.extra[i][c] for i, c in zip(item.tolist(), candidate.tolist(), strict=True)])
        if not mirror or layout == "turntable24":  # the sheet's views are too small to be taken apart again
            return images
        if layout == "seven_images":  # azimuth 0, 120, 240
            return mirrored_normals(images.flip(-2)[:, [0, 2, 1]])
        return mirrored_montage(images, layout == MONTAGE)

    def having(self, layout: str) -> tuple[Tensor, int]:
        """Indices of the objects whose candidates are seen in a layout, and how many candidates, or photos, of each."""
        if layout in (MONTAGE, PHOTO):
            return torch.arange(len(self.photo)), (self.kinds if layout == MONTAGE else self.photo).shape[1]
        items = (self.extra_layout == EXTRA.index(layout)).nonzero()[:, 0]
        return items, len(self.extra[int(items[0])])
