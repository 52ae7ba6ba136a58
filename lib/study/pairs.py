"""Pairs whose better side is known, and what judges say of them: the material of notebooks 01 to 03.

Every object of the test split gives an intact candidate, some of graded damage, and for some of these a twin: the same
damage drawn again. Candidates from any other source become a `Case` in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.corrupt import CORRUPTIONS
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.errors import BadInput
from lib.judges.candidates import Pair
from lib.judges.known import INTACT, Damage, Known
from lib.judges.open import open_judge
from lib.judges.prompts import prompt
from lib.judges.protocol import Judge, Prepare, judge_pairs
from lib.judges.training.cases import Case, distinct_layouts
from lib.judges.verdicts import Verdict
from lib.profiles import Profile
from lib.stats.estimands import ABSTENTION
from lib.study.protocol import gather_objects
from lib.study.records import Records
from lib.study.shelf import Shelf, after, prepare

CLEAR, GRADED, NO_GAP, IDENTICAL = "clear gap", "graded", "no gap", "identical images"
CLEAR_GAP = 0.2  # view error from which damage beside the intact mesh is a clear gap
N_GRADED, N_TWINS = 4, 2
SEVERITIES = (0.05, 1.0)
SEEDLESS = "smooth"  # drawn again it is the same mesh, so it has no twin


@dataclass(frozen=True, eq=False)
class Controls:
    """An object's candidates of known error. graded: `N_GRADED`, by rising severity; twins: (one of them, its twin)."""

    photo: object
    intact: Known
    graded: list[Known]
    twins: list[tuple[Known, Known]]


def judged_objects(
    settings: Profile, meshes: str | Path | None = None, up_axis: str | None = None
) -> tuple[list[Object], list[BadInput]]:
    """`settings.n_judged` objects and the files that were skipped; see `lib.study.protocol.gather_objects`."""
    return gather_objects(settings, meshes, up_axis, settings.n_judged)


def controls(
    objects: Sequence[Object], settings: Profile, layout: str = "montage", workers: int = -1
) -> list[Controls]:
    """The candidates of every object, to be shown in a layout; a function of the objects, their places, the settings.

    workers: processes, -1 for one a core. What is on record is not made (`lib.study.shelf`). Raises BadInput for an
    unknown layout.
    """
    photo = prompt(layout).layout.photo
    plans = [plan([settings.seed, place]) for place in range(len(objects))]
    recipes = [
        [after(item, one, [layout]) for one in (INTACT, *first, *(twin for _, twin in again))]
        for item, (first, again) in zip(objects, plans, strict=True)
    ]
    found = []
    for item, (_, again), made in zip(objects, plans, Shelf(settings, workers).known(recipes), strict=True):
        intact, graded, twins = made[0], made[1 : 1 + N_GRADED], made[1 + N_GRADED :]
        beside = [(graded[place], twin) for (place, _), twin in zip(again, twins, strict=True)]
        found.append(Controls(render_photo(item.mesh, 2 * settings.tile) if photo else None, intact, graded, beside))
    return found


def plan(seed: Sequence[int]) -> tuple[list[Damage], list[tuple[int, Damage]]]:
    """Damages of `N_GRADED` different kinds, one from each of as many equal parts of `SEVERITIES`, and `N_TWINS` twins.

    A twin is (place of the damage that it repeats, the same damage with another seed).
    """
    rng = np.random.default_rng(seed)
    low, high = SEVERITIES
    parts = low + (high - low) * (np.arange(N_GRADED) + rng.random(N_GRADED)) / N_GRADED
    kinds = rng.permutation(CORRUPTIONS)[:N_GRADED]
    draws = rng.integers(2**31, size=(2, N_GRADED)).tolist()
    first, again = (
        [Damage(str(kind), round(float(part), 4), draw) for kind, part, draw in zip(kinds, parts, row, strict=True)]
        for row in draws
    )
    places = [int(place) for place in rng.permutation(N_GRADED) if kinds[place] != SEEDLESS][:N_TWINS]
    return first, [(place, again[place]) for place in places]


def cases(items: Sequence[Controls], layout: str = "montage") -> list[Case]:
    """All pairs of the intact and the graded candidates, the better one as `a` (of equals the first); then those
    without a gap, in which nothing tells `a` from `b`: each twin, and one candidate beside itself."""
    found = []
    for item in items:
        for a, b in combinations([item.intact, *item.graded], 2):
            better, worse = sorted((a, b), key=lambda one: one.error)
            gap = worse.error - better.error
            name = CLEAR if better is item.intact and gap > CLEAR_GAP else GRADED
            found.append(_case(name, layout, better, worse, item.photo))
        found += [_case(NO_GAP, layout, one, twin, item.photo) for one, twin in item.twins]
        found.append(_case(IDENTICAL, layout, item.graded[0], item.graded[0], item.photo))
    return found


def _case(name: str, layout: str, a: Known, b: Known, photo) -> Case:
    return Case(name, layout, Pair(a.candidate, b.candidate, photo), b.error - a.error)


def load_judges(settings: Profile) -> dict[str, Judge]:
    """The training judge "X" and the evaluation judge "Y"; see `lib.judges.open.open_judge`."""
    return {"X": open_judge(settings.judge_x), "Y": open_judge(settings.judge_y)}


def ask(
    judges: Mapping[str, Judge], cases: Sequence[Case], records: Records, prepare: Prepare = prepare, **asking
) -> pd.DataFrame:
    """Every judge's verdict on every case, one row each; what is on record is not asked.

    prepare: see `judge_pairs`. asking: `wordings`, `tie` of `VLMJudge.asking`. Columns: judge (its key), layout, case,
    object; kind_a, severity_a, kind_b, severity_b (as the facts say, if they do); gap; p_ab, p_ba (of the first label,
    asked in either order); p_a (of `a`, the mean of both orders); mass (of all labels, the mean); right (share of the
    two answers that name `a`); outcome ("win" of `a`, "loss", "flip", with a tie label "tie"); averaged
    (`Verdict.averaged`). Where the judge abstained in an order, both of these are "abstention", and right and p_a nan.
    """
    parts = []
    for name, judge in judges.items():
        for layout in distinct_layouts(cases):
            mine, asked = [case for case in cases if case.layout == layout], judge.asking(layout, **asking)
            verdicts = judge_pairs(asked, [case.pair for case in mine], records, prepare)
            parts.append(answer_frame(name, mine, verdicts))
    return pd.concat(parts, ignore_index=True)


def answer_frame(judge: str, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """A judge's verdicts on cases, one row each, with the columns of `ask`."""
    return pd.DataFrame([_row(judge, *both) for both in zip(cases, verdicts, strict=True)])


def _row(name: str, case: Case, verdict) -> dict:
    ab, ba = verdict.ab, verdict.ba
    row = {"judge": name, "layout": case.layout, "case": case.name, "object": case.pair.object}
    for side, facts in (("a", case.pair.a.facts), ("b", case.pair.b.facts)):
        row |= {f"kind_{side}": facts.get("kind"), f"severity_{side}": facts.get("severity", float("nan"))}
    row |= {"gap": case.gap, "p_ab": ab.p[0], "p_ba": ba.p[0], "p_a": (ab.p[0] + ba.p[1]) / 2}
    right = float("nan") if verdict.outcome == ABSTENTION else ((ab.pick == 0) + (ba.pick == 1)) / 2
    row |= {"mass": (ab.mass + ba.mass) / 2, "right": right}
    return row | {"outcome": verdict.outcome, "averaged": verdict.averaged}


def answered(answers: pd.DataFrame) -> pd.DataFrame:
    """The rows of `ask` without those in which the judge abstained: they say nothing about the pair."""
    return answers[answers.outcome != ABSTENTION]
