"""Pairs that are made while a flow learns, with the training judge in the loop (DreamDPO, arXiv 2502.04370).

DreamDPO draws two noisy versions of the object that it optimizes at every step, has them compared, and follows the
verdict. Here an adapter learns instead of an object: every few steps it samples two seeds of some training photos as it
is by then, judge X compares them in both orders, flips are dropped, and what is left is learned until the next round.
After a round without a consistent verdict the last pairs stay; until there are any, steps are skipped, and an adapter
that never gets a pair stays the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from lib.adapters.examples import Example, Latent, structured_latent
from lib.adapters.train import LEARNING
from lib.errors import BadInput
from lib.generator.examine import surface_of
from lib.generator.loading import alone
from lib.judges.candidates import Candidate, Pair
from lib.judges.open import open_judge
from lib.judges.roles import TrainingJudge, label
from lib.stats.estimands import LOSS, WIN
from lib.study.drawing import pictures
from lib.study.records import Records
from lib.trellis.pipeline import Pipeline, Sample

EVERY = 20  # steps between rounds: three rounds in the miniature's training
PHOTOS = 16  # in a round: three rounds see most of the miniature's training photos once


@dataclass(frozen=True)
class Loop:
    """The judge that is asked while a flow learns, and how often."""

    judge: str  # as `lib.judges.open.open_judge` takes it
    layout: str  # that it is asked in
    settings: str  # digest of all of it that can change an answer
    records: Path  # of its answers
    tile: int  # of the pictures that it sees
    fill_interior: bool
    every: int = EVERY
    photos: int = PHOTOS


@dataclass(frozen=True, eq=False)
class Shown:
    """A training photo, and from where its seeds are counted."""

    object: str
    photo: Image.Image
    seed: int


@lru_cache(maxsize=1)
def training_judge(name: str, layout: str) -> TrainingJudge:
    """Judge X by its name, opened once a process. Raises BadInput where it cannot be opened."""
    return TrainingJudge(open_judge(name, layout))


class OnlinePairs:
    """What `lib.adapters.train.train` may learn from at a step: the pairs of the last round that had any.

    adapter: the id of what learns, for the records. counts: pairs asked about, and how many of them became `examples`.
    """

    def __init__(self, pipeline: Pipeline, shown: Sequence[Shown], stage: str, adapter: str, loop: Loop):
        self.pipeline, self.shown, self.stage, self.adapter, self.loop = pipeline, shown, stage, adapter, loop
        self.counts = {"examples": 0, "asked": 0}
        self._pool: list[Example] = []

    def __call__(self, step: int) -> list[Example]:
        if step % self.loop.every == 0:
            self._pool = self._round(step) or self._pool
        return self._pool

    def _round(self, step: int) -> list[Example]:
        turn, count = step // self.loop.every, min(self.loop.photos, len(self.shown))
        chosen = [self.shown[(turn * count + place) % len(self.shown)] for place in range(count)]
        drawn = [[self._sample(one, step, one.seed + 2 * turn + other) for other in range(2)] for one in chosen]
        both = [(one, *pair) for one, pair in zip(chosen, drawn, strict=True) if None not in pair]
        pairs = [Pair(a, b, one.photo) for one, (_, a), (_, b) in both]
        said = label(training_judge(self.loop.judge, self.loop.layout), pairs, Records(self.loop.records))
        alone(self.pipeline)  # the judge may have had the GPU
        found = []
        for (one, (a, _), (b, _)), verdict in zip(both, said, strict=True):
            if verdict.outcome in (WIN, LOSS):
                winner, loser = (a, b) if verdict.outcome == WIN else (b, a)
                cond = self.pipeline.encode([one.photo])[0].float().cpu()
                found.append(Example(cond, self._latent(winner), self._latent(loser)))
        self.counts["asked"] += len(pairs)
        self.counts["examples"] += len(found)
        return found

    def _sample(self, one: Shown, step: int, seed: int) -> tuple[Sample, Candidate] | None:
        """By the adapter as it is now; None where there is no surface to compare."""
        asked = {"adapter": LEARNING, "trajectory": True, "formats": ("mesh",)}
        try:
            (sample,) = self.pipeline.sample(one.photo, seed, fill_interior=self.loop.fill_interior, **asked)
        except BadInput:  # an empty structure
            return None
        if (mesh := surface_of(sample)) is None:
            return None
        facts = {"adapter": self.adapter, "stage": self.stage, "step": step, "seed": seed}
        return sample, Candidate(
            one.object, {self.loop.layout: pictures(mesh, self.loop.tile, self.loop.layout)}, facts
        )

    def _latent(self, sample: Sample) -> Latent:
        if self.stage == "structure":
            return sample.structure_trajectory[-1].cpu()
        return structured_latent(self.pipeline, sample.latent.coords[:, 1:].cpu(), sample.latent.feats.cpu())
