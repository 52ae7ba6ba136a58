"""Training data on disk: written once, in parallel, a few objects a file, and read as one set of tensors."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor
from tqdm.auto import tqdm

SHARD = 8  # objects a file
LENGTHS = ":lengths"  # behind the name of arrays that are stored end to end, because they differ in length


def write_shards(
    make: Callable[[int], dict[str, np.ndarray]], folder: Path, objects: int, workers: int = -1, desc: str = "objects"
) -> list[Path]:
    """Makes what is missing of the first `objects` objects (rounded up to whole files); the files, in order.

    make: an object's arrays from its number; picklable. Objects may differ in the length of an array's first axis.
    Safe to kill at any moment and to call again. workers: processes, -1 for one a core; the files do not depend on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{start:06d}.npz" for start in range(0, objects, SHARD)]
    jobs = [delayed(_write)(make, path, int(path.stem)) for path in paths if not path.exists()]
    done = Parallel(workers, return_as="generator_unordered")(jobs)
    for _ in tqdm(done, desc=f"{desc}, by {SHARD}", total=len(jobs), disable=not jobs, mininterval=1):
        pass
    return paths


def _write(make: Callable[[int], dict[str, np.ndarray]], path: Path, start: int):
    torch.set_num_threads(1)
    samples, arrays = [make(index) for index in range(start, start + SHARD)], {}
    for name in samples[0]:
        values = [one[name] for one in samples]
        if len({value.shape for value in values}) == 1:
            arrays[name] = np.stack(values)
        else:
            arrays[name], arrays[name + LENGTHS] = np.concatenate(values), np.array([len(value) for value in values])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(path)


def read_shards(paths: Sequence[Path], names: Sequence[str] | None = None) -> dict[str, list[Tensor]]:
    """For each name (default: all) what `make` gave for every object of the files, in order."""
    data = {}
    for path in paths:
        with np.load(path) as shard:
            for name in names or [name for name in shard.files if not name.endswith(LENGTHS)]:
                values = torch.from_numpy(shard[name])
                lengths = shard[name + LENGTHS].tolist() if name + LENGTHS in shard.files else None
                data.setdefault(name, []).extend(values.split(lengths) if lengths else values)
    return data
