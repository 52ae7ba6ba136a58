"""The training objects as tensors; each field is read from the files when it is first asked for."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.generator.fields import sample
from lib.generator.recipe import RESOLUTION, Data, Recipe
from lib.shards import read_shards, write_shards

RAGGED = ("cells", "sdf", "part", "palette", "color")  # fields whose first axis is the object's own


def write_collection(recipe: Recipe, folder: Path, workers: int = -1) -> list[Path]:
    """The files of all training objects; goes on where it was. workers: processes, -1 for one a core."""
    return write_shards(partial(sample, data=recipe.data, seed=recipe.seed), folder, recipe.data.objects, workers)


class Collection:
    """N objects, of which the last are held out. `data[name]` is a field of `fields.sample`: a tensor (N, ...), or for
    the names in RAGGED a list of N tensors."""

    def __init__(self, data: Data, paths: Sequence[Path]):
        self.data, self.paths, self._fields = data, list(paths), {}

    def __getitem__(self, name: str) -> Tensor | list[Tensor]:
        if name not in self._fields:
            values = read_shards(self.paths, [name])[name][: len(self)]
            self._fields[name] = values if name in RAGGED else torch.stack(values)
        return self._fields[name]

    def __len__(self) -> int:
        return self.data.objects

    @property
    def trained(self) -> int:
        """So many objects, from the first, are trained on."""
        return len(self) - self.data.held

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count,) different objects to train on."""
        return torch.from_numpy(rng.choice(self.trained, count, replace=False))

    @property
    def held(self) -> Tensor:
        """The objects that are not trained on."""
        return torch.arange(self.trained, len(self))

    @cached_property
    def occupancy(self) -> Tensor:
        """(N,16,16,16) bool: active cells."""
        grid = torch.zeros(len(self), *[RESOLUTION] * 3, dtype=torch.bool)
        for one, cells in zip(grid, self["cells"], strict=True):
            one[tuple(cells.long().T)] = True
        return grid

    @cached_property
    def colors(self) -> Tensor:
        """(N,16,16,16,3) uint8: the cells' colors, 0 where they are not active."""
        grid = torch.zeros(len(self), *[RESOLUTION] * 3, 3, dtype=torch.uint8)
        for one, cells, color in zip(grid, self["cells"], self["color"], strict=True):
            one[tuple(cells.long().T)] = color
        return grid
