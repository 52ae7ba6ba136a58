"""Training data on disk: written once in parallel, eight objects a file, and read as one set of tensors."""

from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor
from tqdm.auto import tqdm

from lib.data.procedural import CATEGORIES
from lib.judges.training.recipes import Recipe
from lib.judges.training.samples import sample

SHARD = len(CATEGORIES)  # objects a file, one of each category


def write_shards(recipe: Recipe, folder: Path, objects: int, workers: int = -1) -> list[Path]:
    """Makes what is missing of the first `objects` objects (rounded up to whole files); the files, in order.

    Safe to kill at any moment and to call again. workers: processes, -1 for one a core; the files do not depend on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{start:06d}.npz" for start in range(0, objects, SHARD)]
    jobs = [delayed(_write)(recipe, path, int(path.stem)) for path in paths if not path.exists()]
    done = Parallel(workers, return_as="generator_unordered")(jobs)
    for _ in tqdm(
        done, desc=f"objects for {recipe.name}, by {SHARD}", total=len(jobs), disable=not jobs, mininterval=1
    ):
        pass
    return paths


def _write(recipe: Recipe, path: Path, start: int):
    torch.set_num_threads(1)
    samples = [sample(recipe, index) for index in range(start, start + SHARD)]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **{name: np.stack([one[name] for one in samples]) for name in samples[0]})
    partial.replace(path)


def read_shards(paths: list[Path]) -> dict[str, Tensor]:
    """All objects of the files, in order: what `sample` gives, stacked; `extra` is a list, its length differs."""
    shards = [np.load(path) for path in paths]
    names = [name for name in shards[0].files if name != "extra"]
    data = {name: torch.from_numpy(np.concatenate([shard[name] for shard in shards])) for name in names}
    return data | {"extra": [torch.from_numpy(one) for shard in shards for one in shard["extra"]]}
