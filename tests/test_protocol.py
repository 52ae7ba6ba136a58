"""Notebook 01's functions: the objects it shows, what it says of a damage, the prompts, one pair to the verdict."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import trimesh

from lib.data.corrupt import CORRUPTIONS
from lib.errors import BadInput
from lib.judges.prompts import LAYOUTS, prompt
from lib.judges.verdicts import Answer, Verdict
from lib.profiles import Profile, load_profile
from lib.renderers.montage import judge_montage
from lib.study import protocol
from lib.study.protocol import damage, damage_summary, damage_table, gather_objects, seen
from lib.study.protocol_plots import verdict_figure

SMOKE = load_profile("smoke")


def test_procedural_objects_come_from_the_test_split():
    objects, skipped = gather_objects(load_profile("smoke", n_objects=3))
    assert [item.id for item in objects] == [f"procedural/test/{index}" for index in range(3)]
    assert skipped == []


def test_a_folder_gives_what_it_has_and_lists_what_it_cannot_read(tmp_path):
    trimesh.creation.box((1, 2, 3)).export(tmp_path / "good.ply")
    (tmp_path / "bad.glb").write_bytes(b"no mesh")
    objects, skipped = gather_objects(SMOKE, tmp_path)
    assert [item.id for item in objects] == ["good"]
    assert [problem.source for problem in skipped] == [str(tmp_path / "bad.glb")]


def test_the_up_axis_reaches_the_files(tmp_path):
    trimesh.creation.box((1, 2, 4)).export(tmp_path / "tall.ply")
    (tall,), _ = gather_objects(SMOKE, tmp_path)
    (flat,), _ = gather_objects(SMOKE, tmp_path, "y")
    np.testing.assert_allclose(tall.mesh.extents, [0.25, 0.5, 1])
    np.testing.assert_allclose(flat.mesh.extents, [0.25, 1, 0.5])


def test_a_folder_without_a_readable_mesh_is_an_error(tmp_path):
    (tmp_path / "bad.glb").write_bytes(b"no mesh")
    with pytest.raises(BadInput, match=r"none of the 1 meshes drawn could be read.*bad\.glb"):
        gather_objects(SMOKE, tmp_path)


def test_seen_averages_over_drawn_pixels_only():
    white = np.full((4, 4, 3), 255, np.uint8)
    one, two = white.copy(), white.copy()
    one[0, 0], two[0, :2] = 0, 0
    assert seen(white, white) == 0
    assert seen(one, one) == 0
    assert seen(one, two) == 0.5
    assert seen(white, one) == 1


@pytest.fixture(scope="module")
def damaged():
    return damage(gather_objects(load_profile("smoke", n_objects=1))[0], 0.6, SMOKE)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Profile, "records_dir", tmp_path_factory.mktemp("records"))
        yield


@pytest.fixture(scope="module")
def table(damaged, records):
    return damage_table(damaged, SMOKE)


def test_what_was_measured_is_on_record_until_the_mesh_or_the_damage_changes(table, damaged, monkeypatch):
    measured = []
    monkeypatch.setattr(protocol, "montages", lambda mesh, *_: measured.append(mesh) or [np.zeros((1, 1, 3))] * 2)
    pd.testing.assert_frame_equal(damage_table(damaged, SMOKE), table)
    assert measured == []
    ((item, done),) = damaged[:1]
    damage_table([(item, replace(done, seed=done.seed + 1))], SMOKE)
    assert measured == [item.mesh, done.mesh]
    damage_table(damaged[1:2], replace(SMOKE, n_splats=9))
    assert len(measured) == 5  # the floor too


def test_the_table_has_every_kind_and_a_floor(table):
    assert list(table.kind) == ["intact", *CORRUPTIONS]
    floor = table.iloc[0]
    assert (floor.view_error, floor.f_score, floor.seen_in_normals) == (0, 1, 0)
    assert 0 < floor.seen_in_splats < 0.1
    assert (table.view_error[1:] > 0).all()
    assert (table.seen_in_normals[1:] > 0).all()


def test_splats_hide_dropped_faces_and_noise(table):
    """The paper's second failure; the bar is far above what was measured (.2 to .4) and far below 1."""
    share = damage_summary(table).set_index("kind").splats_show
    assert share["face_drop"] < 0.6
    assert share["noise"] < 0.6
    assert share["missing_part"] > 0.6
    assert np.isnan(share["intact"])


def test_damage_draws_depend_on_the_object_and_the_seed_only():
    objects, _ = gather_objects(SMOKE)
    every, one = damage(objects, 0.5, SMOKE, ["holes", "noise"]), damage(objects, 0.5, SMOKE, ["noise"])
    assert [corruption.kind for _, corruption in every] == ["holes", "noise"] * 2
    np.testing.assert_array_equal(every[3][1].mesh.vertices, one[1][1].mesh.vertices)


def test_an_unknown_corruption_is_named_before_any_work():
    objects, _ = gather_objects(SMOKE)
    with pytest.raises(BadInput, match="hole"):
        damage(objects, 0.5, SMOKE, ["hole"])


def test_every_layouts_prompt_is_printed_word_for_word_with_its_images():
    asked = protocol.prompts()
    table = protocol.prompt_table(asked).set_index("layout")
    assert set(table.index) == set(LAYOUTS)
    assert table.images.to_dict() == {"montage": 2, "montage_ref": 3, "seven_images": 7, "splat": 2, "turntable24": 2}
    paragraphs = protocol.prompt_texts(asked).split("\n\n")
    for (layout, row), paragraph in zip(table.iterrows(), paragraphs, strict=True):
        assert (row.id, row.digest) == (prompt(layout).id, prompt(layout).digest)
        assert paragraph.startswith(f"{row.id}: ")
        assert paragraph.count("[image]") == row.images
        assert paragraph.endswith(prompt(layout).parts[-1])


@pytest.fixture(scope="module")
def walk():
    """An object, its corruption, the pair of both."""
    objects, _ = gather_objects(load_profile("smoke", n_objects=1))
    ((item, corruption),) = damage(objects, 0.6, SMOKE, ["face_drop"])
    return item, corruption, protocol.intact_against(item, corruption, SMOKE)


A, B = Answer((0.8, 0.2), 0.99, 0.0), Answer((0.3, 0.7), 0.98, 0.0)  # picks the first shown, the second
VERDICTS = {"X": Verdict(A, B), "Y": Verdict(A, A), "Z": Verdict(B, A)}


def test_the_pair_is_what_a_judge_is_shown(walk):
    item, corruption, pair = walk
    for candidate, mesh in ((pair.a, item.mesh), (pair.b, corruption.mesh)):
        (seen_by_the_judge,) = candidate.pictures(LAYOUTS["montage"])
        np.testing.assert_array_equal(seen_by_the_judge.pixels, judge_montage(mesh, SMOKE.tile))
    assert (pair.a.facts["kind"], pair.b.facts["kind"]) == ("intact", "face_drop")


def test_the_answers_say_what_was_shown_where_and_picked(walk):
    table = protocol.answer_table(walk[2], VERDICTS).set_index(["judge", "order"])
    assert list(table.image_a) == ["intact", "face_drop"] * 3
    assert list(table.image_b) == ["face_drop", "intact"] * 3
    assert table.picks.to_dict() == {
        **{("X", "ab"): "intact", ("X", "ba"): "intact"},
        **{("Y", "ab"): "intact", ("Y", "ba"): "face_drop"},
        **{("Z", "ab"): "face_drop", ("Z", "ba"): "face_drop"},
    }
    assert list(table.verdict) == ["win", "win", "flip", "flip", "loss", "loss"]
    assert tuple(table.loc[("X", "ba"), ["p_a", "p_b", "mass"]]) == (0.3, 0.7, 0.98)


def test_the_verdict_figure_says_in_words_what_the_answers_make(walk):
    figure = verdict_figure(*walk, VERDICTS, SMOKE)
    words = [text.get_text() for sub in figure.subfigs for text in sub.texts]
    assert words[0::2] == ["judge X: ", "judge Y: ", "judge Z: "]
    assert words[1::2] == [
        "WIN of the intact mesh: it is picked in both orders",
        "FLIP: image A is picked in both orders, whatever it shows; nothing is won",
        "LOSS of the intact mesh: the face drop one is picked in both orders",
    ]


def test_an_abstention_has_no_bars_and_no_pick(walk):
    neither = Answer((np.nan, np.nan), 0.0, 0.0)
    verdicts = {"X": Verdict(A, neither)}
    table = protocol.answer_table(walk[2], verdicts)
    assert table.picks[0] == "intact"
    assert table.picks.isna().tolist() == [False, True]
    assert set(table.verdict) == {"abstention"}
    figure = verdict_figure(*walk, verdicts, SMOKE)
    figure.canvas.draw()
    titles = [axis.get_title() for axis in figure.subfigs[1].axes]
    assert {"judge X picks A (intact)", "judge X picks neither"} < set(titles)
    assert "no verdict: one of the answers names neither image" in [text.get_text() for text in figure.subfigs[2].texts]


def test_a_candidate_keeps_its_color_when_the_order_changes(walk):
    figure = verdict_figure(*walk, VERDICTS, SMOKE)
    titles = {axis.get_title(): axis for axis in figure.subfigs[1].axes if axis.patches}
    assert set(titles) == {
        *("judge X picks A (intact)", "judge X picks B (intact)"),
        *("judge Y picks A (intact)", "judge Y picks A (face drop)"),
        *("judge Z picks B (face drop)", "judge Z picks A (face drop)"),
    }
    longest = {
        title: max(axis.patches, key=lambda bar: bar.get_width()).get_facecolor() for title, axis in titles.items()
    }
    intact = {color for title, color in longest.items() if "intact" in title}
    broken = {color for title, color in longest.items() if "face drop" in title}
    assert len(intact) == len(broken) == 1
    assert intact != broken
