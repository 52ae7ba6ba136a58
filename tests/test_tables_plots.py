from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.study.plots import COLUMN, save_figure
from lib.study.published import load_published, proportions
from lib.study.published_plots import forest, power_curve
from lib.study.tables import replacing, write_table


@pytest.fixture
def settings(tmp_path):
    return SimpleNamespace(tables_dir=tmp_path / "tables", figures_dir=tmp_path / "figures")


FRAME = pd.DataFrame(
    {
        "item": ["a", "b", "c"],
        "k": pd.array([4, None, 12345], dtype="Int64"),
        "p": [2 / 3, np.nan, 1.5e-9],
        "large": [123456.7, 0.0, 1.0],
        "good": [True, False, True],
    }
)


def test_csv_keeps_the_digits_and_markdown_rounds_for_reading(settings):
    assert write_table(FRAME, "t", settings, "A caption.") is FRAME
    csv = (settings.tables_dir / "t.csv").read_text()
    assert csv.splitlines()[:3] == ["item,k,p,large,good", "a,4,0.666666666667,123456.7,True", "b,,,0,False"]
    pd.testing.assert_frame_equal(pd.read_csv(settings.tables_dir / "t.csv", dtype={"k": "Int64"}), FRAME, rtol=1e-11)
    lines = (settings.tables_dir / "t.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert cells == [
        ["a", "4", "0.667", "123457", "True"],
        ["b", "", "", "0", "False"],
        ["c", "12345", "1.5e-09", "1", "True"],
    ]
    assert lines[-1] == "A caption."


def test_tables_repeat_byte_for_byte(settings):
    first = {}
    for _ in range(2):
        write_table(FRAME, "t", settings)
        again = {path.name: path.read_bytes() for path in settings.tables_dir.iterdir()}
        assert not first or first == again
        first = again
    assert set(first) == {"t.csv", "t.md"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with replacing(path) as partial:
        partial.write_text("old")
    with pytest.raises(TypeError), replacing(path) as partial, partial.open("w") as file:
        file.writelines(["half", None])
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def drawing():
    figure, axis = plt.subplots(figsize=(COLUMN, 2))
    axis.plot([1, 2], [1, 3], marker="o", label="line")
    axis.legend()
    return figure


def test_figures_are_png_and_svg_of_the_stated_size_and_repeat_byte_for_byte(settings):
    first = {}
    for _ in range(2):
        figure = drawing()
        assert save_figure(figure, "f", settings) is figure
        assert not plt.fignum_exists(figure.number)
        again = {path.name: path.read_bytes() for path in settings.figures_dir.iterdir()}
        assert not first or first == again
        first = again
    assert set(first) == {"f.png", "f.svg"}
    assert Image.open(settings.figures_dir / "f.png").size == (680, 400)
    assert b"<dc:date>" not in first["f.svg"]


def test_the_layout_is_fixed_before_it_is_saved_so_that_the_solvers_last_digits_do_not_show(settings):
    figure, axes = plt.subplots(1, 3, layout="constrained")
    axes[1].set_ylabel("pushes its neighbors")
    save_figure(figure, "f", settings)
    places = np.array([axis.get_position(original=True).bounds for axis in axes])
    np.testing.assert_allclose(places, places.round(5), atol=1e-12)
    assert places[1, 0] - places[0, 0] > places[2, 0] - places[1, 0] + 0.01


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_forest_names_every_share_and_draws_an_interval_for_each_that_has_one():
    shares = proportions(load_published())
    figure = forest(shares, 0.9)
    labels = [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    assert labels == shares["item"].tolist()
    drawn = [
        segment
        for axis in figure.axes
        for bars in axis.collections
        for segment in bars.get_segments()
        if len(segment) and np.isfinite(segment).all()
    ]
    ends = sorted((segment[0][0], segment[1][0]) for segment in drawn)
    expected = sorted(shares.dropna(subset=["low"])[["low", "high"]].itertuples(index=False, name=None))
    np.testing.assert_allclose(ends, expected)
    assert "4/8" in texts(figure)
    assert any("90%" in text.get_text() for text in figure.legends[0].get_texts())
    plt.close(figure)


def test_power_curve_marks_the_paper_and_the_needed_sizes():
    figure = power_curve(8)
    assert [text.replace("\n", " ") for text in texts(figure)] == [
        "n = 8: 0.17",
        "80% first at n = 69, for good from 76",
        "n = 8: 0.00",
        "80% first at n = 96, for good from 100",
    ]
    plt.close(figure)
    wide = power_curve(300, margin=0.1)
    assert wide.axes[0].get_xlim()[1] > 300
    plt.close(wide)


def test_nothing_is_drawn_over_something_else_on_the_forest():
    """Labels of rows, the k/n beside them and the titles keep apart, as a reader sees them."""
    figure = forest(proportions(load_published()))
    figure.draw_without_rendering()
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in (*axis.get_yticklabels(), *axis.texts, axis._left_title)]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    plt.close(figure)
