"""The judge on a cluster: the same model in every worker, and a share of the questions for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from joblib import Parallel, delayed, effective_n_jobs

from lib.judges.candidates import Picture, Question
from lib.judges.engines import batches
from lib.judges.prompts import LABELS
from lib.judges.verdicts import Answer
from lib.judges.vlm import VLMJudge
from lib.placement import one_thread

SHARE = 4  # batches for each worker in one call: less often all wait for the last


@dataclass(frozen=True)
class Shown:
    """A question as it travels: its pictures, made where the meshes are."""

    pictures: list[Picture]


class ClusterJudge(VLMJudge):
    """A `VLMJudge` whose questions the workers of the active backend answer (`lib.backend`); each loads it once.

    Its records are those of a `VLMJudge`. Raises BadInput as that does, and where there is no cluster.
    """

    def __init__(self, model: str | Path, layout: str = "montage"):
        super().__init__(model, layout)
        self.source, self.batch = model, SHARE * effective_n_jobs(-1) * self.batch

    @property
    def settings(self) -> dict:
        """As of the judge that each worker asks."""
        return super().settings | {"batch": self.engine.batch}

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """As `VLMJudge.ask`."""
        how = self.layout.name, [one.wording for one in self.prompts], len(self.prompts[0].labels) > len(LABELS)
        shown = [Shown(question.pictures) for question in questions]
        jobs = (delayed(_ask)(self.source, how, part) for part in batches(shown, self.engine.batch))
        return [answer for said in Parallel(-1, return_as="generator")(jobs) for answer in said]


@cache
def _opened(source: str | Path) -> VLMJudge:
    return VLMJudge(source)


def _ask(source: str | Path, how: tuple, shown: Sequence[Shown]) -> list[Answer]:
    one_thread()
    return _opened(source).asking(*how).ask(shown)
