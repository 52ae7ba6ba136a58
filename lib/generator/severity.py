"""How bad a photo may be: what degradation costs the generator, and the severities that span the usable range.

Measured on objects of the training split that nothing was trained on, so that no test object has a say in it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Memory, Parallel, delayed
from tqdm.auto import tqdm

from lib.data.degrade import degrade
from lib.data.photos import render_photo
from lib.data.procedural import furniture
from lib.generator.examine import FRONT, PHOTO, attempt, f_score, noise_seed, outer_surface, surface_of
from lib.generator.loading import folder_digest, generator
from lib.stats.bootstrap import mean_by_object

FIRST = 3_000_000  # of the training split: the generator, the judges and the adapters learn from others
GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
REACHED = {"mild": 0.2, "medium": 0.45, "severe": 0.7}  # of the way from a clean photo to one of another object
DIGIT = 0.05  # closer than the intervals of the curve allow
OTHER = "other object"


def severity_curve(folder: Path, objects: int, seed: int, scratch: Path, workers: int = -1) -> pd.DataFrame:
    """Mean loss (1 - F-score at 2%) of photos at every severity of `GRID`, and of the photo of another object.

    Columns: severity (`OTHER` in the last row), loss, low, high, n. What was sampled is kept in `scratch`.
    """
    one, weights = Memory(scratch / "severity", verbose=0).cache(_losses, ignore=["folder"]), folder_digest(folder)
    jobs = Parallel(workers, return_as="generator")(
        delayed(one)(folder, weights, FIRST + place, seed, GRID) for place in range(objects)
    )
    losses = np.array(list(tqdm(jobs, desc="objects at all severities", total=objects, mininterval=1)))
    rows = []
    for name, column in zip((*GRID, OTHER), losses.T, strict=True):
        mean = mean_by_object(column, 1, np.arange(objects), seed)
        rows.append({"severity": name, "loss": mean.value, "low": mean.low, "high": mean.high, "n": objects})
    return pd.DataFrame(rows)


def named_severities(curve: pd.DataFrame) -> dict[str, float]:
    """Where the loss has gone the shares `REACHED` of the way from clean to another object's photo, to `DIGIT`.

    The curve is first made to rise (the running maximum), for chance may let a worse photo do better.
    """
    measured = curve[curve.severity != OTHER]
    rising = np.maximum.accumulate(measured.loss.to_numpy(float))
    clean, other = rising[0], float(curve[curve.severity == OTHER].loss.iloc[0])
    wanted = {name: clean + share * (other - clean) for name, share in REACHED.items()}
    grid = measured.severity.to_numpy(float)
    return {
        name: round(DIGIT * round(float(np.interp(loss, rising, grid)) / DIGIT), 2) for name, loss in wanted.items()
    }


def _losses(folder: Path, weights: str, index: int, seed: int, grid: Sequence[float]) -> list[float]:
    torch.set_num_threads(1)
    pipeline, item = generator(folder, weights, "cpu"), furniture("train", index)
    surface = outer_surface(item)
    clean, other = (render_photo(one.mesh, PHOTO, *FRONT) for one in (item, furniture("train", index + 1)))
    photos = [*(degrade(clean, severity, seed + index) for severity in grid), other]
    noise = noise_seed(item.id, seed)
    return [1 - f_score(surface, surface_of(attempt(pipeline, photo, noise))) for photo in photos]
