"""The study's adapters: each a function of its recipe and its lessons, on record, and trained where it is needed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from lib.adapters.examples import Example, structured_latent
from lib.adapters.objectives import METHODS
from lib.adapters.repair import RepairRecipe, train_repair
from lib.adapters.train import RECORD, STAGES, LoraRecipe, train
from lib.generator.loading import generator
from lib.placement import one_thread
from lib.study.drawing import read
from lib.study.online import Loop, OnlinePairs, Shown
from lib.study.records import Records
from lib.study.samples import Request, Sampler
from lib.trellis.pipeline import Pipeline

Recipe = LoraRecipe | RepairRecipe
REPAIRED = "examples", "held", "mse_before", "mse_after", "each_before", "each_after", "seconds"  # of a repair's record
UNTAUGHT = {"stage": "", "examples": 0, "held": 0, "each_before": [], "each_after": [], "seconds": 0.0, "curve": []}
KEPT = 10  # every so many steps of a curve go to the records
ENCODED = 16  # photos in one call


@dataclass(frozen=True)
class Lesson:
    """What an adapter learns from. photo: the request whose photo is given; winner, loser: samples that were preferred
    and rejected. For conditioner repair `winner` is the request whose photo is clean, and nothing is drawn; of online
    pairs only the photo is learned from, and `winner` is for the probe."""

    photo: Request
    winner: Request
    loser: Request | None = None


@dataclass(frozen=True)
class Order:
    """An adapter to be trained: lessons to learn, lessons that only its probe looks at. loop: of online pairs."""

    recipe: Recipe
    lessons: tuple[Lesson, ...]
    held: tuple[Lesson, ...]
    loop: Loop | None = None


class Workshop:
    """Knows every ordered adapter by its id, and trains it when a sample needs it or its record is missing."""

    def __init__(self, sampler: Sampler):
        self.sampler, self.orders = sampler, {}
        self.records = Records(sampler.settings.records_dir / "adapters.jsonl")
        sampler.make_adapters = self.make

    def order(self, order: Order) -> str:
        """The id of the adapter, under which requests and records name it: of all that is known before training."""
        sampler = self.sampler
        sampler.look([one.photo for one in (*order.lessons, *order.held)])
        parts = [
            [
                [sampler.photo_digest(one.photo), *(sampler.key(of) for of in (one.winner, one.loser) if of)]
                for one in lessons
            ]
            for lessons in (order.lessons, order.held)
        ]
        if order.loop:
            parts.append([order.loop.settings, order.loop.every, order.loop.photos])
        name = Records.key(sampler.weights, type(order.recipe).__name__, asdict(order.recipe), *parts)
        self.orders[name] = order
        return name

    def facts(self, names: Sequence[str | None]) -> pd.DataFrame:
        """One row an adapter, in order, as `lib.adapters` records its training; trained first where it has no record.

        Columns: stage, examples, held, probe_before, probe_after, probe_blank, diverged (of flows), mse_before,
        mse_after (of repair), each_before, each_after (the same for each held example), seconds, curve; of online pairs
        also asked (`lib.study.online`). Of an adapter of both flows one row a stage; for None `UNTAUGHT`.
        """
        self.make(name for name in names if name and name not in self.records)
        return pd.DataFrame([row for name in names for row in (self.records[name]["stages"] if name else [UNTAUGHT])])

    def make(self, names: Iterable[str]):
        """Trains the adapters whose weights are not in the cache."""
        names = [name for name in dict.fromkeys(names) if not (self.folder(name) / RECORD).is_file()]
        if not names:
            return
        names.sort(key=lambda name: -_cost(self.orders[name]))  # the longest first, so that no core waits for the last
        orders = [self.orders[name] for name in names]
        self.sampler.provide([of for order in orders for of in _drawn(order)])
        jobs = (delayed(_train)(*self._job(*both)) for both in zip(names, orders, strict=True))
        run = Parallel(self.sampler.workers if len(names) > 1 else 1, return_as="generator")(jobs)
        bar = tqdm(run, desc="training adapters", total=len(names))
        for name, stages in zip(names, bar, strict=True):
            self.records.add([{"key": name, "stages": stages}])

    def folder(self, name: str) -> Path:
        """Where the adapter's weights are kept."""
        return self.sampler.adapter_folder(name)

    def _job(self, name: str, order: Order) -> tuple:
        lessons, held = (self._files(order.recipe, part) for part in (order.lessons, order.held))
        if order.loop:
            photos = [one.photo for one in order.lessons]
            lessons = [Shown(one.subject.item.id, one.photo(), one.seed) for one in photos]
        return self.sampler.folder, self.sampler.weights, order.recipe, lessons, held, self.folder(name), order.loop

    def _files(self, recipe: Recipe, lessons: Sequence[Lesson]) -> list[tuple]:
        """For each lesson its photo, and the clean photo (repair) or the files of winner and loser."""
        if isinstance(recipe, RepairRecipe):
            return [(one.photo.photo(), one.winner.photo()) for one in lessons]
        return [
            (one.photo.photo(), *(self.sampler.file(of) if of else None for of in (one.winner, one.loser)))
            for one in lessons
        ]


def _cost(order: Order) -> int:
    """What training costs, roughly: for each stage the passes through its flow in a step, those with gradients counting
    three, and one for the loop of online pairs."""
    if isinstance(order.recipe, RepairRecipe):
        return 0
    method = METHODS[order.recipe.method]
    return len(STAGES[order.recipe.stage]) * (len(method.reads) * (3 + method.base) + (order.loop is not None))


def _drawn(order: Order) -> list[Request]:
    """The samples whose latents an adapter learns from."""
    if isinstance(order.recipe, RepairRecipe):
        return []
    learned = () if order.loop else order.lessons
    return [of for one in (*learned, *order.held) for of in (one.winner, one.loser) if of]


def _train(
    folder: Path, weights: str, recipe: Recipe, lessons: list, held: list[tuple], target: Path, loop: Loop | None
) -> list[dict]:
    """Trains one adapter into `target`; what the records keep of each stage. lessons: with a loop, what is shown."""
    one_thread()
    pipeline = generator(folder, weights)
    target.mkdir(parents=True, exist_ok=True)
    if isinstance(recipe, RepairRecipe):
        sides = [[_encode(pipeline, photos) for photos in zip(*part, strict=True)] for part in (lessons, held)]
        done = train_repair(*sides[0], tuple(sides[1]), recipe, target, pipeline.device)
        return [_line({"stage": "condition"} | {name: done[name] for name in REPAIRED}, done["curve"])]
    if loop:
        made = {stage: OnlinePairs(pipeline, lessons, stage, target.name, loop) for stage in STAGES[recipe.stage]}
    else:
        made = {stage: _examples(pipeline, lessons, stage) for stage in STAGES[recipe.stage]}
    done = train(pipeline, made, {stage: _examples(pipeline, held, stage) for stage in made}, recipe, target)
    lines = []
    for stage, one in done["stages"].items():
        facts = {"stage": stage} | {name: value for name, value in one.items() if name != "curve"}
        lines.append(_line(facts | (made[stage].counts if loop else {}), one["curve"]))
    return lines


def _line(facts: dict, curve: list[dict]) -> dict:
    """Numbers to six digits, and every so many steps of the curve."""
    short = [line for line in curve if line["step"] % KEPT == 0] + curve[-1:]
    rounded = [{name: _short(value) for name, value in line.items()} for line in short]
    return {name: _short(value) for name, value in facts.items()} | {"curve": rounded}


def _short(value):
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _examples(pipeline: Pipeline, part: Sequence[tuple], stage: str) -> list[Example]:
    conditions = _encode(pipeline, [photo for photo, *_ in part])
    latents = [[_latent(pipeline, file, stage) if file else None for file in files] for _, *files in part]
    return [Example(cond, *both) for cond, both in zip(conditions, latents, strict=True)]


def _latent(pipeline: Pipeline, file: Path, stage: str):
    kept = read(file)
    if stage == "structure":
        return torch.from_numpy(kept.structure)
    return structured_latent(pipeline, torch.from_numpy(kept.voxels), torch.from_numpy(kept.slat))


def _encode(pipeline: Pipeline, photos: Sequence) -> torch.Tensor:
    """(N,L,C) on the CPU."""
    groups = [photos[start : start + ENCODED] for start in range(0, len(photos), ENCODED)]
    return torch.cat([pipeline.encode(group).float().cpu() for group in groups])
