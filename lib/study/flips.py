"""Notebook 03: when the order of two images decides, and why a verdict that survives the swap can still be wrong."""

import numpy as np
import pandas as pd

from lib.stats.clustered import logistic
from lib.stats.estimands import FLIP, LOSS
from lib.study.calibration import CHANCE, gap_bins, named, share, single_answers
from lib.study.generated import generated_table
from lib.study.pairs import IDENTICAL, NO_GAP, answered
from lib.study.published import load_published, proportions, recomputed

EQUAL = 0.01  # view errors that differ by less are called equal
REDRAWN, EQUALS = "same damage, drawn again", f"different, gap under {EQUAL:g}"
ENDS = "", "_low", "_high"  # of the columns of an estimate
STEP = 0.1  # of the gap, for which the model's coefficient is given
POSITION, GAP = "first position", f"gap, per {STEP:g}"


def groups_of(answers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The pairs by what they are: identical, the same damage drawn again, different but equal, and by true gap."""
    different = answers[answers.case != IDENTICAL]
    groups = {
        IDENTICAL: answers[answers.case == IDENTICAL],
        REDRAWN: answers[answers.case == NO_GAP],
        EQUALS: different[different.gap.abs() < EQUAL],
    }
    groups |= {f"gap {above:g} to {to:g}": part for (above, to), part in gap_bins(answers).items()}
    return {name: part for name, part in groups.items() if len(part)}


def flip_table(answers: pd.DataFrame, seed: int, made: pd.DataFrame | None = None) -> pd.DataFrame:
    """Flips and wrong verdicts of each judge by kind of pair, with intervals over objects, and the papers' flip rates.

    Columns: source, pairs, n, flips, flips_low, flips_high; independent: flips if the two orders' answers were
    independent draws with the accuracy that they have; wrong, wrong_low, wrong_high: share of the consistent verdicts
    that name the worse candidate, where one is worse.
    made: further rows, those of `generated_flips`.
    """
    rows = []
    for judge, mine in answered(answers).groupby("judge"):
        for pairs, part in groups_of(mine).items():
            row = {"source": f"judge {judge}", "pairs": pairs, "n": len(part)}
            row |= named("flips", share(part, part.outcome == FLIP, seed))
            if pairs != IDENTICAL:
                row["independent"] = _independent(part)
            if pairs.startswith("gap "):
                row |= named("wrong", share(part, part.outcome == LOSS, seed, among=part.outcome != FLIP))
            rows.append(row)
    return pd.concat([pd.DataFrame(rows), made, printed_flips()], ignore_index=True)


def generated_flips(answers: pd.DataFrame, truth: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The generator's pairs (`lib.study.generated`) in the columns of `flip_table`.

    Worse is the side with the lower F-score. Further columns: preferred (`win_consistent` of the first side) and truth
    (share of pairs in which it has the higher F-score), with intervals.
    """
    table = generated_table(answers, truth, seed)
    rows = table.assign(source="judge " + table.judge, pairs="generator: " + table.pairs)
    rows["independent"] = [
        _independent(answers[(answers.judge == row.judge) & (answers.case == row.pairs)]) for row in table.itertuples()
    ]
    for new, old in {"flips": "flip_rate", "preferred": "win_consistent"}.items():
        rows = rows.assign(**{new + end: rows[old + end] for end in ENDS})
    rows = rows.assign(wrong=1 - rows.agrees, wrong_low=1 - rows.agrees_high, wrong_high=1 - rows.agrees_low)
    shares = [name + end for name in ("flips", "wrong", "preferred", "truth") for end in ENDS]
    return rows[["source", "pairs", "n", "independent", *shares]]


def _independent(part: pd.DataFrame) -> float:
    ab, ba = (part.p_ab >= CHANCE).mean(), (part.p_ba < CHANCE).mean()  # shares of the answers that name a
    return ab * (1 - ba) + (1 - ab) * ba


def printed_flips() -> pd.DataFrame:
    """The papers' flip rates with the intervals that their counts allow, in the columns of `flip_table`.

    A rate printed without counts stands as printed; the companion's is given from its counts, too.
    """
    published = load_published()
    items = published[published.quantity == "flip_rate"]["item"]
    names = {"item": "pairs", "low": "flips_low", "high": "flips_high"}
    printed = proportions(published).rename(columns={**names, "estimate": "flips"})
    printed = printed.assign(source=printed.paper + " paper")
    counted = recomputed(published).rename(columns={**names, "recomputed": "flips"})
    counted = counted.assign(source="companion paper, from its counts")
    both = pd.concat([printed, counted])
    return both.loc[both.pairs.isin(items), ["source", "pairs", "n", "flips", "flips_low", "flips_high"]]


def position_model(answers: pd.DataFrame) -> pd.DataFrame:
    """For each judge, the log odds of naming the first shown, on position (the constant) and the gap of the first over
    the second in steps of `STEP`: GEE over objects, on both orders of all pairs of different images.

    Columns: judge, term, coefficient, low, high, p, odds_ratio, n answers, n_objects.
    """
    parts = []
    for judge, mine in answers[answers.case != IDENTICAL].groupby("judge"):
        both = single_answers(mine)
        terms = pd.DataFrame({POSITION: 1.0, GAP: both.gap / STEP})
        fit = logistic(terms, both.p >= CHANCE, both.object).assign(judge=judge, n=len(both))
        parts.append(fit.assign(odds_ratio=np.exp(fit.coefficient), n_objects=both.object.nunique()))
    columns = ["judge", "term", "coefficient", "low", "high", "p", "odds_ratio", "n", "n_objects"]
    return pd.concat(parts, ignore_index=True)[columns]


def first_by_gap(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How often each judge names the first shown, by the gap of the first over the second: judge, gap (mean), n, first,
    first_low, first_high."""
    both = single_answers(answers[answers.case != IDENTICAL])
    edges = np.linspace(-0.65, 0.65, 14)
    both = both[both.gap.abs() < edges[-1]]
    rows = [
        {"judge": judge, "gap": part.gap.mean(), "n": len(part)} | named("first", share(part, part.p >= CHANCE, seed))
        for (judge, _), part in both.groupby(["judge", pd.cut(both.gap, edges)], observed=True)
    ]
    return pd.DataFrame(rows)
