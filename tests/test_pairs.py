"""Pairs of known gap: what is drawn, which side is the better, and what is written down of a judge's answers."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from joblib import parallel_config

from lib.data.compare import mesh_error
from lib.data.corrupt import CORRUPTIONS, corrupt
from lib.data.objects import Object
from lib.errors import BadInput
from lib.judges.candidates import Candidate, Picture
from lib.judges.known import INTACT, Damage, Known, known
from lib.judges.prompts import LAYOUTS
from lib.judges.verdicts import Answer
from lib.profiles import Profile, load_profile
from lib.study import pairs, shelf
from lib.study.pairs import CLEAR, GRADED, IDENTICAL, NO_GAP
from lib.study.records import Records

SMOKE = load_profile("smoke", n_judged=2)


class Brightness:
    """Prefers the brighter picture, with a pull to the first; counts what it is asked."""

    family, batch = "fake", 4

    def __init__(self, pull=0.0):
        self.pull, self.asked, self.layout = pull, 0, LAYOUTS["montage"]
        self.settings = {"pull": pull}

    def asking(self, layout, **asking):
        self.layout, self.settings = LAYOUTS[layout], {"pull": self.pull, "layout": layout, **asking}
        return self

    def ask(self, questions):
        self.asked += len(questions)
        return [self.answer(*(c.pictures(self.layout)[0].pixels.mean() for c in q.candidates)) for q in questions]

    def answer(self, first, second):
        p = round(1 / (1 + np.exp((second - first) / 10 - self.pull)), 6)
        return Answer((p, 1 - p), 0.9, 0.001)


def picture(error, kind="holes", object="chair", **facts):
    """A candidate that looks the darker the worse it is."""
    image = np.full((4, 4, 3), round(200 * (1 - error)), np.uint8)
    return Known(Candidate(object, {"montage": [image]}, {"kind": kind, "severity": error, **facts}), error)


def item(*errors, object="chair"):
    graded = [picture(error, object=object) for error in errors]
    twin = picture(errors[1] + 0.02, object=object, seed=2)
    return pairs.Controls(None, picture(0, "intact", object), graded, [(graded[1], twin)])


def box():
    mesh = trimesh.creation.box((1, 0.6, 0.8)).subdivide()
    mesh.visual.vertex_colors = np.full((len(mesh.vertices), 4), 255, np.uint8)
    return Object("box", "box", mesh)


def test_the_plan_spreads_severity_over_kinds_and_repeats_a_damage_with_another_seed():
    for place in range(50):
        first, twins = pairs.plan([7, place])
        assert len({damage.kind for damage in first} & set(CORRUPTIONS)) == len(first) == 4
        assert [int((damage.severity - 0.05) / 0.95 * 4) for damage in first] == [0, 1, 2, 3]
        assert len(twins) == 2
        for index, twin in twins:
            assert twin == replace(first[index], seed=twin.seed)
            assert twin.seed != first[index].seed
            assert twin.kind != "smooth"
    assert pairs.plan([7, 3]) == pairs.plan([7, 3])
    assert pairs.plan([7, 3]) != pairs.plan([8, 3])


def test_a_damage_without_seed_has_no_twin_since_it_would_be_the_same_mesh():
    for kind in CORRUPTIONS:
        one, two = (corrupt(box().mesh, kind, 0.5, seed).mesh for seed in (1, 2))
        same = len(one.vertices) == len(two.vertices) and np.array_equal(one.vertices, two.vertices)
        same = same and np.array_equal(one.faces, two.faces)
        assert same is (kind == pairs.SEEDLESS), kind


def test_the_better_side_comes_first_and_a_clear_gap_is_the_intact_against_heavy_damage():
    found = pairs.cases([item(0.3, 0.1, 0.25)])
    graded = [case for case in found if case.name in (CLEAR, GRADED)]
    assert len(graded) == 6
    assert all(a < b for a, b in ([case.pair.a.facts["severity"], case.pair.b.facts["severity"]] for case in graded))
    assert [round(case.gap, 6) for case in found if case.name == CLEAR] == [0.3, 0.25]
    assert sorted(round(case.gap, 6) for case in found if case.name == GRADED) == [0.05, 0.1, 0.15, 0.2]
    (redrawn,) = (case for case in found if case.name == NO_GAP)
    assert redrawn.gap == pytest.approx(0.02)
    (same,) = (case for case in found if case.name == IDENTICAL)
    assert same.pair.a is same.pair.b
    assert same.gap == 0


def test_answers_become_one_row_a_pair_and_judge(tmp_path):
    judges = {"X": Brightness(), "Y": Brightness(pull=3)}
    asked = pairs.cases([item(0.3, 0.1), item(0.5, 0.2, object="table")])
    frame = pairs.ask(judges, asked, Records(tmp_path / "r.jsonl"))
    assert len(frame) == 2 * len(asked) == 20
    assert frame.groupby("judge").object.unique().map(list).tolist() == [["chair", "table"]] * 2
    x, y = (part for _, part in frame.groupby("judge"))
    assert (x[x.case != IDENTICAL].outcome == "win").all()
    assert (x[x.case == IDENTICAL].outcome == "flip").all()
    assert x.p_a.to_numpy() == pytest.approx((1 + x.p_ab - x.p_ba) / 2)
    assert (y.outcome == np.where(y.gap > 0.15, "win", "flip")).all()  # the pull is worth 30 levels of 200
    assert (y.right == np.where(y.gap > 0.15, 1, 0.5)).all()
    assert (y[y.case != IDENTICAL].averaged == "win").all()
    first = x.iloc[0]
    assert (first.kind_a, first.severity_a, first.kind_b, first.severity_b) == ("intact", 0, "holes", 0.3)
    assert (first.layout, first.mass) == ("montage", 0.9)


def test_what_is_on_record_is_not_asked_again_and_another_wording_is(tmp_path):
    asked = pairs.cases([item(0.3, 0.1)])
    first = pairs.ask({"X": Brightness()}, asked, Records(tmp_path / "r.jsonl"))
    again = Brightness()
    frame = pairs.ask({"X": again}, asked, Records(tmp_path / "r.jsonl"))
    assert again.asked == 0
    assert frame.equals(first)
    pairs.ask({"X": again}, asked, Records(tmp_path / "r.jsonl"), wordings=("faults",))
    assert again.asked == 2 * len(asked)


def test_a_known_candidate_carries_its_damage_and_the_views_error():
    object = box()
    damage = Damage("voxel", 0.7, 3)
    found, intact = known(object, damage, 28), known(object, INTACT, 28)
    assert found.error == mesh_error(object.mesh, corrupt(object.mesh, "voxel", 0.7, 3).mesh).view > 0.1
    assert intact.error == 0
    assert found.candidate.facts == {"kind": "voxel", "severity": 0.7, "seed": 3}
    assert found.candidate.images["montage"][0].shape == (56, 56, 3)
    assert not np.array_equal(found.candidate.images["montage"][0], intact.candidate.images["montage"][0])


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Records of its own; gives the list of what was made, which grows."""
    found, make = [], shelf._make

    def spied(recipes, *how):
        found.extend(recipes)
        return make(recipes, *how)

    monkeypatch.setattr(shelf, "_make", spied)
    monkeypatch.setattr(Profile, "records_dir", property(lambda self: tmp_path / "records"))
    with parallel_config(backend="sequential"):
        yield found


@pytest.fixture
def cheap(made, monkeypatch):
    """The same, with damages that take no time."""
    blank = {name: [np.zeros((2, 2, 3), np.uint8)] for name in LAYOUTS}

    def make(recipes, *_):
        made.extend(recipes)
        return [({name: blank[name] for name in one.layouts}, {"error": one.facts["severity"]}) for one in recipes]

    monkeypatch.setattr(shelf, "_make", make)
    return made


def test_candidates_are_made_once_until_something_changes(cheap):
    objects, _ = pairs.judged_objects(SMOKE)
    assert [one.id for one in objects] == ["procedural/test/0", "procedural/test/1"]
    first = pairs.controls(objects, SMOKE)
    assert len(cheap) == 2 * 7
    again = pairs.controls(objects, SMOKE)
    assert len(cheap) == 2 * 7
    assert [one.error for one in again[1].graded] == [one.error for one in first[1].graded]
    assert [one.graded[3].candidate.facts for one in again] == [one.graded[3].candidate.facts for one in first]
    pairs.controls(objects[:1], replace(SMOKE, seed=1))
    assert len(cheap) == 3 * 7 - 1  # the intact is no draw
    objects[0].mesh.vertices[0] += 0.01
    pairs.controls(objects, SMOKE)
    assert len(cheap) == 4 * 7 - 1
    pairs.controls(objects, replace(SMOKE, tile=28, n_splats=1))
    assert len(cheap) == 6 * 7 - 1


def test_candidates_are_the_same_where_a_processor_rounds_differently(cheap):
    objects, _ = pairs.judged_objects(SMOKE)
    pairs.controls(objects, SMOKE)
    objects[0].mesh.vertices *= 1 + 1e-15
    pairs.controls(objects, SMOKE)
    assert len(cheap) == 2 * 7


def test_an_object_is_damaged_in_its_own_way_whatever_else_is_asked_for(cheap):
    objects, _ = pairs.judged_objects(SMOKE)
    two, one = pairs.controls(objects, SMOKE), pairs.controls(objects[:1], SMOKE)
    assert [known.error for known in two[0].graded] == [known.error for known in one[0].graded]
    assert [known.error for known in two[0].graded] != [known.error for known in two[1].graded]


def test_the_photo_and_splats_come_with_the_layouts_that_show_them(cheap):
    objects, _ = pairs.judged_objects(replace(SMOKE, n_judged=1))
    assert pairs.controls(objects, SMOKE)[0].photo is None
    assert pairs.controls(objects, SMOKE, "montage_ref")[0].photo.size == (112, 112)
    pairs.controls(objects, SMOKE, "splat")
    assert [one.layouts for one in cheap[::7]] == [("montage",), ("montage_ref",), ("splat",)]
    fewer = replace(SMOKE, n_splats=1)
    for layout, new in (("montage", 0), ("splat", 7)):
        before = len(cheap)
        pairs.controls(objects, fewer, layout)
        assert len(cheap) == before + new


def test_a_judge_on_record_needs_no_pixels_and_a_new_one_gets_those_on_record(made, tmp_path, monkeypatch):
    objects, records = pairs.judged_objects(replace(SMOKE, n_judged=1))[0], Records(tmp_path / "r.jsonl")
    first = pairs.ask({"X": Brightness()}, pairs.cases(pairs.controls(objects, SMOKE)), records)
    assert len(made) == 7
    cases = pairs.cases(pairs.controls(objects, SMOKE))
    assert pairs.ask({"X": Brightness()}, cases, records).equals(first)
    assert len(made) == 7
    run, at_once = shelf._run, []
    monkeypatch.setattr(shelf, "_run", lambda jobs, *how: at_once.append(len(jobs)) or run(jobs, *how))
    again = pairs.ask({"X": Brightness(pull=1e-9)}, cases, records)
    assert at_once == [7]  # each once, however many pairs it is in
    assert again.p_a.to_numpy() == pytest.approx(first.p_a.to_numpy())
    for case in cases:
        (image,) = case.pair.b.images["montage"]
        assert [Picture(image).digest] == case.pair.b.describe(LAYOUTS["montage"])["images"]
    assert len(made) == 2 * 7


def test_what_is_made_is_the_object_after_its_damage(made):
    objects, _ = pairs.judged_objects(replace(SMOKE, n_judged=1))
    (item,) = pairs.controls(objects, SMOKE)
    for found in (item.intact, item.graded[0], item.twins[0][1]):
        same = known(objects[0], Damage(**found.candidate.facts), SMOKE.tile)
        assert found.error == same.error
        np.testing.assert_array_equal(found.candidate.images["montage"][0], same.candidate.images["montage"][0])
        assert "splat" not in found.candidate.images


def test_an_unknown_layout_is_named_before_any_work(cheap):
    with pytest.raises(BadInput, match="mosaic"):
        pairs.controls(pairs.judged_objects(SMOKE)[0], SMOKE, "mosaic")
    assert cheap == []


def test_judges_are_found_from_the_repository_whatever_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judges = pairs.load_judges(SMOKE)
    assert {name: judge.family for name, judge in judges.items()} == {"X": "qwen", "Y": "internvl"}


def test_judges_may_lie_in_the_callers_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lib.judges.open.VLMJudge", lambda model, layout: str(model))
    found = pairs.load_judges(replace(SMOKE, judge_x="mine", judge_y="owner/name"))
    assert found == {"X": "mine", "Y": "owner/name"}
