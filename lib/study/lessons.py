"""What adapters are taught: judge X's verdicts on contrastive samples of the training objects, and clean photos."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from lib.adapters.repair import RepairRecipe
from lib.adapters.train import LoraRecipe
from lib.data.datasets import open_dataset
from lib.data.degrade import KINDS
from lib.data.procedural import furniture
from lib.generator.examine import LARGE, SMALL
from lib.judges.roles import TrainingJudge, label
from lib.judges.verdicts import Verdict
from lib.profiles import Profile
from lib.stats.estimands import FLIP, LOSS, WIN
from lib.study.adapters import Lesson, Order, Workshop
from lib.study.cells import METHODS, Cell
from lib.study.generated import make_cases
from lib.study.online import Loop
from lib.study.records import Records
from lib.study.samples import Request, Sampler
from lib.study.subjects import CLEAN, Subject, require_disjoint, subjects

FIRST = 2_000_000  # of the procedural training split: the judges and the generator learned from others
HELD = 8  # every so many of the training objects are only probed
REPAIR_PHOTOS = 4  # objects for conditioner repair, which needs no samples, for each object of the others
REPAIR_STEPS = 6  # for each step of the others; they are a fifth as long
DISTANT = 1_000  # added to a training object's seed

RECIPES = {  # the paper prints betas and the stage; the rest is `LoraRecipe`'s and `RepairRecipe`'s, with reasons
    "sft_best": LoraRecipe("sft_best"),
    "dpo_0.1": LoraRecipe("dpo", beta=0.1),
    "dpo_0.5": LoraRecipe("dpo", beta=0.5),
    "dpo_flow": LoraRecipe("dpo", beta=2000, reduction="mean"),
    "dreamdpo": LoraRecipe("dpo", beta=2000, reduction="mean"),  # so that it differs from dpo_flow in its pairs alone
    "orpo": LoraRecipe("orpo"),
    "dro": LoraRecipe("dro"),
    "sft_clean": LoraRecipe("sft_clean"),
    "conditioner_repair": RepairRecipe(),
}


def training_subjects(settings: Profile, n: int) -> list[Subject]:
    """Objects that are never judged on: procedural furniture of the training split, or the last of the profile's data
    in the order of its draws, of which evaluation takes the first."""
    seed = settings.seed + DISTANT
    if not settings.data_dir:
        return subjects([furniture("train", FIRST + place) for place in range(n)], settings.photo, seed)
    dataset = open_dataset(settings.data_dir)
    judged = set(dataset.subset(min(settings.n_evaluated, len(dataset)), settings.seed).ids)
    rest = replace(dataset, entries={id: one for id, one in dataset.entries.items() if id not in judged})
    return subjects(rest.subset(min(n, len(rest)), settings.seed), settings.photo, seed)


@dataclass(frozen=True)
class Labelled:
    """Contrastive pairs of one regime, the training judge's verdicts on them, and the truth about them."""

    pairs: list[tuple[Request, Request]]
    verdicts: list[Verdict]
    usable: list[bool]  # both samples have a surface
    better: list[bool]  # the larger budget has the higher F-score

    @property
    def lessons(self) -> list[Lesson]:
        """One a consistent verdict."""
        kept = [
            (pair, verdict.outcome)
            for pair, verdict, usable in zip(self.pairs, self.verdicts, self.usable, strict=True)
            if usable and verdict.outcome in (WIN, LOSS)
        ]
        ordered = (pair if outcome == WIN else pair[::-1] for pair, outcome in kept)
        return [Lesson(winner, winner, loser) for winner, loser in ordered]

    def counts(self) -> dict:
        """pairs, usable, wins of the larger budget, losses, flips; truth_wins: of the larger budget by F-score; right:
        consistent verdicts that name the side with the higher F-score."""
        said = pd.Series([verdict.outcome for verdict in self.verdicts])
        outcomes = {"wins": WIN, "losses": LOSS, "flips": FLIP}
        counted = {name: int((said == outcome).sum()) for name, outcome in outcomes.items()}
        right = int((said == np.where(self.better, WIN, LOSS)).sum())
        known = {"truth_wins": sum(self.better), "right": right}
        return {"pairs": len(said), "usable": sum(self.usable)} | counted | known


@dataclass
class School:
    """Orders the adapters of cells. Judge X labels here, and nothing that it labels is judged on."""

    sampler: Sampler
    workshop: Workshop
    judge: TrainingJudge
    records: Records  # of judge X's answers
    evaluated: Sequence[Subject]
    labels: dict[tuple, Labelled] = field(default_factory=dict)  # by regime

    @cached_property
    def subjects(self) -> list[Subject]:
        """All training objects; the first `n_train` of them give samples, the others photos only."""
        settings = self.sampler.settings
        found = training_subjects(settings, REPAIR_PHOTOS * settings.n_train)
        require_disjoint(found, self.evaluated)
        return found

    @property
    def seed(self) -> int:
        return self.sampler.settings.seed

    def labelled(self, severity: str, kinds: tuple[str, ...] = KINDS) -> Labelled:
        """A large and a small budget on every training object's photo, compared by judge X in both orders."""
        key = severity, kinds if severity != CLEAN else KINDS
        if key not in self.labels:
            asked = [Request(one, self.seed, *key) for one in self.subjects[: self.sampler.settings.n_train]]
            pairs = [(replace(one, **LARGE), replace(one, **SMALL)) for one in asked]
            cases, truth = make_cases(self.sampler, [("contrastive", *pair) for pair in pairs])
            said = label(self.judge, [case.pair for case in cases], self.records, self.sampler.prepare)
            usable = (truth.share_a > 0) & (truth.share_b > 0)
            self.labels[key] = Labelled(pairs, said, usable.tolist(), (truth.f_score_a > truth.f_score_b).tolist())
        return self.labels[key]

    def adapter(self, cell: Cell, training_seed: int = 0) -> str | None:
        """The id of the cell's adapter, ordered from the workshop; None where there is nothing to learn from."""
        recipe, lessons, steps = RECIPES[cell.method], self.lessons(cell), self.sampler.settings.train_steps
        if isinstance(recipe, LoraRecipe):
            recipe = replace(recipe, stage=cell.stage, steps=steps, seed=training_seed)
        else:
            recipe = replace(recipe, steps=REPAIR_STEPS * steps, seed=training_seed)
        held = tuple(lessons[::HELD])
        learned = tuple(one for one in lessons if one not in held)
        loop = self._loop() if METHODS[cell.method].learns == "online" else None
        return self.workshop.order(Order(recipe, learned, held, loop)) if learned else None

    def lessons(self, cell: Cell) -> list[Lesson]:
        """What the cell's method learns from, in its regime."""
        taken, learns = (cell.severity, cell.kinds), METHODS[cell.method].learns
        if learns == "pairs":
            return self.labelled(*taken).lessons
        photos = [Request(one, self.seed, *taken) for one in self.subjects]
        if learns == "conditions":
            return [Lesson(one, Request(one.subject, self.seed)) for one in photos]
        photos = photos[: self.sampler.settings.n_train]
        source = photos if learns == "online" else [Request(one.subject, self.seed) for one in photos]
        good = [replace(one, **LARGE) for one in source]
        usable = self.sampler.measured(good).share > 0
        return [Lesson(*both) for both, use in zip(zip(photos, good, strict=True), usable, strict=True) if use]

    def _loop(self) -> Loop:
        settings = self.sampler.settings
        digest = Records.key(self.judge.judge.settings)
        return Loop(settings.judge_x, settings.layout, digest, self.records.path, settings.tile, settings.fill_interior)


def label_table(school: School, cells: Sequence[Cell]) -> pd.DataFrame:
    """Judge X on the contrastive pairs of every regime that some cell learns pairs of: severity, kinds, and
    `Labelled.counts`."""
    regimes = dict.fromkeys((one.severity, one.kinds) for one in cells if METHODS[one.method].learns == "pairs")
    rows = [
        {"severity": regime[0], "kinds": " ".join(regime[1])} | school.labelled(*regime).counts() for regime in regimes
    ]
    return pd.DataFrame(rows)
