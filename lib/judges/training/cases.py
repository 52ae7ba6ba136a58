"""What the judges are examined on: candidates of test objects and of real furniture, damaged by `lib.data.corrupt`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from joblib import Memory, Parallel, delayed
from tqdm.auto import tqdm

from lib.data.corrupt import CORRUPTIONS
from lib.data.datasets import open_dataset
from lib.data.photos import render_photo
from lib.data.procedural import CATEGORIES, furniture
from lib.errors import BadInput
from lib.judges.candidates import Candidate, Pair
from lib.judges.known import INTACT, Damage, known
from lib.judges.prompts import LAYOUTS

GRADED, SHOWN = 6, 3  # candidates of random damage; so many, and the intact one first, are shown in every layout
HIGH = (0.6, 1.0)  # severities called high
DAMAGED = (0.2, 0.7)  # severities of what is right but damaged, beside what is clean but wrong
BLATANT = ("holes", "floaters", "missing_part")
REAL = {"face_drop": 0.375, "holes": 0.5, "noise": 0.5, "floaters": 0.5, "voxel": 0.5}  # .375 drops 30% of the faces


@dataclass(frozen=True, eq=False)
class Case:
    """One pair to be asked about, of which `a` is the better by `gap` (0 for identical images, nan where unknown)."""

    name: str
    layout: str
    pair: Pair
    gap: float


@dataclass(frozen=True, eq=False)
class Tested:
    """A test object: its photo, candidates (the intact one first) and their errors against the intact."""

    photo: object
    candidates: list[Candidate]
    errors: list[float]


def tested(index: int, seed: int, tile: int, n_splats: int) -> Tested:
    """Object `index` of the test split. Candidates: intact, `GRADED` of random kind and severity, one of each of
    `BLATANT`, one damaged by a severity in `DAMAGED`. tile, n_splats: as for `render_candidate`."""
    torch.set_num_threads(1)
    item, rng = furniture("test", index), np.random.default_rng([seed, index])
    plan = [(rng.choice(CORRUPTIONS), rng.uniform(0.05, 1)) for _ in range(GRADED)]
    plan += [(kind, rng.uniform(*HIGH)) for kind in BLATANT] + [(rng.choice(CORRUPTIONS), rng.uniform(*DAMAGED))]
    seeds = rng.integers(2**31, size=len(plan)).tolist()
    damages = [INTACT, *(Damage(str(k), float(s), one) for (k, s), one in zip(plan, seeds, strict=True))]
    found = [
        known(item, damage, tile, tuple(LAYOUTS) if place < SHOWN else ("montage", "montage_ref"), n_splats)
        for place, damage in enumerate(damages)
    ]
    return Tested(render_photo(item.mesh, 2 * tile), [k.candidate for k in found], [k.error for k in found])


def procedural_cases(
    start: int, count: int, seed: int, tile: int, n_splats: int, scratch: Path, workers: int = -1
) -> list[Case]:
    """All cases on `count` test objects from number `start` on.

    scratch: folder where the rendered objects are kept. Raises BadInput where `count` is not a multiple of the number
    of categories, and twice it at least: each object needs another of its category.
    """
    if count % len(CATEGORIES) or count < 2 * len(CATEGORIES):
        raise BadInput("test_objects", f"{count} of {len(CATEGORIES)} categories", "Give 16, 24, 32, ...")
    one = Memory(scratch / "cases", verbose=0).cache(tested)
    jobs = Parallel(workers, return_as="generator")(delayed(one)(start + i, seed, tile, n_splats) for i in range(count))
    items = list(tqdm(jobs, desc="test objects", total=count, mininterval=1))
    cases = []
    for place, item in enumerate(items):
        intact, *damaged = item.candidates
        for layout in LAYOUTS:
            cases += _graded(item, layout, GRADED + 1 if layout.startswith("montage") else SHOWN)
        for kind, worse in zip(BLATANT, damaged[GRADED:-1], strict=True):
            gap = item.errors[item.candidates.index(worse)]
            cases.append(Case(f"{kind}, high severity, against intact", "montage", Pair(intact, worse), gap))
        for what, step in (("instance", len(CATEGORIES)), ("category", 3)):
            other = items[(place + step) % count].candidates[0]
            wrong = Candidate(intact.object, other.images, {"kind": f"wrong {what}", "of": other.object})
            pair = Pair(damaged[-1], wrong, item.photo)
            for layout in ("montage_ref", "montage"):
                cases.append(Case(f"right but damaged against clean but wrong {what}", layout, pair, float("nan")))
        cases.append(Case("identical images", "montage", Pair(damaged[0], damaged[0]), 0.0))
    return cases


def _graded(item: Tested, layout: str, count: int) -> list[Case]:
    """All pairs among the first `count` candidates, by the gap between their errors."""
    cases = []
    for i, j in combinations(range(count), 2):
        better, worse = (i, j) if item.errors[i] <= item.errors[j] else (j, i)
        gap = item.errors[worse] - item.errors[better]
        name = "error gap > .2" if gap > 0.2 else "error gap .1 to .2" if gap > 0.1 else "error gap < .1"
        cases.append(Case(name, layout, Pair(item.candidates[better], item.candidates[worse], item.photo), gap))
    return cases


def real_cases(folder: Path, seed: int, tile: int) -> list[Case]:
    """Corrupted against intact, for every mesh of a folder; none of it was ever trained on."""
    cases = []
    for item in tqdm(open_dataset(folder), desc="real furniture", mininterval=1):
        intact = known(item, INTACT, tile).candidate
        for kind, severity in REAL.items():
            pair = Pair(intact, known(item, Damage(kind, severity, seed), tile).candidate)
            cases.append(Case("real furniture, corrupted against intact", "montage", pair, float("nan")))
            cases.append(Case(f"real furniture, {kind}", "montage", pair, float("nan")))
    return cases


def distinct_layouts(cases: Sequence[Case]) -> list[str]:
    """The layouts that the cases ask in, in their order."""
    return list(dict.fromkeys(case.layout for case in cases))
