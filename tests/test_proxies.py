"""Notebook 07: the companion's design, its estimands, and a head that never sees what it is judged on."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config

from lib.data.compare import mesh_error
from lib.data.corrupt import corrupt
from lib.data.photos import render_photo
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.judges.candidates import Picture
from lib.judges.prompts import LAYOUTS
from lib.judges.verdicts import Answer
from lib.profiles import Profile, load_profile
from lib.stats.estimands import FLIP, LOSS, WIN
from lib.study import proxies, proxies_plots, shelf
from lib.study.proxies import FEATURES, FULL, MIXED, SIMILARITY, SUBGROUPS, WITHIN_CORRUPTED, WITHIN_INTACT
from lib.study.proxy_agreement import ALL, GEOMETRY, HEAD, JUDGE_X, agreement, head_weights, judge_table, margins
from lib.study.published import load_published
from lib.study.records import Records
from lib.study.similarity import Tower, rig_views, similarity
from lib.study.validity import validity

SMALL = replace(load_profile("smoke"), tile=16)
PUBLISHED = load_published()


class MeanColor:
    name = "mean color"

    def __call__(self, pictures):
        return torch.tensor(np.stack([picture.mean((0, 1)) for picture in pictures]))


class Ink:
    """A judge that takes the picture with more (or less) ink on it, or always the first."""

    batch = 4

    def __init__(self, family, likes):
        self.family, self.likes, self.settings = family, likes, {"likes": likes, "family": family}

    def asking(self, layout):
        self.layout = LAYOUTS[layout]
        return self

    def ask(self, questions):
        said = []
        for question in questions:
            first, second = (int((picture.pixels < 255).any(-1).sum()) for picture in question.pictures)
            p = 0.9 if self.likes * (first - second) > 0 or not self.likes else 0.1
            said.append(Answer((p, 1 - p), 1.0, 0.0))
        return said


@pytest.fixture(scope="module", autouse=True)
def records(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Profile, "records_dir", tmp_path_factory.mktemp("records"))
        yield


@pytest.fixture(scope="module")
def measured():
    objects = [furniture("test", index) for index in range(3)]
    return proxies.measure(objects, SMALL, MeanColor(), workers=1)


def test_every_object_has_four_candidates_known_by_role(measured):
    for item in measured:
        assert tuple(one.role for one in item) == proxies.ROLES
    assert [one.kind for one in measured[1]] == [
        "intact",
        proxies.DAMAGES[1],
        "face_drop",
        f"{proxies.DAMAGES[1]} + face_drop",
    ]


def test_the_records_say_how_each_candidate_was_damaged(measured):
    intact, corrupted, dropped, both = (one.candidate.facts["damages"] for one in measured[0])
    assert intact == []
    assert [damage["kind"] for damage in both] == [proxies.DAMAGES[0], "face_drop"]
    assert both[0] == corrupted[0]
    assert dropped[0]["severity"] == both[1]["severity"] == 0.375
    mesh = furniture("test", 0).mesh
    for damage in both:
        mesh = corrupt(mesh, **damage).mesh
    assert mesh_error(furniture("test", 0).mesh, mesh, n_points=100).view == measured[0][3].error


def test_errors_and_features_are_those_of_the_candidates_own_meshes(measured):
    for index, item in enumerate(measured):
        mesh = furniture("test", index).mesh
        intact, corrupted, dropped, both = item
        assert intact.error == 0
        assert 0 < corrupted.error < both.error
        assert intact.features["watertight"] == validity(mesh).watertight == 1
        assert dropped.features["watertight"] == both.features["watertight"] == 0
        share = corrupt(mesh, "face_drop", 0.375, 0)
        assert dropped.error == pytest.approx(mesh_error(mesh, share.mesh).view, abs=0.1)
        photo, views = Picture(render_photo(mesh, 32)).pixels, rig_views(mesh, 32)
        assert intact.features[SIMILARITY] == pytest.approx(similarity(MeanColor(), photo, views[None])[0])


def test_candidates_depend_on_the_object_its_place_and_the_seed_alone(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(Profile, "records_dir", tmp_path)
    again = proxies.measure([furniture("test", 0)], SMALL, MeanColor(), workers=1)
    other = proxies.measure([furniture("test", 0)], replace(SMALL, seed=1), MeanColor(), workers=1)
    pd.testing.assert_frame_equal(proxies.candidate_table(again), proxies.candidate_table(measured[:1]))
    assert not proxies.candidate_table(again).equals(proxies.candidate_table(other))


def test_a_second_run_measures_nothing_and_a_new_judge_sees_what_was_measured(measured, monkeypatch, tmp_path):
    objects = [furniture("test", index) for index in range(3)]
    with monkeypatch.context() as shut:
        shut.setattr(shelf, "_make", None)
        again = proxies.measure(objects, SMALL, MeanColor(), workers=1)
    pd.testing.assert_frame_equal(proxies.candidate_table(again), proxies.candidate_table(measured))
    run, at_once = shelf._run, []
    monkeypatch.setattr(shelf, "_run", lambda jobs, *how: at_once.append(len(jobs)) or run(jobs, *how))
    with parallel_config(backend="sequential"):
        answers = proxies.ask(again[:1], {"X": Ink("x", 1), "Y": Ink("y", -1)}, Records(tmp_path / "records.jsonl"))
    assert len(answers) == 6
    assert at_once == [4, 0]
    assert again[1][0].candidate.images.made is None
    for old, new in zip(measured[0], again[0], strict=True):
        np.testing.assert_array_equal(*(one.candidate.images["turntable24"][0] for one in (old, new)))


def test_a_judge_that_was_trained_again_is_another_encoder():
    class Trained(Tower):
        __call__ = MeanColor.__call__

    first, same, second = (Trained(SimpleNamespace(identity={"model": "x", "weights": one})) for one in "112")
    item = [furniture("test", 0)]
    one, other, new = (proxies.measure(item, SMALL, encoder, workers=1)[0][0] for encoder in (first, same, second))
    assert one.candidate.images.made is not None
    assert other.candidate.images.made is None
    assert new.candidate.images.made is not None


def test_a_larger_share_of_faces_can_be_dropped_and_a_wrong_one_is_refused():
    item = [furniture("test", 1)]
    more = proxies.measure(item, SMALL, MeanColor(), face_drop=0.9, workers=1)[0]
    less = proxies.measure(item, SMALL, MeanColor(), face_drop=0.1, workers=1)[0]
    assert more[2].error > 2 * less[2].error
    with pytest.raises(BadInput, match="severity"):
        proxies.measure(item, SMALL, MeanColor(), face_drop=1.5, workers=1)


@pytest.mark.parametrize("layout", ["montage_ref", "splat", "panorama"])
def test_a_layout_that_needs_more_than_a_mesh_is_refused_before_any_work(layout):
    with pytest.raises(BadInput, match="layout"):
        proxies.measure([], SMALL, MeanColor(), layout)


def test_validity_is_averaged_over_the_candidates_of_a_kind(measured):
    table = proxies.validity_by_kind(proxies.candidate_table(measured)).set_index("kind")
    assert table.index[:2].tolist() == ["intact", "face_drop"]
    assert table.n.sum() == 12
    assert table.loc["intact", ["n", "watertight", "view_error"]].tolist() == [3, 1, 0]
    assert table.loc["face_drop", "watertight"] == 0


def test_all_six_pairs_of_an_object_are_asked_in_the_companions_subgroups(measured, tmp_path):
    judges = {"X": Ink("x", 1), "Y": Ink("y", -1)}
    records = Records(tmp_path / "records.jsonl")
    pairs = proxies.ask(measured, judges, records)
    assert len(records.answers) == 3 * 6 * 2 * 2
    counts = {FULL: 3, WITHIN_INTACT: 3, WITHIN_CORRUPTED: 3, MIXED: 9}
    assert pairs.subgroup.value_counts().to_dict() == counts
    assert (pairs.x.map({WIN: LOSS, LOSS: WIN, FLIP: FLIP}) == pairs.y).all()
    assert (pairs.x == FLIP).sum() < 3
    for row in pairs[pairs.subgroup == WITHIN_INTACT].itertuples():
        assert (row.kind_a, row.kind_b, row.watertight) == ("intact", "face_drop", 1)
        assert row.gap > 0


def test_a_judge_may_not_score_what_its_own_family_labelled(measured, tmp_path):
    with pytest.raises(BadInput, match="family"):
        proxies.ask(measured, {"X": Ink("x", 1), "Y": Ink("x", -1)}, Records(tmp_path / "records.jsonl"))


def made(n_objects=30, seed=0):
    """Pairs of the companion's design with random features, gaps and verdicts."""
    rng = np.random.default_rng(seed)
    subgroup = np.tile([FULL, WITHIN_INTACT, WITHIN_CORRUPTED, MIXED, MIXED, MIXED], n_objects)
    frame = pd.DataFrame({"object": np.repeat(np.arange(n_objects), 6), "subgroup": subgroup})
    for name in FEATURES:
        frame[name] = rng.normal(size=len(frame))
    verdicts = rng.choice([WIN, LOSS, FLIP], (2, len(frame)), p=[0.4, 0.4, 0.2])
    return frame.assign(gap=rng.normal(size=len(frame)), x=verdicts[0], y=verdicts[1])


def row(table, proxy, subgroup=ALL):
    return table[(table.proxy == proxy) & (table.subgroup == subgroup)].iloc[0]


def test_the_companions_counts_give_its_printed_agreement_and_intervals():
    """Its consistent verdicts by subgroup, with geometry right as often as it prints, one pair an object."""
    counts = {FULL: (39, 43), WITHIN_INTACT: (40, 50), MIXED: (63, 119), WITHIN_CORRUPTED: (20, 50)}
    pairs = pd.concat(
        pd.DataFrame({"subgroup": name, "right": np.arange(n) < k}) for name, (k, n) in counts.items()
    ).reset_index(drop=True)
    pairs = pairs.assign(object=pairs.index, y=np.where(pairs.index % 2, WIN, LOSS), gap=1.0)
    said = pd.DataFrame({GEOMETRY: np.where((pairs.y == WIN) == pairs.right, 2.0, -2.0)})
    table = agreement(pairs, said, PUBLISHED, "none", seed=0)
    for subgroup in (ALL, *counts):
        found = row(table, GEOMETRY, subgroup)
        assert round(found.agreement, 2) == found.printed
        assert found.n == found.printed_n
    low, high = row(table, GEOMETRY, FULL)[["wilson_low", "wilson_high"]]
    assert (round(low, 2), round(high, 2)) == (0.78, 0.96)


def test_ties_are_half_right_and_a_proxy_that_only_ties_says_nothing():
    pairs = made()
    pairs[list(FEATURES)] = 0.0
    pairs.loc[pairs.subgroup == FULL, "watertight"] = np.where(pairs.y[pairs.subgroup == FULL] == WIN, 1.0, -1.0)
    table = agreement(pairs, margins(pairs, 0)[0], PUBLISHED, "none", seed=0)
    n, sure = (pairs.y != FLIP).sum(), ((pairs.y != FLIP) & (pairs.subgroup == FULL)).sum()
    found = row(table, "watertight")
    assert (found.n, found.ties) == (n, n - sure)
    assert found.agreement == pytest.approx((sure + (n - sure) / 2) / n)
    assert (row(table, "watertight", FULL).agreement, row(table, "watertight", FULL)["reads"]) == (1, "agrees")
    assert row(table, "manifold")["reads"] == "only ties"


def test_flips_of_y_are_left_out_and_flips_of_x_only_where_x_is_compared():
    pairs = made()
    table = agreement(pairs, margins(pairs, 0)[0], PUBLISHED, "none", seed=0)
    consistent = pairs.y != FLIP
    assert row(table, GEOMETRY).n == row(table, HEAD).n == consistent.sum()
    both = pairs[consistent & (pairs.x != FLIP)]
    assert row(table, JUDGE_X).n == len(both)
    assert row(table, JUDGE_X).agreement == pytest.approx((both.x == both.y).mean())


def test_a_proxy_that_is_the_truth_agrees_with_it_whatever_y_says():
    pairs = made()
    pairs["manifold"] = pairs.gap
    table = agreement(pairs, margins(pairs, 0)[0], PUBLISHED, "none", seed=0)
    assert row(table, "manifold").truth == 1
    assert row(table, "manifold").agreement == pytest.approx(
        ((pairs.gap > 0) == (pairs.y == WIN))[pairs.y != FLIP].mean()
    )


def test_verdicts_without_pattern_read_null_and_opposed_ones_disagree():
    pairs = made(n_objects=60, seed=3)
    table = agreement(pairs, margins(pairs, 0)[0], PUBLISHED, "none", seed=0)
    assert row(table, HEAD)["reads"] == "null"
    pairs[SIMILARITY] = pairs.y.map({WIN: -1, LOSS: 1, FLIP: 1}).astype(float)
    opposed = agreement(pairs, margins(pairs, 0)[0], PUBLISHED, "mean color", seed=0)
    assert row(opposed, SIMILARITY)["reads"] == "disagrees"
    assert row(opposed, SIMILARITY).encoder == row(opposed, HEAD).encoder == "mean color"
    assert row(opposed, GEOMETRY).encoder == ""


def test_the_head_learns_from_x_about_other_objects_only():
    pairs = made()
    before = margins(pairs, 0)[0][HEAD]
    changed = pairs.copy()
    own = changed.object == 7
    changed.loc[own, "x"] = changed.x[own].map({WIN: LOSS, LOSS: WIN, FLIP: FLIP})
    changed["y"] = changed.y.map({WIN: LOSS, LOSS: FLIP, FLIP: WIN})
    after = margins(changed, 0)[0][HEAD]
    np.testing.assert_array_equal(after[own], before[own])
    assert (after != before).any()


def test_the_head_follows_x_and_its_large_gaps_are_surer_than_its_small_ones():
    pairs = made(n_objects=100)
    pairs["manifold"] /= 10
    rng = np.random.default_rng(1)
    for name in "xy":
        odds = 20 * pairs.manifold - pairs[SIMILARITY]
        pairs[name] = np.where(rng.random(len(pairs)) < 1 / (1 + np.exp(-odds)), WIN, LOSS)
    said, heads = margins(pairs, 0)
    table = agreement(pairs, said, PUBLISHED, "none", seed=0)
    large, small = (row(table, HEAD, f"{size} reward gap") for size in ("large", "small"))
    assert large.agreement > row(table, HEAD).agreement > small.agreement
    assert large.n + small.n == row(table, HEAD).n
    assert (large.printed, small.printed) == (0.67, 0.57)
    weights = head_weights(heads, PUBLISHED).set_index("feature")
    assert weights.weight.idxmax() == "manifold"
    assert weights.weight["manifold"] == pytest.approx(2, abs=0.4)
    assert (weights.lowest <= weights.weight).all()
    assert (weights.weight <= weights.highest).all()
    assert weights.printed.dropna().to_dict() == {"manifold": 2.16, SIMILARITY: -0.11}


def test_judges_are_held_against_the_truth_and_the_bar_of_a_control():
    pairs = made()
    pairs["x"] = np.where(pairs.gap > 0, WIN, LOSS)
    pairs["y"] = np.where(pairs.subgroup == FULL, FLIP, pairs.x)
    table = judge_table(pairs, seed=0).set_index(["judge", "subgroup"])
    assert table.loc["X"].truth.tolist() == [1] * 5
    assert table.loc["X"].pairs.tolist() == [180, 30, 30, 30, 90]
    columns = ["flips", "flip_rate", "consistent", "truth", "clear_gap"]
    assert table.loc[("Y", ALL), columns].tolist() == [30, 1 / 6, 150, 1, "passes"]
    assert table.loc[("Y", MIXED), columns].tolist() == [0, 0, 90, 1, "passes"]
    assert table.loc[("Y", FULL), ["flips", "flip_rate", "consistent", "clear_gap"]].tolist() == [30, 1, 0, "fails"]


def test_an_abstention_is_neither_a_flip_nor_a_verdict():
    pairs = made().assign(x=WIN, y=[WIN, LOSS, FLIP, "abstention", "abstention", WIN] * 30)
    found = judge_table(pairs, seed=0).set_index(["judge", "subgroup"]).loc[("Y", ALL)]
    assert found[["pairs", "flips", "consistent", "clear_gap"]].tolist() == [180, 30, 90, "fails"]
    said, _ = margins(pairs.assign(x=[WIN, LOSS, "abstention"] * 60), 0)
    assert said[JUDGE_X].isna().sum() == 60
    assert row(agreement(pairs, said, PUBLISHED, "mean color", 0), SIMILARITY).n == 90


def test_the_forest_shows_every_subgroup_and_proxy_and_its_legend_fits():
    pairs = made()
    table = agreement(pairs, margins(pairs, 0)[0], PUBLISHED, "none", seed=0)
    figure = proxies_plots.forest(table)
    titles = [axis.get_title().replace("\n", " ") for axis in figure.axes]
    assert titles == [ALL, *SUBGROUPS]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-2:] == [HEAD, JUDGE_X]
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_the_rig_shows_each_candidate_as_the_judges_see_it(measured):
    figure = proxies_plots.rig(measured[:2])
    shown = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert len(shown) == 8
    np.testing.assert_array_equal(shown[5], measured[1][1].candidate.images["turntable24"][0])
    assert [axis.get_title() for axis in figure.axes[:4]] == list(proxies.ROLES)
