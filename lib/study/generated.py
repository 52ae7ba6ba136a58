"""Pairs of the generator's own samples, as the paper compares them, each beside what the true surface says of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.generator.examine import LARGE, SMALL
from lib.judges.candidates import Pair
from lib.judges.training.cases import Case
from lib.profiles import Profile
from lib.stats.estimands import LOSS, WIN
from lib.study.calibration import controls_table, named, share
from lib.study.protocol import gather_objects
from lib.study.samples import Request, Sampler
from lib.study.subjects import Subject, subjects

SEVERE = "clean photo against severe"  # the paper's clear gap: what a clean photo gives, what a degraded one gives
SEEDS = "two seeds"  # the paper's base against base, and its independent samples
BUDGET = "25 steps against 2"  # the paper's contrastive pairs; the 2 are without guidance
COMPARED = (SEVERE, SEEDS, BUDGET)


def generated_subjects(settings: Profile) -> list[Subject]:
    """The objects whose samples judges compare: the first of the test split, or a draw from the profile's data."""
    objects, _ = gather_objects(settings, n=settings.n_evaluated)
    return subjects(objects, settings.photo, settings.seed)


def compared(subject: Subject, seed: int) -> dict[str, tuple[Request, Request]]:
    """The two samples of each kind of pair; the first is meant to be the better one, of two seeds neither is."""
    clean = Request(subject, seed)
    return {
        SEVERE: (clean, Request(subject, seed, "severe")),
        SEEDS: (clean, Request(subject, seed + 1)),
        BUDGET: (Request(subject, seed, **LARGE), Request(subject, seed, **SMALL)),
    }


def generated_cases(
    sampler: Sampler, given: Sequence[Subject], seed: int, layouts: Sequence[str] = ()
) -> tuple[list[Case], pd.DataFrame]:
    """All pairs in every layout (none: the profile's), of which `a` is the first, and the truth, one row a pair.

    The gap is in view error, as everywhere. Columns of the truth: case, object; f_score, chamfer, view, share and
    validity of either side, as `f_score_a`. What is not on record is drawn.
    """
    pairs = [(name, *pair) for subject in given for name, pair in compared(subject, seed).items()]
    return make_cases(sampler, pairs, layouts)


def make_cases(
    sampler: Sampler, pairs: Sequence[tuple[str, Request, Request]], layouts: Sequence[str] = ()
) -> tuple[list[Case], pd.DataFrame]:
    """Cases and truth, as `generated_cases`, of any pairs (name, a, b) of requests for the same object.

    A layout with a photo shows the clean one, whatever photo the samples were made from.
    """
    requests = [request for _, a, b in pairs for request in (a, b)]
    measured = sampler.measured(requests).drop(columns=["key", "seed", "object"])
    sides = [measured[side::2].reset_index(drop=True).add_suffix(f"_{name}") for side, name in enumerate("ab")]
    names = {"case": [name for name, *_ in pairs], "object": [a.subject.item.id for _, a, _ in pairs]}
    truth = pd.DataFrame(names).join(sides)
    gaps, cases = truth.view_b - truth.view_a, []
    for layout in layouts or [sampler.settings.layout]:
        for (name, a, b), gap in zip(pairs, gaps, strict=True):
            candidates = (sampler.candidate(one, layout) for one in (a, b))
            shown = Request(a.subject, a.seed)
            cases.append(Case(name, layout, Pair(*candidates, shown.photo, sampler.photo_digest(shown)), gap))
    return cases, truth


def truth_wins(part: pd.DataFrame, seed: int) -> dict:
    """How often `a` truly is the better: `truth` by F-score and `truth_chamfer`, a draw counted half, with intervals
    over objects."""
    better = {
        "truth": np.sign(part.f_score_a - part.f_score_b),
        "truth_chamfer": np.sign(part.chamfer_b - part.chamfer_a),
    }
    rows = (named(name, share(part, (1 + sign) / 2, seed)) for name, sign in better.items())
    return {column: value for row in rows for column, value in row.items()}


def generated_table(answers: pd.DataFrame, truth: pd.DataFrame, seed: int) -> pd.DataFrame:
    """`controls_table` of the generator's pairs in each layout, with the truth beside the judge.

    truth, truth_chamfer: see `truth_wins`. agrees: of the consistent verdicts, the share that names the side with the
    higher F-score.
    """
    tables = [
        controls_table(part, seed, COMPARED).assign(layout=layout)
        for layout, part in answers.groupby("layout", sort=False)
    ]
    table = pd.concat(tables, ignore_index=True).rename(columns={"control": "pairs"})
    table.insert(0, "layout", table.pop("layout"))
    known = {name: truth_wins(part, seed) for name, part in truth.groupby("case")}
    both = answers.merge(truth, on=["case", "object"])
    right = np.where(both.f_score_a > both.f_score_b, WIN, LOSS)
    agrees = {
        key: named("agrees", share(part, part.outcome == right[part.index], seed, part.outcome.isin((WIN, LOSS))))
        for key, part in both.groupby(["layout", "judge", "case"])
    }
    beside = [known[row.pairs] | agrees[row.layout, row.judge, row.pairs] for row in table.itertuples()]
    return table.join(pd.DataFrame(beside, index=table.index))
