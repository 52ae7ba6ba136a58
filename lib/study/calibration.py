"""Notebook 02: how far a judge can be trusted, from pairs whose better side is known (`lib.study.pairs`)."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd

from lib.stats import gates
from lib.stats.agreement import kappa_from_agreement
from lib.stats.bootstrap import mean_by_object, share_by_object
from lib.stats.clustered import kappa_by_object
from lib.stats.estimands import FLIP, LOSS, WIN, count, estimands
from lib.stats.intervals import Estimate
from lib.stats.scores import brier, reliability
from lib.study.pairs import CLEAR, GRADED, IDENTICAL, NO_GAP, answered

GAP_EDGES = (0, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 1)
ESTIMANDS = ("win_all", "win_consistent", "win_half")  # columns of `lib.stats.estimands.estimands`, in its order
NARROW = 0.1  # gaps below are called narrow
CHANCE = 0.5
ALL = "all with a gap"
READINGS = {"outcome": "flips discarded", "averaged": "orders averaged"}  # columns of an answer, and what they mean


def with_gap(answers: pd.DataFrame) -> pd.DataFrame:
    """The pairs of which one side is truly better, the clear gap among them; abstentions are left out."""
    answers = answered(answers)
    return answers[answers.case.isin((CLEAR, GRADED)) & (answers.gap > 0)]


def gap_bins(answers: pd.DataFrame) -> dict[tuple[float, float], pd.DataFrame]:
    """The pairs with a gap in each bin of `GAP_EDGES` (above, up to) that holds some."""
    graded = with_gap(answers)
    bins = graded.groupby(pd.cut(graded.gap, GAP_EDGES), observed=True)
    return {(edges.left, edges.right): part for edges, part in bins}


def narrow_and_wide(answers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All pairs with a gap, the narrow ones, the others."""
    graded = with_gap(answers)
    narrow = graded.gap < NARROW
    return {"all": graded, f"under {NARROW:g}": graded[narrow], f"from {NARROW:g}": graded[~narrow]}


def named(name: str, estimate: Estimate) -> dict:
    """An estimate as three columns of a table: name, name_low, name_high."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def share(part: pd.DataFrame, numerator, seed: int, among=True) -> Estimate:
    """Mean of `numerator` (a column, or bool) over the pairs that are `among`, with its interval over objects."""
    among = np.broadcast_to(np.asarray(among, float), len(part))
    return share_by_object(np.asarray(numerator, float) * among, among, part.object, seed)


def controls_table(
    answers: pd.DataFrame, seed: int, controls: tuple[str, str, str] = (CLEAR, NO_GAP, IDENTICAL)
) -> pd.DataFrame:
    """Clear gap, no gap, and a third control without a gate, for each judge: counts, the three estimands, flips, gates.

    `reading` is of the judge: "not interpretable" where a gate failed, on every row of it. n counts abstentions, the
    shares leave them out; there are as many as n is larger than wins, losses and flips together.
    """
    rows = []
    for judge, mine in answers.groupby("judge"):
        of = {case: mine[mine.case == case] for case in controls}
        clear, nothing = of[controls[0]], of[controls[1]]
        passed = {
            controls[0]: gates.clear_gap(clear.outcome),
            controls[1]: gates.no_gap(nothing.outcome, nothing.object, seed),
        }
        reading = "interpretable" if gates.interpretable(*passed.values()) else "not interpretable"
        for case, part in of.items():
            row = {"judge": judge, "control": case, "n": len(part)} | asdict(count(part.outcome))
            for name, one in zip(ESTIMANDS, estimands(part.outcome, part.object, seed).values(), strict=True):
                row |= named(name, one)
            row |= named("flip_rate", share(answered(part), answered(part).outcome == FLIP, seed))
            gate = "" if case not in passed else "passed" if passed[case].passed else "failed"
            rows.append(row | {"gate": gate, "reading": reading})
    return pd.DataFrame(rows)


def by_gap(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """For each judge and bin of the true gap, with intervals over objects.

    gap: the bin's mean; right: accuracy of the single answers; consistent: accuracy of the verdicts that survive the
    swap; flips: share of the pairs. `*_low`, `*_high`: their intervals.
    """
    rows = []
    for judge, mine in answers.groupby("judge"):
        for (above, to), part in gap_bins(mine).items():
            row = {"judge": judge, "gap_from": above, "gap_to": to, "gap": part.gap.mean(), "n": len(part)}
            row |= named("right", share(part, part.right, seed))
            row |= named("consistent", share(part, part.outcome == WIN, seed, among=part.outcome != FLIP))
            rows.append(row | named("flips", share(part, part.outcome == FLIP, seed)))
    return pd.DataFrame(rows)


def position_table(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The first position's pull, by judge and kind of pair: since both orders are asked, an unbiased judge gives .5.

    p_first: mean probability of the first label; named_first: share of the answers that name it.
    """
    rows = []
    for (judge, case), part in answered(answers).groupby(["judge", "case"], sort=False):
        first = ((part.p_ab >= CHANCE).astype(float) + (part.p_ba >= CHANCE)) / 2
        row = {"judge": judge, "case": case, "n": len(part)}
        row |= named("p_first", share(part, (part.p_ab + part.p_ba) / 2, seed))
        rows.append(row | named("named_first", share(part, first, seed)))
    return pd.DataFrame(rows)


def single_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """One row an answer, so two a pair: judge, object, p (of the first label), gap (of the first over the second,
    negative where the second is truly better). Pairs with an abstention are left out, or one order would weigh more."""
    answers = answered(answers)
    orders = [
        pd.DataFrame({"p": answers.p_ab, "gap": answers.gap}),
        pd.DataFrame({"p": answers.p_ba, "gap": -answers.gap}),
    ]
    return pd.concat([answers[["judge", "object"]].join(one) for one in orders], ignore_index=True)


def reliability_table(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """`lib.stats.scores.reliability` of every judge: the probability given to the first label against how often the
    first shown was truly better."""
    parts = [
        reliability(part.p, part.gap > 0, part.object, seed).assign(judge=judge)
        for judge, part in single_answers(with_gap(answers)).groupby("judge")
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame[["judge", *frame.columns.drop("judge")]]


def brier_table(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Brier scores by judge and gap: of the single answers, and of both orders' mean; always saying .5 scores .25."""
    rows = []
    for judge, mine in answers.groupby("judge"):
        for gap, part in narrow_and_wide(mine).items():
            both = single_answers(part)
            row = {"judge": judge, "gap": gap, "n": len(part)}
            row |= named("one_order", brier(both.p, both.gap > 0, both.object, seed))
            rows.append(row | named("averaged", brier(part.p_a, np.ones(len(part)), part.object, seed)))
    return pd.DataFrame(rows)


def agreement_table(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Where both judges give a consistent verdict, how often it is the same one: for pairs without a gap, by gap, and
    for all pairs with a gap.

    kappa: over agreement by chance of one half, for neither candidate has a place of its own. independent: the
    agreement that their accuracies alone would give. kappa_right: Cohen's kappa of being right, so how far their errors
    coincide (bootstrap over objects).
    """
    (_, x), (_, y) = answers.groupby("judge")
    x, y = x.reset_index(drop=True), y.reset_index(drop=True)
    groups = {"redrawn, no gap": x[x.case == NO_GAP]}
    groups |= {f"{above:g} to {to:g}": part for (above, to), part in gap_bins(x).items()}
    groups |= {ALL: with_gap(x)}
    rows = [_agreement(part, y.loc[part.index], seed) | {"gap": name} for name, part in groups.items()]
    frame = pd.DataFrame(rows)
    return frame[["gap", *frame.columns.drop("gap")]]


def _agreement(x: pd.DataFrame, y: pd.DataFrame, seed: int) -> dict:
    decided = x.outcome.isin((WIN, LOSS)) & y.outcome.isin((WIN, LOSS))
    row = {"pairs": len(x), "n": decided.sum()}
    x, y = x[decided], y[decided]
    same = share(x, x.outcome == y.outcome, seed)
    row |= named("agreement", same)
    if len(x):
        row |= named("kappa", kappa_from_agreement(same, CHANCE))
    if not (x.case == NO_GAP).any():
        right_x, right_y = x.outcome == WIN, y.outcome == WIN
        a, b = right_x.mean(), right_y.mean()
        row["independent"] = a * b + (1 - a) * (1 - b)
        row |= named("kappa_right", kappa_by_object(right_x, right_y, x.object, seed))
    return row


def options_table(asked: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """What each way of asking changes, with the verdict read as the paper does (flips discarded) and orders averaged.

    asked: answers to the same cases in the same order, by name of the way. decided: share of the pairs with a verdict
    for one side; right: share of these that name the better one; score: the same over all pairs, an undecided one
    counted half; change: of the score, pair by pair, against the first way with flips discarded. Where there is no gap,
    only `decided` means something.
    """
    rows, first = [], {}
    for way, answers in asked.items():
        for judge, mine in answers.groupby("judge"):
            mine = answered(mine.reset_index(drop=True))  # the index tells which pairs two ways have in common
            groups = narrow_and_wide(mine) | {NO_GAP: mine[mine.case == NO_GAP]}
            for (column, reading), (gap, part) in product(READINGS.items(), groups.items()):
                decided, win = part[column].isin((WIN, LOSS)), part[column] == WIN
                score = win.where(decided, CHANCE).astype(float)
                row = {"judge": judge, "gap": gap, "way": way, "reading": reading, "n": len(part)}
                row |= named("decided", share(part, decided, seed))
                if gap != NO_GAP:
                    row |= named("right", share(part, win, seed, among=decided))
                    row |= named("score", share(part, score, seed))
                    if (judge, gap) in first:
                        change = (score - first[judge, gap]).dropna()
                        row |= named("change", mean_by_object(change, 1, part.object[change.index], seed))
                    first.setdefault((judge, gap), score)
                rows.append(row)
    return pd.DataFrame(rows).sort_values(["gap", "judge"], kind="stable", ignore_index=True)
