"""Two judges, two jobs: X labels training pairs, Y scores what was trained, and neither may do the other's.

A model trained on one judge's verdicts learns that judge's taste; the same judge would then reward its own (arXiv
2606.20364 enforces X != Y). Both may be calibrated with `judge_pairs` on the same controls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lib.errors import BadInput
from lib.judges.candidates import Pair
from lib.judges.protocol import Judge, Prepare, Store, judge_pairs
from lib.judges.verdicts import Verdict


@dataclass(frozen=True)
class TrainingJudge:
    """Judge X: its verdicts become training data."""

    judge: Judge


@dataclass(frozen=True)
class EvaluationJudge:
    """Judge Y: its verdicts become win-rates."""

    judge: Judge


def label(judge: TrainingJudge, pairs: Sequence[Pair], records: Store, prepare: Prepare | None = None) -> list[Verdict]:
    """Verdicts to train on; prepare as for `judge_pairs`. Raises BadInput for anything but a TrainingJudge."""
    if not isinstance(judge, TrainingJudge):
        problem = f"a {type(judge).__name__} may not label training pairs: what it labels, it could no longer score"
        raise BadInput("judge", problem, "Label with a TrainingJudge of another model family")
    return judge_pairs(judge.judge, pairs, records, prepare)


class Scorer:
    """Win-rates by judge Y of what judge X trained.

    Raises BadInput where the scoring judge is not an EvaluationJudge, and where both are of one model family.
    """

    def __init__(self, evaluation: EvaluationJudge, training: TrainingJudge):
        if not isinstance(evaluation, EvaluationJudge):
            problem = f"a {type(evaluation).__name__} may not score: it would reward what was trained to please it"
            raise BadInput("evaluation", problem, "Score with an EvaluationJudge of another model family")
        if not isinstance(training, TrainingJudge):
            problem = f"the training labels are not from a TrainingJudge but a {type(training).__name__}"
            raise BadInput("training", problem, "Give the TrainingJudge that labelled the pairs")
        if evaluation.judge.family == training.judge.family:
            problem = f"trained and scored by the family {training.judge.family}: relatives share their biases"
            raise BadInput("evaluation", problem, "Take the two judges from different model families")
        self.judge = evaluation.judge

    def score(self, pairs: Sequence[Pair], records: Store, prepare: Prepare | None = None) -> list[Verdict]:
        """Judge Y's verdict on every pair; prepare as for `judge_pairs`."""
        return judge_pairs(self.judge, pairs, records, prepare)
