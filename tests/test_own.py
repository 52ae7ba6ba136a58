"""Notebook 10: what is matched, what the audit asks, what the tables say, and the run itself."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import trimesh
from PIL import Image
from scipy.stats import binomtest

from lib.data.compare import mesh_error
from lib.data.meshes import load_mesh
from lib.data.photos import render_photo
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.judges.prompts import LAYOUTS
from lib.judges.verdicts import Answer
from lib.profiles import load_profile
from lib.stats.gates import Gate
from lib.stats.intervals import clopper_pearson
from lib.stats.power import needed_n
from lib.study import own, own_page, own_plots, own_tables
from lib.study.own_folders import KINDS, open_folders, write_demonstration
from lib.study.records import Records

SMOKE = load_profile("smoke")
GOOD, BAD = Gate(True, "fine"), Gate(False, "3 of 9 verdicts")


class Says:
    """A judge whose probability of the first label is a function of the question."""

    def __init__(self, first, layout="montage"):
        self.first, self.layout, self.family, self.batch, self.asked = first, LAYOUTS[layout], "fake", 8, 0
        self.settings = {"model": "fake"}

    def ask(self, questions):
        self.asked += len(questions)
        return [Answer((self.first(q), 1 - self.first(q)), 1.0, 0.0) for q in questions]


def whole(question):
    """Prefers what is not damaged, and the first of equals."""
    first, second = ("kind" in candidate.facts for candidate in question.candidates)
    return 0.6 if first == second else 0.9 if second else 0.2


def save(path, extents=(0.5, 0.5, 1)):
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box(extents).export(path)


@pytest.fixture
def two(tmp_path):
    """Folders A and B that share three of their objects, in different formats and a sub-folder."""
    for name in ("A/lamp.ply", "A/sofas/red.obj", "A/chair.glb", "A/alone.ply"):
        save(tmp_path / name)
    for name in ("B/lamp.obj", "B/sofas/red.ply", "B/chair.ply", "B/red.ply"):
        save(tmp_path / name, (0.3, 0.5, 1))
    return tmp_path


def opened(folder, **options):
    return open_folders(folder / "A", folder / "B", **options)


def test_files_of_one_name_are_one_object_whatever_their_format(two):
    folders = opened(two)
    assert folders.names == ["chair", "lamp", "sofas/red"]
    assert folders.left_out == {"alone": "only in A", "red": "only in B"}
    for item in folders:
        assert item.photo is None
        assert sorted(item.a.extents.round(3)) == [0.5, 0.5, 1]
        assert sorted(item.b.extents.round(3)) == [0.3, 0.5, 1]


def test_of_two_files_of_one_name_the_other_is_named(two):
    """A generator may write its splats as PLY beside its mesh."""
    (two / "A/chair.ply").write_bytes(b"splats")
    folders = opened(two)
    assert folders.names == ["chair", "lamp", "sofas/red"]
    assert folders.left_out["chair.ply in A"] == "chair.glb has the same name"
    assert len(list(folders)) == 3


def test_the_up_axis_reaches_both_folders_or_b_alone(two):
    """The boxes are tallest along the files' z: an OBJ file is read as y up, a PLY file as z up."""
    for options, tallest in (
        ({}, (2, 1)),
        ({"up_axis": "z"}, (2, 2)),
        ({"up_axis": "y"}, (1, 1)),
        ({"up_axis": "y", "up_axis_b": "z"}, (1, 2)),
        ({"up_axis_b": "z"}, (2, 2)),
    ):
        lamp = list(opened(two, **options))[1]
        assert (np.argmax(lamp.a.extents), np.argmax(lamp.b.extents)) == tallest


def test_files_that_cannot_be_used_are_skipped_and_named(two):
    (two / "B/lamp.obj").write_text("nothing")
    (two / "A/chair.glb").unlink()
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False).export(two / "A/chair.ply")
    folders = opened(two)
    assert [item.id for item in folders] == ["sofas/red"]
    table = folders.left_out_table()
    assert list(table.what) == ["alone", "red", str(two / "A/chair.ply"), str(two / "B/lamp.obj")]
    assert "no area" in table.why[2]
    (two / "A/sofas/red.obj").write_text("nothing")
    with pytest.raises(BadInput, match=r"none of the 3 objects in both can be read.*chair"):
        list(opened(two))


def test_photos_bring_the_layout_with_a_reference_and_objects_without_one_are_left_out(two):
    photo = Image.new("RGBA", (200, 120))
    photo.paste((200, 0, 0, 255), (20, 30, 80, 90))
    (two / "P/sofas").mkdir(parents=True)
    photo.save(two / "P/sofas/red.webp")
    photo.save(two / "P/lamp.png")
    folders = opened(two, photos=two / "P")
    assert (folders.layout, opened(two).layout) == ("montage_ref", "montage")
    assert folders.names == ["lamp", "sofas/red"]
    assert folders.left_out["chair"] == "no photo"
    assert next(iter(folders)).photo.size == (72, 72)  # 1.2 times the object's 60 pixels
    (two / "P/lamp.png").write_bytes(b"no image")
    assert [item.id for item in folders] == ["sofas/red"]
    assert "lamp.png" in folders.skipped[0].source


def test_a_draw_of_the_objects_is_seeded_and_says_what_it_left(two):
    drawn = opened(two, n=2, seed=5)
    assert len(drawn.names) == 2
    assert drawn.names == opened(two, n=2, seed=5).names
    assert len({tuple(opened(two, n=2, seed=seed).names) for seed in range(20)}) == 3
    (left,) = {"chair", "lamp", "sofas/red"} - set(drawn.names)
    assert drawn.left_out[left] == "not among the 2 drawn"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["A", None], "folder_b: is not given"),
        (["A", "C"], "C: is not a folder"),
        (["A", "empty"], "empty: holds no meshes"),
        (["A", "A/../A"], "folder_b: is folder_a"),
        (["A", "other"], r"no name in common.*folder_a: alone, chair, lamp; folder_b: cup"),
        (["A", "B", "empty"], r"no name in common.*the folders: chair, lamp, sofas/red; photos: none"),
        (["A", "B", "C"], "C: is not a folder"),
        (["A", "B", None, "q"], "'q' is no axis"),
        (["A", "B", None, None, None, 4], "n_judged: 4 objects asked for, and the folders share 3"),
    ],
)
def test_bad_folders_are_named_before_anything_is_read(two, arguments, said):
    (two / "empty").mkdir()
    save(two / "other/cup.ply")
    folders = [one and two / one for one in arguments[:3]]
    with pytest.raises(BadInput, match=said):
        open_folders(*folders, *arguments[3:])


def test_a_judge_is_of_the_profile_or_has_a_name():
    assert own.open_judge("x", "montage", SMOKE).settings["model"] == "judge_x"
    asked = own.open_judge("weights/mini/judge_y", "montage_ref", SMOKE)
    assert (asked.settings["model"], asked.layout.name) == ("judge_y", "montage_ref")
    with pytest.raises(BadInput, match="'nonsense' is neither a folder nor a hub id"):
        own.open_judge("nonsense", "montage", SMOKE)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """Three pieces of procedural furniture, B's without its back half."""
    folder = tmp_path_factory.mktemp("furnished")
    for index in range(3):
        mesh = furniture("test", index).mesh
        for side in "AB":
            (folder / side).mkdir(exist_ok=True)
            mesh.export(folder / side / f"{index}.ply")
            mesh.update_faces(mesh.triangles_center[:, 1] < 0)
    return folder


def audited(folder, first, records, **options):
    judge = Says(first)
    return own.audit(judge, opened(folder, **options), SMOKE, Records(records)), judge


def test_the_audit_asks_four_controls_of_every_mesh_in_both_orders(furnished, tmp_path):
    controls, judge = audited(furnished, whole, tmp_path / "r.jsonl")
    assert judge.asked == 2 * len(controls) == 2 * 4 * 2 * 3
    said = controls.groupby("control").verdict.unique().map(list).to_dict()
    assert said == {
        "clear gap": ["win"],
        "equal damage": ["flip"],
        "quarter turn": ["flip"],
        "identical images": ["flip"],
    }
    assert set(controls.kind) <= set(KINDS)
    assert (controls.p_ab[controls.control == "clear gap"] == 0.9).all()
    assert (controls.p_ba[controls.control == "clear gap"] == 0.2).all()
    passed = own_tables.gates(controls, 0)
    assert [gate.passed for gate in passed.values()] == [True, True]
    assert own_tables.statement(passed).startswith("interpretable")


def test_the_controls_show_what_they_say(furnished, tmp_path):
    seen = {}

    def keep(question):
        a, b = question.pair.a, question.pair.b
        name = (
            "turned"
            if "turned" in b.facts
            else "equal"
            if "kind" in a.facts
            else "clear"
            if b.facts != a.facts
            else "same"
        )
        seen.setdefault((a.object, a.facts["folder"], name), [c.pictures(question.layout)[0].pixels for c in (a, b)])
        return 0.5

    audited(furnished, keep, tmp_path / "r.jsonl")
    assert len(seen) == 3 * 2 * 4
    for (*_, name), (a, b) in seen.items():
        change = np.abs(a.astype(int) - b).mean()
        assert (change == 0) == (name == "same")
        if name == "turned":
            tiles = [[one[i : i + 56, j : j + 56].astype(int) for i in (0, 56) for j in (0, 56)] for one in (a, b)]
            assert change > 3
            for tile in tiles[0]:
                assert min(np.abs(tile - other).mean() for other in tiles[1]) < 1


def test_an_object_is_audited_alike_whatever_else_is_compared(furnished, tmp_path):
    controls, _ = audited(furnished, whole, tmp_path / "r.jsonl")
    alone, judge = audited(furnished, whole, tmp_path / "r.jsonl", n=1, seed=3)
    assert judge.asked == 0
    pd.testing.assert_frame_equal(alone, controls[controls.object == alone.object[0]].reset_index(drop=True))


@pytest.mark.parametrize(
    ("first", "passed", "said"),
    [
        (
            lambda question: 0.7,
            [False, True],
            "not interpretable: the clear gap gate failed .better mesh preferred in 0 of 0",
        ),
        (lambda question: 1 - whole(question), [False, True], "not interpretable: the clear gap gate failed"),
        (
            lambda question: 0.9 if question.order == "ab" else 0.1,
            [True, False],
            "not interpretable: the no gap gate failed",
        ),
    ],
    ids=["position", "likes damage", "prefers a side"],
)
def test_a_judge_that_cannot_be_believed_fails_its_gate(tmp_path, first, passed, said):
    for index in range(6):
        for side in "AB":
            save(tmp_path / side / f"{index}.ply")
    controls, _ = audited(tmp_path, first, tmp_path / "r.jsonl")
    gates = own_tables.gates(controls, 0)
    assert [gate.passed for gate in gates.values()] == passed
    assert re.match(said, own_tables.statement(gates))


def verdicts(wins, losses, flips, abstentions=0):
    outcome = ["win"] * wins + ["loss"] * losses + ["flip"] * flips + ["abstention"] * abstentions
    p = {"win": (0.9, 0.2), "loss": (0.3, 0.6), "flip": (0.7, 0.6), "abstention": (np.nan, 0.6)}
    frame = pd.DataFrame({"object": [f"o{i}" for i in range(len(outcome))], "verdict": outcome})
    return frame.assign(p_ab=[p[o][0] for o in outcome], p_ba=[p[o][1] for o in outcome])


def test_the_summary_counts_and_says_whether_it_may_be_read():
    for no_gap in (GOOD, BAD):
        table = own_tables.summary(Says(None), verdicts(6, 2, 2), {"clear_gap": GOOD, "no_gap": no_gap}, 0)
        expected = {"judge": "fake", "layout": "montage", "wins": 6, "losses": 2, "flips": 2, "n": 10, "abstained": 0}
        expected |= {"win_all": 0.6, "win_consistent": 0.75, "win_half": 0.7}
        expected |= dict(zip(("low", "high"), map(float, clopper_pearson(6, 8)), strict=True))
        expected |= {"clear_gap": True, "no_gap": no_gap.passed, "interpretable": no_gap.passed}
        assert table.iloc[0].to_dict() == expected
        assert list(table.columns) == list(expected)


def test_abstentions_are_counted_apart_from_flips_and_from_every_share():
    answers, gates = verdicts(6, 2, 2), {"clear_gap": GOOD}
    more = verdicts(6, 2, 2, abstentions=5)
    rows = [own_tables.summary(Says(None), one, gates, 0).iloc[0] for one in (answers, more)]
    assert (rows[1].abstained, rows[1].n, rows[1].flips) == (5, 10, 2)
    pd.testing.assert_series_equal(rows[0].drop("abstained"), rows[1].drop("abstained"))
    claims = [own_tables.claims(one, gates) for one in (answers, more)]
    assert list(claims[0].p) == list(claims[1].p)
    assert list(claims[1].objects_needed) == [int(np.ceil(n * 15 / 8)) for n in claims[1].verdicts_needed]
    controls = [
        verdicts(8, 0, 0, abstentions=2).assign(control=name, folder="A", kind="holes")
        for name in (own.CLEAR, own.EQUAL, own.TURNED, own.IDENTICAL)
    ]
    table = own_tables.audit_table(pd.concat(controls), 0)
    assert (table.abstained.iloc[0], table.n.iloc[0]) == (2, 8)
    assert table.p_first.iloc[0] == pytest.approx((8 * 0.9 + 8 * 0.2 + 2 * 0.6) / 18)
    row = own_tables.against_truth(more, more[["object"]].assign(error_a=0.0, error_b=1.0), 0).iloc[0]
    assert (row.objects, row.consistent, row.right) == (15, 8, 6 / 8)


def test_the_claims_are_exact_tests_of_the_consistent_verdicts():
    table = own_tables.claims(verdicts(30, 2, 8), {"clear_gap": BAD, "no_gap": GOOD})
    p = [
        binomtest(30, 32, null, alternative=side).pvalue
        for null, side in ((0.5, "two-sided"), (0.65, "greater"), (0.35, "less"))
    ]
    assert list(table.p[:3]) == pytest.approx(p)
    assert table.p_holm[0] == pytest.approx(4 * p[0])
    assert list(table.supported) == [True, True, False, False]
    assert table.verdicts_needed[0] == needed_n(alpha=0.025)[1]
    assert list(table.objects_needed) == [int(np.ceil(n * 40 / 32)) for n in table.verdicts_needed]
    assert table.power[1] == table.power[2] > 0.4
    assert not table.interpretable.any()
    assert own_tables.claims(verdicts(2, 30, 0), {"clear_gap": GOOD}).supported.tolist() == [True, False, True, False]


def test_parity_needs_many_verdicts_and_only_flips_support_nothing():
    table = own_tables.claims(verdicts(60, 60, 0), {"clear_gap": GOOD})
    assert list(table.supported) == [False, False, False, True]
    flips = own_tables.claims(verdicts(0, 0, 9), {"clear_gap": GOOD})
    assert flips.objects_needed.isna().all()
    assert not flips.supported.any()
    assert list(flips.power) == [0, 0, 0, 0]


def test_the_audit_table_has_the_clear_gap_by_kind_and_folder():
    clear = verdicts(8, 1, 1).assign(control="clear gap", folder=["A", "B"] * 5, kind=["holes"] * 4 + ["floaters"] * 6)
    rest = [
        verdicts(0, 0, 4).assign(control=name, folder="A", kind="holes")
        for name in ("equal damage", "quarter turn", "identical images")
    ]
    table = own_tables.audit_table(pd.concat([clear, *rest]), 0).set_index(["control", "pairs"])
    assert table.loc[("clear gap", "all"), ["n", "wins", "losses", "flips", "gate"]].tolist() == [10, 8, 1, 1, "passed"]
    assert table.loc[("clear gap", "holes"), "wins"] == 4
    assert table.loc[("clear gap", "folder A"), ["n", "wins"]].tolist() == [5, 5 - 1]
    assert table.loc[("identical images", "all"), "p_first"] == pytest.approx(0.65)
    assert table.gate.tolist() == ["passed", "", "", "", "", "passed", "", ""]


def test_the_demonstration_knows_its_truth(tmp_path):
    truth = write_demonstration(tmp_path, seed=1, count=6)
    folders = opened(tmp_path)
    assert folders.names == list(truth.object)
    for index, item in enumerate(folders):
        for mesh, error in ((item.a, truth.error_a[index]), (item.b, truth.error_b[index])):
            assert mesh_error(furniture("test", index).mesh, mesh, n_points=100).view == pytest.approx(error, abs=0.02)
    assert (truth.error_a < truth.error_b).sum() >= 4
    answers = verdicts(4, 1, 1).assign(object=truth.object)
    truth[["error_a", "error_b"]] = [[0, 1], [0, 1], [1, 0], [0, 1], [0, 1], [0, 1]]
    row = own_tables.against_truth(answers, truth, 0).iloc[0]
    assert (row.truth, row.judged, row.consistent, row.right) == pytest.approx((5 / 6, 4 / 5, 5, 3 / 5))


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("photo", [None, np.full((8, 8, 3), 9, np.uint8)])
def test_the_page_and_the_figure_show_every_answer_and_the_warning(monkeypatch, tmp_path, photo):
    monkeypatch.setattr("lib.profiles.ROOT", tmp_path)
    answers = verdicts(1, 1, 1, 1).assign(object=["<b>x</b>&y$_$", "lamp", "sofas/red", "stool"])
    shown = [own.Shown(name, photo, *np.zeros((2, 8, 8, 3), np.uint8)) for name in answers.object]
    statement = own_tables.statement({"clear_gap": BAD, "no_gap": GOOD})
    long = pd.DataFrame({"why": ["so it is " * 20]})
    path = own_page.write_page(answers, shown, {"Pairs <1>": answers, "long": long}, statement, SMOKE)
    page = Page()
    page.feed(path.read_text())
    assert path.parent == tmp_path / "results/smoke/report"
    assert page.tags.count("article") == 4
    assert len(page.sources) == page.tags.count("figcaption") == page.tags.count("b") == (8 if photo is None else 12)
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    for text in (
        "<b>x</b>&y$_$: A preferred",
        "lamp: B preferred",
        "sofas/red: flip",
        "stool: no answer",
        "Pairs <1>",
        statement,
        "so it is " * 19,
    ):
        assert text in page.text
    for text in (
        "A first: A, p(A) = 0.90",
        "B first: A, p(B) = 0.20",
        "A first: B, p(A) = 0.30",
        "B first: B, p(B) = 0.60",
        "A first: names neither",
    ):
        assert text in page.text
    figure = own_plots.pairs(answers, shown[:2], statement)
    assert figure.get_suptitle() == statement
    assert len(figure.axes) == (4 if photo is None else 6)
    assert [axis.get_title().split("\n")[1] for axis in figure.axes[:2]] == ["A preferred", "B preferred"]
    assert "p(B) = 0.60" in figure.axes[-1].get_xlabel()
    figure.savefig(tmp_path / "figure.png")  # "$" in a name is no formula


def test_the_notebook_runs_on_folders_given_by_relative_paths_and_asks_nothing_twice(tmp_path):
    write_demonstration(tmp_path, seed=2, count=6)
    (tmp_path / "B/00_chair.ply").write_bytes(b"broken")
    for path in sorted((tmp_path / "A").iterdir()):
        (tmp_path / "P").mkdir(exist_ok=True)
        render_photo(load_mesh(path), 64).save(tmp_path / "P" / f"{path.stem}.png")
    command = [sys.executable, "-m", "lib.runner", "10", "--profile", "smoke"]
    given = [
        part for name, value in (("folder_a", "A"), ("folder_b", "B"), ("photos", "P")) for part in ("-p", name, value)
    ]
    calm = os.environ | {"OMP_WAIT_POLICY": "passive"}  # as run_all.sh has it
    result = subprocess.run(command + given, cwd=tmp_path, env=calm, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    summary = pd.read_csv(SMOKE.tables_dir / "10_summary.csv").iloc[0]
    pairs = pd.read_csv(SMOKE.tables_dir / "10_pairs.csv", dtype={"object": str})
    assert (summary.judge, summary.layout) == ("judge_y", "montage_ref")
    assert summary.abstained == 0
    assert summary.n == summary.wins + summary.losses + summary.flips == len(pairs) == 5
    assert list(pairs.columns) == ["object", "verdict", "p_ab", "p_ba"]
    assert "n_skipped = 1" in (SMOKE.tables_dir / "10_summary.md").read_text()
    assert (SMOKE.figures_dir / "10_pairs.png").exists()
    assert "01_table" in (SMOKE.tables_dir.parent / "report/10_pairs.html").read_text()
    lines = (SMOKE.records_dir / "own.jsonl").read_bytes()
    records, judge = Records(SMOKE.records_dir / "own.jsonl"), own.open_judge("y", "montage_ref", SMOKE)
    folders = opened(tmp_path, photos=tmp_path / "P")
    own.audit(judge, folders, SMOKE, records)
    answers, _ = own.compare(judge, folders, SMOKE, records)
    assert (SMOKE.records_dir / "own.jsonl").read_bytes() == lines
    pd.testing.assert_frame_equal(answers, pairs)
