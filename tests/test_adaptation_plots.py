"""Notebook 08's figures on made-up tables: what is drawn is what the table holds."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import study_tables as made
from matplotlib.colors import to_rgba
from PIL import Image

from lib.stats.power import power_above
from lib.study import adaptation_plots, gallery, mechanism_plots, power_plots, severity_plots
from lib.study.cells import Cell
from lib.study.plots import COLUMN


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def reaches(axis, horizontal=True):
    """The ends of every interval on an axis, sorted."""
    place = 0 if horizontal else 1
    segments = [segment for bars in axis.collections for segment in bars.get_segments()]
    return sorted(tuple(segment[:, place]) for segment in segments if np.isfinite(segment).all())


def marks(axis, label):
    """x and y of what is drawn under a label of the legend."""
    (handle,) = (one for one, name in zip(*axis.get_legend_handles_labels(), strict=True) if name == label)
    return np.array(
        getattr(handle, "lines", [handle])[0].get_xydata() if hasattr(handle, "lines") else handle.get_xydata()
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["win_all", "win_consistent", "win_half"])
def test_the_forest_has_every_row_of_table_1_with_the_chosen_estimand_and_its_interval(full, name):
    table = made.table1(full)
    figure = adaptation_plots.forest(table, name)
    drawn = sorted(pair for axis in figure.axes for pair in reaches(axis))
    judged = table[[f"{name}_low", f"{name}_high"]].to_numpy()
    truth = table[["truth_low", "truth_high"]].to_numpy()
    np.testing.assert_allclose(drawn, sorted(map(tuple, np.concatenate([judged, truth]))))
    assert sum(len(axis.get_yticks()) for axis in figure.axes) == len(table)
    assert figure.axes[-1].get_xlabel() == adaptation_plots.AXES[name]
    assert figure.get_figwidth() == COLUMN


def test_rows_that_may_not_be_read_are_hollow_and_say_which_gate_failed():
    table = made.table1()
    figure = adaptation_plots.forest(table)
    said = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert said == [["", "", "", ""], [""], ["clear gap failed"], ["", "", ""]]
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["clean", "hard, mild", "hard, medium", "hard, severe"]
    hollow = [
        handle.lines[0].get_markerfacecolor()
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        if label == "judge Y, not interpretable"
    ]
    assert hollow == ["white"]


def test_the_papers_points_stand_beside_their_own_rows():
    table = made.table1(full=True)
    figure = adaptation_plots.forest(table)
    printed = {}
    for axis in figure.axes:
        names = [label.get_text() for label in axis.get_yticklabels()]
        for value, name in zip(marks(axis, "printed in the paper")[:, 0], names, strict=True):
            if np.isfinite(value):
                printed[axis.get_title(loc="left"), name] = value
    assert len(printed) == 9
    assert printed["hard, severe", "conditioner repair"] == 0.5
    assert printed["hard, mild", "conditioner repair"] == 0.125
    assert ("clean", "conditioner repair") not in printed


def test_the_sweep_shows_judge_truth_and_paper_by_severity_in_order():
    table = made.table2().sample(frac=1, random_state=0)
    figure = severity_plots.sweep(table)
    win, gap, geometry, error = figure.axes
    rows = table[table.kinds == "all"].set_index("severity").loc[["mild", "medium", "severe"]]
    np.testing.assert_allclose(marks(win, "judge Y")[:, 1], rows.win_half)
    np.testing.assert_allclose(marks(gap, "judge Y")[:, 1], rows.headroom)
    np.testing.assert_allclose(marks(gap, "truth")[:, 1], rows.headroom_truth)
    np.testing.assert_allclose(marks(win, "printed in the paper")[:, 1], [0.125, 0.25, 0.5])
    np.testing.assert_allclose(marks(win, "not interpretable")[:, 1], [rows.win_half["medium"]])
    np.testing.assert_allclose(marks(error, "after repair")[:, 1], rows.feature_mse_after)
    assert len(reaches(geometry, horizontal=False)) == 3
    assert [label.get_text() for label in error.get_xticklabels()] == ["mild", "medium", "severe"]


def test_each_degradation_alone_has_a_panel_in_the_tables_order():
    figure = severity_plots.kinds(made.table2())
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["all four together", "crop alone", "occlusion alone", "downscale alone", "blur alone"]
    assert all(len(reaches(axis)) == 6 for axis in figure.axes)


def test_the_wash_out_curves_are_told_apart_by_color_and_line():
    table = made.mechanism()
    figure = mechanism_plots.wash_out(table.sample(frac=1, random_state=1))
    scale, steps = figure.axes
    curves = {(to_rgba(bars.lines[0].get_color()), bars.lines[0].get_linestyle()) for bars in scale.containers}
    assert len(curves) == len(scale.containers) == 6
    assert [label.get_text() for label in steps.get_xticklabels()] == ["2", "4", "8", "25"]
    assert all(np.all(np.diff(bars.lines[0].get_xdata()) > 0) for bars in (*scale.containers, *steps.containers))
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    assert texts == {"latent shift", "occupancy shift", "surface shift", "SFT-on-best", "DPO beta 0.5"}


def test_wash_out_does_without_the_steps_and_with_one_method():
    table = made.mechanism()
    figure = mechanism_plots.wash_out(table[(table.by != "steps") & (table.method != "dpo_0.5")])
    assert len(figure.axes) == 1
    assert len(figure.legends[0].get_texts()) == 3


def test_every_cause_has_its_number_and_interval():
    table = made.mechanism()
    figure = mechanism_plots.causes(table)
    rows = table[table.by == ""]
    drawn = sorted(pair for axis in figure.axes for pair in reaches(axis))
    np.testing.assert_allclose(drawn, sorted(rows[["low", "high"]].itertuples(index=False, name=None)))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:2] == ["wash-out: probe ratio", "saturation: flips"]
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "linear", "log", "linear"]


def test_the_power_curve_marks_the_papers_objects_and_ours():
    figure = power_plots.power({"the paper": 8, "this run": 80})
    texts = [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]
    assert texts[:2] == [
        f"{name}: {power_above(n, 0.65):.2f}" for name, n in (("the paper, n = 8", 8), ("this run, n = 80", 80))
    ]
    assert texts[2] == "80% first at n = 69, for good from 76"
    curve = marks(figure.axes[1], "the paper, n = 8")
    np.testing.assert_allclose(curve[:, 1], power_above(8, curve[:, 0]))


def test_the_gallery_says_what_was_answered_and_what_is_true():
    entries = made.entries()
    figure = gallery.figure(entries, "a statement")
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert len(figure.axes) == 9
    assert labels[6:] == [
        "B first: A, p(B) = 0.20\ntruly better: A",
        "B first: B, p(B) = 0.60\ntruly equal",
        "B first: B, p(B) = 0.80\ntruth not known",
    ]
    assert [figure.axes[index].get_ylabel() for index in (0, 3, 6)] == ["photo", "A, adapted", "B, base"]


def test_judged_pairs_carry_the_judges_answers_the_truth_and_their_row_of_table_1(tmp_path):
    def request(name, shade):
        item = SimpleNamespace(item=SimpleNamespace(id=name))
        return SimpleNamespace(subject=item, photo=lambda: Image.new("RGB", (4, 4), "red"), shade=shade)

    names = ["chair", "sofa", "lamp"]
    seen = []
    study = SimpleNamespace(
        settings=SimpleNamespace(tables_dir=tmp_path / "tables"),
        sampler=SimpleNamespace(
            provide=seen.extend,
            shown=lambda one: [np.full((4, 4, 3), one.shade, np.uint8)],
            key=lambda one: f"{one.subject.item.id}-{one.shade}",
        ),
        adapted=lambda cell: [request(name, 200) for name in names],
        base=lambda severity, kinds: [request(name, 100) for name in names],
    )
    cells = [Cell("orpo"), Cell("conditioner_repair", "severe"), Cell("dro")]
    rows = [(cell.name, name) for cell in cells for name in names]
    answers = pd.DataFrame(rows, columns=["case", "object"])
    answers = answers.assign(outcome=["win", "loss", "flip"] * 3, p_ab=np.linspace(0.2, 1, 9), p_ba=0.25)
    truth = answers[["case", "object"]].assign(f_score_a=[0.5, 0.2, np.nan] * 3, f_score_b=[0.5, 0.3, 0.1] * 3)
    gallery.keep(study, cells, answers.sample(frac=1, random_state=0), truth, "table1", 3)
    entries = gallery.load(study.settings)
    assert len(seen) == 12  # the third cell is not the paper's
    assert [one.truth for one in entries] == ["equal", "B", ""] * 2
    assert [one.verdict for one in entries] == ["win", "loss", "flip"] * 2
    assert [one.p_ab for one in entries] == pytest.approx(list(answers.p_ab[:6]))
    assert [one.row for one in entries] == ["ORPO, clean"] * 3 + ["conditioner repair, hard, severe"] * 3
    assert (entries[0].a.max(), entries[0].b.max(), entries[0].photo[0, 0, 0]) == (200, 100, 255)
    del study.sampler.shown
    gallery.keep(study, cells, answers.assign(outcome="flip"), truth, "table1", 1)
    again = gallery.load(study.settings)
    assert [one.verdict for one in again] == ["flip", "flip"]
    assert np.array_equal(again[1].a, entries[3].a)
    assert len(seen) == 12  # their pictures were there


def test_pairs_that_are_kept_come_back_and_repeat_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.profiles.ROOT", tmp_path)
    settings = made.SMOKE
    assert gallery.load(settings) == []
    entries = made.entries()
    entries[1] = gallery.Entry("lamp", None, entries[1].a, entries[1].b, "ORPO, clean", "flip", 0.7, 0.6, "equal")
    gallery.save(entries, "04_clean", settings)
    (path,) = gallery.folder(settings).iterdir()
    first = path.read_bytes()
    gallery.save(entries, "04_clean", settings)
    assert path.read_bytes() == first
    for before, after in zip(entries, gallery.load(settings), strict=True):
        assert [getattr(before, name) for name in gallery.FACTS] == [getattr(after, name) for name in gallery.FACTS]
        np.testing.assert_array_equal(before.a, after.a)
        assert (before.photo is None) == (after.photo is None)


def test_a_figures_pairs_show_every_verdict_and_then_every_row():
    win, flip, loss = made.entries()
    assert gallery.choose([win, win, flip, loss], 5) == [win, flip, loss]
    assert gallery.choose([loss, loss, flip, win], 2) == [loss, flip]
    more = [gallery.Entry(f"o{index}", None, win.a, win.b, f"row {index}", "win", 0.9, 0.1) for index in range(6)]
    assert gallery.choose([*more, loss]) == [more[0], more[1], more[2], more[3], loss]
    assert gallery.choose([]) == []
