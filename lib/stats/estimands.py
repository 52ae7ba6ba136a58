"""What a win-rate can mean when some pairs flip: three estimands, each with its interval."""

from dataclasses import dataclass

import numpy as np

from lib.errors import BadInput
from lib.stats.bootstrap import share_by_object
from lib.stats.intervals import CONFIDENCE, Estimate

WIN, LOSS, FLIP = OUTCOMES = ("win", "loss", "flip")
ABSTENTION = "abstention"  # the judge named neither side in one order or both: no evidence, so in none of the shares


@dataclass(frozen=True)
class Counts:
    """How many pairs were won, lost, and flipped (the two orders disagreed). n leaves abstentions out."""

    wins: int
    losses: int
    flips: int

    @property
    def n(self) -> int:
        return self.wins + self.losses + self.flips

    @property
    def consistent(self) -> int:
        return self.wins + self.losses


def count(outcomes) -> Counts:
    """Counts of a sequence of "win", "loss", "flip" and "abstention". Raises BadInput for any other outcome."""
    outcomes = np.asarray(outcomes, dtype=str)
    if unknown := sorted(set(outcomes) - {*OUTCOMES, ABSTENTION}):
        raise BadInput("outcomes", f"{unknown[0]!r} is not an outcome", f"Use {', '.join(OUTCOMES)}")
    return Counts(*(int(np.sum(outcomes == kind)) for kind in OUTCOMES))


def estimands(outcomes, objects, seed: int, confidence: float = CONFIDENCE) -> dict[str, Estimate]:
    """The three readings of a win-rate, from one outcome a pair, each with an interval over objects.

    "win/all": a flip is no win (the zeros of arXiv 2606.20364 read so); "win/consistent": flips are left out;
    "win + flip/2": a flip is a tie. Only the last two are 0.5 where neither side is better.
    outcomes: (n_pairs,) of "win", "loss", "flip", and "abstention", which all three leave out; objects: (n_pairs,) ids;
    interval as `share_by_object`.
    """
    count(outcomes)
    outcomes = np.asarray(outcomes, dtype=str)
    win, flip = outcomes == WIN, outcomes == FLIP
    every = outcomes != ABSTENTION
    shares = {"win/all": (win, every), "win/consistent": (win, every & ~flip), "win + flip/2": (win + flip / 2, every)}
    return {name: share_by_object(top, below, objects, seed, confidence) for name, (top, below) in shares.items()}
