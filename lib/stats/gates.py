"""The two controls that a judge must pass before a row that it scored may be read."""

from dataclasses import dataclass

from lib.stats.estimands import count, estimands
from lib.stats.intervals import CONFIDENCE

CLEAR_WINS, CLEAR_FLIPS = 0.85, 0.2


@dataclass(frozen=True)
class Gate:
    """Whether a control was passed, and the numbers that say so."""

    passed: bool
    reason: str


def clear_gap(outcomes) -> Gate:
    """A control where one mesh is clearly better: it wins >= 0.85 of consistent verdicts, and flips are <= 0.2.

    outcomes: (n_pairs,) of "win" (the better mesh was preferred), "loss", "flip", and "abstention", which counts here
    as a flip: a judge that cannot answer does not pass. Not passed where no verdict is consistent.
    """
    counts = count(outcomes)
    abstained = len(outcomes) - counts.n
    reason = (
        f"better mesh preferred in {counts.wins} of {counts.consistent} consistent verdicts (at least {CLEAR_WINS}), "
        f"{counts.flips} of {len(outcomes)} pairs flipped{f' and {abstained} abstained' * bool(abstained)} "
        f"(at most {CLEAR_FLIPS})"
    )
    wins_enough = counts.consistent > 0 and counts.wins >= CLEAR_WINS * counts.consistent
    return Gate(wins_enough and counts.flips + abstained <= CLEAR_FLIPS * len(outcomes), reason)


def no_gap(outcomes, objects, seed: int, confidence: float = CONFIDENCE) -> Gate:
    """A control where neither side is better: 0.5 lies inside the interval of win/consistent.

    Passed where every pair flips, since a judge then prefers neither side; that it can tell a gap is for `clear_gap`.
    Not passed where there are no pairs.
    """
    counts = count(outcomes)
    share = estimands(outcomes, objects, seed, confidence)["win/consistent"]
    reason = (
        f"{counts.wins} of {counts.consistent} consistent verdicts, interval [{share.low:.2f}, {share.high:.2f}], "
        f"{counts.flips} of {counts.n} pairs flipped"
    )
    return Gate(counts.n > 0 and share.holds(0.5), reason)


def interpretable(*controls: Gate) -> bool:
    """Whether a row may be read: every control of it passed. False without any control."""
    return bool(controls) and all(gate.passed for gate in controls)
