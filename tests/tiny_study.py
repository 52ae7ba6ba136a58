"""The adaptation study on a tiny generator of random weights: every step of it, no meaning in the numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import pytest
from tiny_folder import write_pipeline

from lib import profiles
from lib.data.compare import mesh_error
from lib.generator import examine
from lib.judges.open import open_judge
from lib.judges.roles import label
from lib.judges.verdicts import Answer, Verdict
from lib.profiles import load_profile
from lib.study import adaptation, adapters, drawing, lessons, online
from lib.study.adaptation import Study
from lib.trellis.tiny import tiny_pipeline

ROOT = profiles.ROOT
FIRST, SECOND = Answer((0.9, 0.1), 1.0, 0.0), Answer((0.1, 0.9), 1.0, 0.0)
FLIP = Verdict(FIRST, FIRST)
open_once = cache(open_judge)
FEW = {"steps": 3}  # in place of the 25 of large samples


def write_generator(folder: Path) -> Path:
    """Its samples have some twenty voxels, so that drawing, measuring and rendering them is quick."""
    pipeline = tiny_pipeline(0)
    pipeline.models["sparse_structure_decoder"].out_layer[-1].bias.data -= 0.25
    return write_pipeline(pipeline, folder)


@contextmanager
def tiny_study(results: Path, generator: Path) -> Iterator[Study]:
    """Open on a result folder of its own while the block lasts. Judge X is asked, and always decides."""
    judges = {f"judge_{one}": str(ROOT / f"weights/mini/judge_{one}") for one in "xy"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "ROOT", results)
        patch.setattr(adaptation, "open_judge", open_once)
        patch.setattr(examine, "EDGE", 0.3)
        patch.setattr(drawing, "mesh_error", partial(mesh_error, n_points=500, size=32))
        patch.setattr(lessons, "HELD", 2)
        patch.setattr(lessons, "REPAIR_PHOTOS", 2)
        patch.setattr(lessons, "LARGE", FEW)
        patch.setattr(adapters, "KEPT", 1)
        patch.setattr(lessons, "Loop", partial(online.Loop, every=1, photos=2))
        for module in (lessons, online):
            patch.setattr(module, "label", decided)
        settings = load_profile(
            "smoke", generator=str(generator), n_evaluated=2, n_train=3, train_steps=2, photo=64, **judges
        )
        yield Study.open(settings, workers=1)


def decided(*given) -> list[Verdict]:
    """As `label`, and of what flips the first is the better: random shapes tell a judge nothing."""
    return [Verdict(FIRST, SECOND) if verdict.outcome == "flip" else verdict for verdict in label(*given)]


def undecided(*given) -> list[Verdict]:
    """As `label`, and everything flips."""
    return [FLIP for _ in label(*given)]
