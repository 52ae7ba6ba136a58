"""What a judge said, and what it counts as once both orders are known."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """A judge's answer to one question.

    p: probability of each label (first candidate shown, second, tie where offered), scaled to sum to 1; nan for each
    where the judge abstained, that is, named none. mass: what the model gave to all labels together, before that.
    seconds: its share of the time its batch took.
    """

    p: tuple[float, ...]
    mass: float
    seconds: float

    @property
    def pick(self) -> int | None:
        """The place of the likeliest label; of equal ones the first. None for an abstention."""
        return None if math.isnan(self.p[0]) else self.p.index(max(self.p))


@dataclass(frozen=True)
class Verdict:
    """Both answers about one pair: `ab` showed a first, `ba` showed b first."""

    ab: Answer
    ba: Answer

    @property
    def outcome(self) -> str:
        """What survives the swap: "win" or "loss" of a, "tie" where both answers say so, else "flip" (2606.20364).

        "abstention" where the judge named no label in one order or both: it said nothing that could survive or flip.
        """
        if None in (self.ab.pick, self.ba.pick):
            return "abstention"
        return {(0, 1): "win", (1, 0): "loss", (2, 2): "tie"}.get((self.ab.pick, self.ba.pick), "flip")

    @property
    def averaged(self) -> str:
        """ "win", "loss" or "tie" by the mean of both orders' probabilities, nothing discarded; else "abstention".

        Balanced position calibration (FairEval, arXiv 2305.17926), on probabilities instead of scores.
        """
        if self.outcome == "abstention":
            return "abstention"
        a, b = self.ab.p[0] + self.ba.p[1], self.ab.p[1] + self.ba.p[0]
        tie = sum(self.ab.p[2:] + self.ba.p[2:])
        if tie > max(a, b) or abs(a - b) < 1e-5:  # records keep six digits
            return "tie"
        return "win" if a > b else "loss"
