"""The mechanism on a tiny generator: what moves is what an adapter changes, and an interval is where much is known."""

import shutil
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import study_tables
from tiny_study import tiny_study, undecided, write_generator

from lib.data.compare import mesh_error
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.study import drawing, lessons, mechanism, mechanism_plots, samples
from lib.study.cells import STRUCTURE, Cell
from lib.study.drawing import Drawn
from lib.study.mechanism import FLOWS, SHIFTS, ratio

SCALES = (0.0, 1.0, 3.0)


@pytest.fixture(scope="module")
def drawn():
    """The object of every call that draws samples, in order."""
    return []


@pytest.fixture(scope="module")
def study(tmp_path_factory, drawn):
    def draw(folder, weights, item, *rest):
        drawn.append(item.id)
        return drawing.draw(folder, weights, item, *rest)

    folder = write_generator(tmp_path_factory.mktemp("generator"))
    with tiny_study(tmp_path_factory.mktemp("results"), folder) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mechanism, "mesh_error", partial(mesh_error, n_points=500))
        patch.setattr(samples, "draw", draw)
        patch.setattr(mechanism, "SCALES", SCALES)
        patch.setattr(mechanism, "STEPS", (2,))
        patch.setattr(mechanism, "SHARE", 1)
        patch.setattr(mechanism, "LOCUS", [FLOWS[0], Cell("sft_clean", "severe", STRUCTURE)])
        patch.setattr(mechanism, "REPAIRS", [Cell("conditioner_repair", "severe")])
        yield opened


@pytest.fixture(scope="module")
def table(study):
    return mechanism.mechanism(study, "full")


def test_the_table_is_what_the_figures_draw(table):
    assert table.columns.tolist() == study_tables.mechanism().columns.tolist()
    assert set(table.quantity) == set(study_tables.mechanism().quantity) | {"F-score gained", mechanism.TRAINED_ANEW}
    assert table[table.by == "scale"].x.unique().tolist() == list(SCALES)
    known = table[table.by == ""].dropna()
    assert (known.low <= known.value).all()
    assert (known.value <= known.high).all()
    for draw in (mechanism_plots.wash_out, mechanism_plots.causes):
        plt.close(draw(table))


def test_all_samples_of_an_object_are_drawn_in_one_go(table, study, drawn):
    for subject in study.subjects:
        assert drawn.count(subject.item.id) == 1


def shifts(table, stage, by="scale"):
    """By scale and quantity."""
    return table[(table.by == by) & (table.stage == stage)].pivot(index="x", columns="quantity", values="value")


def test_without_its_scale_an_adapter_moves_nothing_and_with_more_it_moves_more(table):
    for stage in ("slat", STRUCTURE):
        found = shifts(table, stage)
        assert np.allclose(found.loc[0, list(SHIFTS)], 0, atol=1e-5)
        assert found["surface shift"][3] > 1e-3
    slat = shifts(table, "slat")["latent shift"]
    assert 0 < slat[1] < slat[3]


def test_an_adapter_of_the_latents_leaves_every_voxel_and_one_of_the_structure_does_not(table):
    for by in ("scale", "steps"):
        assert (shifts(table, "slat", by)["occupancy shift"] == 0).all()
    assert shifts(table, STRUCTURE)["occupancy shift"][3] > 0


def test_probe_and_features_have_an_interval_over_the_held_out_examples(table, study):
    for cell, quantity in ((Cell("dpo_0.5"), "probe"), (Cell("conditioner_repair", "severe"), "feature MSE")):
        (row,) = table[(table.method == cell.method) & (table.quantity == quantity)].itertuples()
        (fact,) = study.facts([cell]).itertuples()
        assert row.n == fact.held == len(fact.each_before) > 1
        assert row.value == pytest.approx(sum(fact.each_after) / sum(fact.each_before))
        assert min(row.low, row.high) > 0


def test_the_same_adapter_is_trained_with_several_seeds_of_which_the_first_is_the_studys(table, study):
    assert len({study.school.adapter(FLOWS[0], number) for number in range(mechanism.SEEDS)}) == mechanism.SEEDS
    rows = table[(table.cause == "chance") & (table.stage == "slat")].set_index("x")
    (locus,) = table[(table.quantity == "F-score gained") & (table.method == FLOWS[0].method)].value
    assert rows.value[0] == locus
    assert rows.value.loc[[0, 1, 2]].nunique() > 1
    assert rows[rows.by == ""].value.item() == pytest.approx(rows.value.loc[[0, 1, 2]].mean())


def test_a_second_run_draws_nothing_and_gives_the_same_numbers(table, study, monkeypatch):
    shutil.rmtree(study.settings.cache_dir)
    monkeypatch.setattr(samples, "draw", lambda *_: pytest.fail("it is on record"))
    pd.testing.assert_frame_equal(mechanism.mechanism(study), table)  # also the training seeds of full coverage


def test_other_training_seeds_belong_to_full_coverage(table, study, monkeypatch):
    monkeypatch.setattr(study.finished, "answers", {})  # as before that run
    plain = mechanism.mechanism(study)
    pd.testing.assert_frame_equal(plain, table[table.cause != "chance"])
    assert not study.finished.answers
    with pytest.raises(BadInput, match="paper, full"):
        mechanism.mechanism(study, "all")


def test_a_method_without_lessons_has_rows_in_which_nothing_is_known(study, monkeypatch):
    monkeypatch.setattr(lessons, "label", undecided)
    monkeypatch.setattr(study.school, "labels", {})
    monkeypatch.setattr(mechanism, "REPAIRS", [])
    monkeypatch.setattr(mechanism, "LOCUS", FLOWS)
    found = mechanism.mechanism(study, "full")
    assert (found.n == 0).all()
    assert found[["value", "low", "high"]].isna().all(axis=None)
    assert set(found.cause) == {"saturation", "wash-out", "locus", "chance"}


def test_samples_that_are_empty_have_no_distance():
    mesh, cells = furniture("test", 0).mesh, np.zeros((1, 3), int)
    some, none = (Drawn(one, cells, np.ones((1, 8)), np.zeros(1)) for one in (mesh, None))
    assert np.isnan(mechanism._distance(some, none)).all()
    assert mechanism._distance(some, some)[:2] == (0, 0)


def test_a_ratio_is_that_of_sums_and_nan_where_nothing_is_known():
    value, low, high, n = ratio([1, 2, 3, np.nan], [2, 2, 4, 1], seed=0)
    assert (value, n) == (0.75, 3)
    assert 0.5 <= low < 0.75 < high <= 1
    assert ratio([1, 2, 3], [2, 2, 4], seed=0) == (value, low, high, n)
    for above, below, known in (([1, np.nan], [1, 1], 1), ([1, 2], [0, 0], 2), ([], [], 0)):
        *numbers, n = ratio(above, below, seed=0)
        assert np.isnan(numbers).all()
        assert n == known


def test_the_interval_of_a_ratio_covers_the_true_one_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), []
    for _ in range(100):
        below = rng.gamma(4, size=40)
        _, low, high, _ = ratio(1.5 * below + rng.normal(size=40), below, seed=0)
        covered.append(low <= 1.5 <= high)
    assert 0.87 <= np.mean(covered) <= 0.99
