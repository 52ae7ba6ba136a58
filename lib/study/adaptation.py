"""Notebooks 04 and 05: what adaptation does to the generator, by judge Y's verdicts and by the truth."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from lib.data.degrade import KINDS
from lib.judges.open import open_judge
from lib.judges.roles import EvaluationJudge, Scorer, label
from lib.profiles import Profile
from lib.stats.estimands import LOSS, WIN
from lib.study.adapters import Workshop
from lib.study.cells import BEST_OF, SAMPLING, Cell, taken
from lib.study.generated import generated_subjects, make_cases
from lib.study.lessons import School
from lib.study.online import training_judge
from lib.study.pairs import CLEAR, NO_GAP, answer_frame
from lib.study.records import Records
from lib.study.samples import Request, Sampler
from lib.study.subjects import CLEAN, Subject

UNPRINTED = "curve", "each_before", "each_after"  # of an adapter's record
GATED = "severe"  # photos against whose samples judge Y has to prefer those of clean ones, in every regime
DECISIVE = (  # settings that a cell depends on, besides the models'
    *("seed", "tile", "n_evaluated", "n_train", "train_steps", "photo", "fill_interior", "layout", "data_dir"),
)
HEADROOM = "headroom"  # clean photo against degraded: all that repair could gain


@dataclass
class Study:
    """Everything that the adaptation study asks: the generator, both judges in their roles, objects, records."""

    settings: Profile
    sampler: Sampler
    school: School
    scorer: Scorer
    records: Records  # of judge Y's answers
    finished: Records  # of the cells whose tables were made
    subjects: list[Subject]

    @classmethod
    def open(cls, settings: Profile, workers: int = -1) -> "Study":
        """From a profile. Raises BadInput where the two judges are relatives, or a model is missing."""
        training = training_judge(settings.judge_x, settings.layout)
        scorer = Scorer(EvaluationJudge(open_judge(settings.judge_y, settings.layout)), training)
        sampler, evaluated = Sampler(settings, workers), generated_subjects(settings)
        labels = Records(settings.records_dir / "labels.jsonl")
        school = School(sampler, Workshop(sampler), training, labels, evaluated)
        scores, finished = (Records(settings.records_dir / f"{name}.jsonl") for name in ("scores", "cells"))
        return cls(settings, sampler, school, scorer, scores, finished, evaluated)

    def score(self, pairs: Sequence[tuple[str, Request, Request]]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Judge Y's answers about pairs (name, a, b), one row each (`lib.study.pairs.answer_frame`), and the truth
        about them (`lib.study.generated.make_cases`), in the same order."""
        cases, truth = make_cases(self.sampler, pairs)
        verdicts = self.scorer.score([case.pair for case in cases], self.records, self.sampler.prepare)
        return answer_frame("Y", cases, verdicts), truth

    def adapted(self, cell: Cell, training_seed: int = 0) -> list[Request]:
        """The cell's sample of every evaluated object; none where there was nothing to learn from."""
        base = self.base(cell.severity, cell.kinds)
        if cell.stage == SAMPLING:
            return self._favorites(base)
        adapter = self.school.adapter(cell, training_seed)
        taught = self.school.workshop.facts([adapter]).examples.sum() > 0
        return [replace(one, adapter=adapter) for one in base] if taught else []

    def facts(self, cells: Sequence[Cell]) -> pd.DataFrame:
        """`Workshop.facts` of the cells' adapters."""
        return self.school.workshop.facts([self.school.adapter(cell) for cell in cells])

    def training(self, cells: Sequence[Cell]) -> pd.DataFrame:
        """How the cells' adapters were trained, one row a cell and stage: `facts` without curves.

        note: "no lessons" where there was nothing to learn from, as when judge X flipped on every pair.
        """
        parts = [
            self.facts([cell]).assign(
                method=cell.method,
                severity=cell.severity,
                stage=lambda part, cell=cell: part.stage.replace("", cell.stage),
            )
            for cell in cells
        ]
        table = pd.concat(parts, ignore_index=True)
        table["note"] = np.where(table.examples == 0, "no lessons", "")
        first = ["method", "severity", "stage", "note"]
        return table[[*first, *(name for name in table if name not in (*first, *UNPRINTED))]]

    def seconds(self, cells: Sequence[Cell]) -> list[float]:
        """What training each cell's adapter took; 0 where nothing is trained."""
        return [0.0 if cell.stage == SAMPLING else float(self.facts([cell]).seconds.sum()) for cell in cells]

    def and_finished(self, cells: Sequence[Cell], known: Sequence[Cell]) -> list[Cell]:
        """The cells, and of the known ones those that an earlier run with these settings has finished, in that order.

        So a plain run shows, and does not overwrite, what a run of full coverage left on record.
        """
        more = [cell for cell in known if cell in cells or self.has_finished(cell)]
        return more if len(more) > len(cells) else list(cells)

    def has_finished(self, cell: Cell, training_seed: int = 0) -> bool:
        """Whether `finish` was called for it, in this run or another with these settings."""
        return self._finished_key(cell, training_seed) in self.finished

    def finish(self, cells: Sequence[Cell], training_seed: int = 0):
        """Records that the table of these cells is made: all that it needs is on record."""
        seeded = {"training_seed": training_seed} if training_seed else {}
        lines = [{"key": self._finished_key(cell, training_seed), "cell": cell.name} | seeded for cell in cells]
        if new := [line for line in lines if line["key"] not in self.finished]:
            self.finished.add(new)

    def _finished_key(self, cell: Cell, training_seed: int) -> str:
        settings = {name: getattr(self.settings, name) for name in DECISIVE}
        judges = [one.settings for one in (self.school.judge.judge, self.scorer.judge)]
        seeded = [training_seed] if training_seed else []
        return Records.key(self.sampler.weights, settings, judges, asdict(cell), *seeded)

    def base(self, severity: str = CLEAN, kinds: tuple[str, ...] = KINDS) -> list[Request]:
        """The unchanged generator's sample of every evaluated object."""
        return [Request(one, self.settings.seed, severity, kinds) for one in self.subjects]

    def cell_pairs(self, cells: Sequence[Cell]) -> list[tuple[str, Request, Request]]:
        """Adapted (a) against base (b), same photo and seed, for every cell and object.

        A cell without lessons has no pairs: base against base would count as flips of a method that was never applied.
        """
        self.facts([cell for cell in cells if cell.stage != SAMPLING])  # all adapters are trained at once
        made = [(cell, self.adapted(cell), self.base(cell.severity, cell.kinds)) for cell in cells]
        return [
            (cell.name, *pair)
            for cell, adapted, base in made
            for pair in zip(adapted, base[: len(adapted)], strict=True)
        ]

    def control_pairs(self, cells: Sequence[Cell]) -> list[tuple[str, Request, Request]]:
        """The controls of every regime among the cells, all of the base: the clean photo's sample against that of the
        severe one (clear gap), two seeds (no gap), the clean photo's sample against the regime's own (headroom)."""
        pairs, bad = [], self.base(GATED)
        for severity, kinds in dict.fromkeys((cell.severity, cell.kinds) for cell in cells):
            for base, clean, worst in zip(self.base(severity, kinds), self.base(), bad, strict=True):
                pairs.append((control(CLEAR, severity, kinds), clean, worst))
                pairs.append((control(NO_GAP, severity, kinds), base, replace(base, seed=base.seed + 1)))
                if severity != CLEAN:
                    pairs.append((control(HEADROOM, severity, kinds), clean, base))
        return pairs

    def _favorites(self, base: Sequence[Request]) -> list[Request]:
        """Of `BEST_OF` seeds the one that wins most comparisons by judge X; of equals the likeliest."""
        pools = [[replace(one, seed=one.seed + place) for place in range(BEST_OF)] for one in base]
        rivals = list(combinations(range(BEST_OF), 2))
        pairs = [("best of k", pool[i], pool[j]) for pool in pools for i, j in rivals]
        cases, _ = make_cases(self.sampler, pairs)
        said = label(self.school.judge, [case.pair for case in cases], self.school.records, self.sampler.prepare)
        answers = answer_frame("X", cases, said)
        won = (
            np.stack([answers.outcome == WIN, answers.outcome == LOSS], 1)
            + np.stack([answers.p_a, 1 - answers.p_a], 1) / 10
        )
        tally = np.zeros([len(pools), BEST_OF])
        for (i, j), points in zip(rivals, won.reshape(len(pools), len(rivals), 2).swapaxes(0, 1), strict=True):
            tally[:, i] += points[:, 0]
            tally[:, j] += points[:, 1]
        return [pool[best] for pool, best in zip(pools, tally.argmax(1), strict=True)]


def control(name: str, severity: str, kinds: tuple[str, ...] = KINDS) -> str:
    """What the pairs of a control in a regime are called."""
    return f"{name}, {taken(severity, kinds)}"
