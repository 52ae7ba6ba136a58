"""The failure modes: pairs whose better side is known, and arithmetic that finds what is planted and nothing else."""

from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.errors import BadInput
from lib.judges.candidates import Candidate, Pair, Picture
from lib.judges.prompts import LAYOUTS
from lib.judges.training.cases import Case
from lib.judges.verdicts import Answer
from lib.profiles import Profile, load_profile
from lib.renderers.montage import judge_montage
from lib.stats.intervals import clopper_pearson
from lib.study import failure_tables, failures, pairs, shelf
from lib.study.failure_plots import failure_modes
from lib.study.failures import BROKEN, CATEGORY, CHANGED, INSTANCE, MODES, SHAPE, SURFACE
from lib.study.records import Records

SMOKE = load_profile("smoke")
NOT_TRAINED_HERE = pd.DataFrame({"judge": [], "layout": [], "trained": []})
TRAINED = pd.DataFrame({"judge": ["X", "X"], "layout": ["montage", "splat"], "trained": [0.3, 0.1]})


class Stub:
    """A judge that knows the better candidate of a pair, except in the layouts of its `habit`: there it answers "A"
    whatever is shown ("first"), or prefers the worse one ("wrong")."""

    family, batch = "stub", 64

    def __init__(self, **habit):
        self.habit = habit

    def asking(self, layout):
        other = copy(self)
        other.layout, other.settings = LAYOUTS[layout], {"layout": layout, "habit": self.habit}
        return other

    def ask(self, questions):
        return [self.answer(*(one.facts["better"] for one in question.candidates)) for question in questions]

    def answer(self, first, second):
        habit = self.habit.get(self.layout.name)
        picks_first = habit == "first" or first != (habit == "wrong")
        return Answer((0.9, 0.1) if picks_first else (0.1, 0.9), 1.0, 0.0)


def stub_cases(objects=24):
    """Every kind of pairs in both layouts of its modes, on candidates that show nothing."""
    blank = np.zeros((2, 2, 3), np.uint8)
    cases = []
    for case, layout in dict.fromkeys((mode.case, x) for mode in MODES for x in (mode.warned, mode.fixed)):
        for number in range(objects):
            images = {layout: [blank] * LAYOUTS[layout].count}
            a, b = (Candidate(f"{case} {number}", images, {"better": better}) for better in (True, False))
            cases.append(Case(case, layout, Pair(a, b, blank), 0.3))
    return cases


def readings(tmp_path, judges, trained=NOT_TRAINED_HERE):
    """`differences`, by judge, failure and case."""
    answers = pairs.ask(judges, stub_cases(), Records(tmp_path / "r.jsonl"))
    return failure_tables.differences(answers, trained, 0).set_index(["judge", "failure", "case"]).sort_index()


def test_a_planted_failure_is_found_and_its_absence_is_a_null(tmp_path):
    table = readings(tmp_path, {"X": Stub(seven_images="first"), "Y": Stub()})
    planted = table.loc["X", "1 seven images"]
    assert list(planted.reading) == ["as the paper"] * 2
    assert list(planted.flips_change) == [1, 1]
    assert list(planted.raw_change) == [-0.5, -0.5]
    assert planted.p.tolist() == pytest.approx([2 * 0.5**24] * 2)
    assert planted.p_holm.tolist() == pytest.approx([12 * 2 * 0.5**24] * 2)
    rest = table.drop(planted.index.map(lambda case: ("X", "1 seven images", case)))
    assert len(rest) == 10
    assert set(rest.reading) == {"null: nothing shown"}
    assert set(rest.p) == {1}
    assert (rest.raw_low < 0).all()
    assert (rest.raw_high > 0).all()


def test_the_opposite_of_the_papers_claim_is_said(tmp_path):
    table = readings(tmp_path, {"X": Stub(montage="first"), "Y": Stub(montage_ref="wrong")})
    assert list(table.loc["X", "1 seven images"].reading) == ["against the paper"] * 2
    assert list(table.loc["X", "2 splats"].reading) == ["against the paper"] * 2
    assert list(table.loc["Y", "3 no reference"].reading) == ["against the paper"] * 2
    assert list(table.loc["Y", "3 no reference"].raw_change) == [1, 1]


def test_what_a_judge_was_taught_is_no_finding(tmp_path):
    table = readings(tmp_path, {"X": Stub(montage="wrong"), "Y": Stub(montage="wrong", splat="wrong")}, TRAINED)
    assert list(table.loc["X", "3 no reference"].reading) == ["as the paper, by its label"] * 2
    assert list(table.loc["Y", "3 no reference"].reading) == ["as the paper"] * 2  # not trained here
    assert list(table.loc["Y", "3 no reference"].raw_change) == [-1, -1]
    assert list(table.loc["Y", "2 splats"].reading) == ["null: nothing shown"] * 2  # as wrong in its fix


def frame(case, layout, outcomes, judge="X"):
    right = {"win": 1.0, "flip": 0.5, "loss": 0.0, "abstention": np.nan}
    objects = [f"object {number}" for number in range(len(outcomes))]
    rows = {"judge": judge, "case": case, "layout": layout, "object": objects, "outcome": outcomes}
    return pd.DataFrame(rows).assign(right=[right[outcome] for outcome in outcomes])


def test_the_failure_table_counts_and_has_exact_intervals():
    warned = ["win"] * 20 + ["flip"] * 12 + ["loss"] * 8
    answers = pd.concat([frame(BROKEN, "splat", warned), frame(BROKEN, "montage", ["win"] * 40)])
    table = failure_tables.failure_table(answers, TRAINED, 0).set_index(["failure", "is"])
    row = table.loc[("2 splats", "warned of")]
    assert (row.n, row.raw, row.flips, row.layout, row.trained) == (40, 26 / 40, 12 / 40, "splat", 0.1)
    assert row.consistent == 20 / 28
    assert (row.low, row.high) == tuple(map(float, clopper_pearson(26, 40)))
    assert (row.flips_low, row.flips_high) == tuple(map(float, clopper_pearson(12, 40)))
    assert table.loc[("2 splats", "fixed")].raw == 1


def test_differences_pair_the_same_objects_in_any_order():
    """12 of 40 pairs are right in the fix alone, 2 in the layout warned of alone."""
    warned = frame(BROKEN, "splat", ["win"] * 26 + ["loss"] * 12 + ["win"] * 2)
    fixed = frame(BROKEN, "montage", ["win"] * 38 + ["loss"] * 2)
    other = frame(BROKEN, "seven_images", ["win"] * 40)
    table = failure_tables.differences(pd.concat([warned, fixed.sample(frac=1, random_state=0), other]), TRAINED, 0)
    row = table[table.failure == "2 splats"].iloc[0]
    assert row.raw_change == pytest.approx(-10 / 40)
    assert row.p == pytest.approx(2 * sum([1, 14, 91]) / 2**14)
    assert row.raw_low < -0.25 < row.raw_high < 0
    assert row.raw_high - row.raw_low < 0.4  # over the objects' differences, much narrower than two separate intervals


def test_a_pair_without_an_answer_in_one_layout_is_in_no_table():
    def tables(warned, fixed):
        answers = pd.concat([frame(BROKEN, "splat", warned), frame(BROKEN, "montage", fixed)])
        rest = pd.concat([frame(case, "seven_images", ["win"] * 9) for case in (BROKEN, CHANGED)])
        rest = pd.concat([rest, *(frame(CHANGED, layout, ["win"] * 9) for layout in ("splat", "montage"))])
        answers = pd.concat([answers, rest])
        found = (failure_tables.failure_table(answers, TRAINED, 0), failure_tables.differences(answers, TRAINED, 0))
        return [table[(table.failure == "2 splats") & (table.case == BROKEN)] for table in found]

    table, change = tables(["win", "abstention", "flip", "loss"] * 2, ["win", "win", "abstention", "win"] * 2)
    assert table[["n", "raw", "flips", "consistent"]].to_numpy().tolist() == [[6, 0.5, 1 / 3, 0.5], [6, 1, 0, 1]]
    assert change[["n", "raw_change", "flips_change"]].to_numpy().tolist() == [[4, -0.5, 0]]


def test_what_a_layout_hides_is_told_from_what_is_only_unfamiliar():
    def answers(changed):
        parts = [
            frame(BROKEN, "splat", ["win"] * 10 + ["loss"] * 30),
            frame(CHANGED, "splat", changed),
            *(frame(case, "montage", ["win"] * 39 + ["flip"]) for case in (BROKEN, CHANGED)),
            *(frame(case, "seven_images", ["win"] * 39 + ["flip"]) for case in (BROKEN, CHANGED)),
        ]
        return failure_tables.beyond_novelty(pd.concat(parts), 0).set_index("failure").loc["2 splats"]

    hidden = answers(["win"] * 40)
    assert hidden.difference == pytest.approx(hidden.broken - hidden.changed)
    assert hidden.broken == pytest.approx((10 - 39.5) / 40)
    assert hidden.high < -0.4
    unfamiliar = answers(["loss"] * 15 + ["win"] * 10 + ["loss"] * 15)
    assert unfamiliar.difference == pytest.approx(0)
    assert unfamiliar.low < 0 < unfamiliar.high


def test_every_object_gets_damage_of_both_kinds_and_two_wrong_objects():
    objects, _ = pairs.judged_objects(SMOKE)
    plans = failures.plan(objects, 1)
    assert [one.item for one in plans] == objects
    for one in plans:
        assert one.broken.kind in SURFACE
        assert one.changed.kind in SHAPE
        assert all(
            failures.SEVERITY[0] <= damage.severity <= failures.SEVERITY[1] for damage in (one.broken, one.changed)
        )
        instance, category = one.wrong
        assert f"took {one.item.category} " in instance.did
        assert one.item.id not in instance.did
        assert f"took {one.item.category} " not in category.did
    assert {one.broken.kind for one in plans} == set(SURFACE)
    again = failures.plan(objects, 1)
    assert [(one.broken, one.changed) for one in again] == [(one.broken, one.changed) for one in plans]
    assert [one.broken for one in failures.plan(objects, 2)] != [one.broken for one in plans]


def test_too_few_objects_are_an_error_before_any_rendering():
    with pytest.raises(BadInput, match="nothing for wrong_instance"):
        failures.plan(pairs.judged_objects(replace(SMOKE, n_judged=9))[0], 1)


@pytest.fixture(scope="module")
def plans():
    return failures.plan(pairs.judged_objects(SMOKE)[0], SMOKE.seed)


@pytest.fixture(scope="module", autouse=True)
def records(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Profile, "records_dir", tmp_path_factory.mktemp("records"))
        yield


@pytest.fixture(scope="module")
def cases(plans):
    return failures.cases(plans[:2], SMOKE, workers=1)


def test_both_layouts_of_a_failure_are_asked_about_the_same_pairs(cases, plans):
    for mode in MODES:
        warned, fixed = (
            [case.pair for case in cases if (case.name, case.layout) == (mode.case, layout)]
            for layout in (mode.warned, mode.fixed)
        )
        assert warned == fixed
        assert {pair.object for pair in warned} == {one.item.id for one in plans[:2]}


def test_the_better_side_is_a_and_wrong_objects_are_shown_whole(cases, plans):
    assert all(case.gap > failures.CLEARLY for case in cases)
    first = {case.name: case.pair for case in cases if case.pair.object == plans[0].item.id}
    assert first[BROKEN].a is first[CHANGED].a
    assert first[BROKEN].a.facts["kind"] == "intact"
    assert first[INSTANCE].a is first[CATEGORY].a is first[BROKEN].b
    for case, other in zip((INSTANCE, CATEGORY), plans[0].wrong, strict=True):
        (seen,) = first[case].b.pictures(LAYOUTS["montage_ref"])
        assert seen.digest == Picture(judge_montage(other.mesh, SMOKE.tile)).digest


def test_a_second_run_makes_no_candidate_and_asks_about_the_same(cases, plans, monkeypatch):
    monkeypatch.setattr(shelf, "_make", None)
    again = failures.cases(plans[:2], SMOKE, workers=1)
    assert [(case.name, case.layout, case.gap) for case in again] == [(one.name, one.layout, one.gap) for one in cases]
    for one, other in zip(cases, again, strict=True):
        assert one.pair.reference.digest == other.pair.reference.digest
        for side in ("a", "b"):
            new, old = (getattr(case.pair, side) for case in (other, one))
            seen = [picture.digest for picture in old.pictures(LAYOUTS[one.layout])]
            assert new.describe(LAYOUTS[one.layout]) == {"object": old.object, **old.facts, "images": seen}


def test_a_pair_without_a_clearly_better_side_is_left_out(plans):
    twin = replace(plans[0].wrong[0], mesh=plans[0].item.mesh)  # the right object, and nothing broken
    found = failures.cases([replace(plans[0], wrong=(twin, plans[0].wrong[1]))], SMOKE, workers=1)
    assert {case.name for case in found} == {BROKEN, CHANGED, CATEGORY}


def test_training_shares_come_from_the_folder_of_the_judge(tmp_path):
    (tmp_path / "training.csv").write_text('fact,value\nseed,1\nlayout shares,"montage 0.9, splat 0.1"\n')
    folder, hub = (SimpleNamespace(model=SimpleNamespace(name_or_path=name)) for name in (tmp_path, "Qwen/Qwen2.5-VL"))
    table = failure_tables.trained_shares({"X": folder, "Y": hub})
    assert failure_tables.trained_shares({"served": SimpleNamespace(settings={})}).empty
    assert table.to_dict("records") == [
        {"judge": "X", "layout": "montage", "trained": 0.9},
        {"judge": "X", "layout": "splat", "trained": 0.1},
    ]


def test_the_shipped_judges_say_how_they_were_trained():
    shares = failure_tables.trained_shares(pairs.load_judges(SMOKE))
    assert shares.groupby("judge").trained.sum().tolist() == pytest.approx([1, 1])
    assert set(shares.layout) == set(LAYOUTS)


def test_the_figure_has_a_dot_for_every_row_of_the_table(tmp_path):
    judges = {"X": Stub(seven_images="first"), "Y": Stub(montage="wrong")}
    answers = pairs.ask(judges, stub_cases(), Records(tmp_path / "r.jsonl"))
    table = failure_tables.failure_table(answers, NOT_TRAINED_HERE, 0)
    figure = failure_modes(table)
    for column, measure in ((0, "raw"), (1, "flips")):
        panels = figure.axes[column::2]
        dots = [series.lines[0].get_xdata() for panel in panels for series in panel.containers]
        assert sorted(np.concatenate(dots)) == pytest.approx(sorted(table[measure]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["judge X, warned of", "judge X, fixed", "judge Y, warned of", "judge Y, fixed"]
