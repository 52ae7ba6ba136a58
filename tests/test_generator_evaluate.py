"""The generator's examination, and notebook A1 from nothing to its table and card."""

from functools import lru_cache

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import trimesh
from test_generator_train import tiny

from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.generator import evaluate, examine, figures, recipe, severity, train
from lib.generator.examine import Cost, Examined
from lib.judges.training.recipes import RECIPES
from lib.profiles import ROOT, Profile
from lib.study.lessons import FIRST as TAUGHT
from lib.training import Budget
from lib.trellis.pipeline import load_pipeline

NOTEBOOK = ROOT / "notebooks" / "A1_train_mini_generator.ipynb"
RUNS = ["clean", "mild", "medium", "severe", "other", "other seed", "large", "small"]


def thinned(decoder):
    """Few of the 4,096 cells are occupied, whatever the latent."""
    noise = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoder.out_layer[-1].bias -= decoder(noise).quantile(0.98)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A generator of random weights."""
    folder, small = tmp_path_factory.mktemp("generator"), tiny(Budget(steps=0))
    networks = train.build_networks(small)
    thinned(networks["sparse_structure_decoder"])
    for role, network in networks.items():
        train.save_network(network, role, folder)
    (folder / "slat_normalization.json").write_text(
        '{"mean": [0, 0, 0, 0, 0, 0, 0, 0], "std": [1, 1, 1, 1, 1, 1, 1, 1]}'
    )
    train.write_pipeline(small, folder, folder)
    return folder


@pytest.fixture(scope="module")
def examined(folder, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    return scratch, examine.examine_all(folder, [0, 3], 7, scratch, workers=1)


def test_an_examination_tells_everything_of_every_run(examined):
    for one, index in zip(examined[1], (0, 3), strict=True):
        assert one.index == index
        assert one.category == furniture("test", index).category
        assert list(one.meshes) == ["clean", "severe"]
        assert set(one.photos) == {"clean", "mild", "medium", "severe", "other"}
        shares = {name: value for name, value in one.values.items() if not name.endswith("color")}
        assert all(0 <= value <= 1 for value in shares.values())
        assert {f"{what}, {run}" for what in ("IoU", "F", "share") for run in RUNS} < set(one.values)
        # these weights do not look at the photo, but at the seed
        assert one.values["F, clean"] == one.values["F, severe"] != one.values["F, other seed"]


def test_what_was_examined_is_read_again_and_depends_on_nothing_else(folder, examined, monkeypatch):
    scratch, (_, second) = examined
    monkeypatch.setattr("lib.generator.examine.generator", None)
    (again,) = examine.examine_all(folder, [3], 7, scratch, workers=1)
    assert again.values == second.values
    with pytest.raises(TypeError):  # another seed is another examination
        examine.examine_all(folder, [3], 8, scratch, workers=1)
    monkeypatch.setitem(examine.SEVERITIES, "mild", 0.3)
    with pytest.raises(TypeError):  # and so is another severity
        examine.examine_all(folder, [3], 7, scratch, workers=1)


def test_a_folder_without_a_generator_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"pipeline\.json"):
        examine.examine_all(tmp_path, [0], 0, tmp_path)


def test_other_weights_are_another_generator(folder):
    before = examine.folder_digest(folder)
    path = folder / "ckpts" / "slat_flow_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    after = examine.folder_digest(folder)
    path.write_bytes(content)
    assert after != before == examine.folder_digest(folder)


def test_the_same_call_makes_the_same_mesh_and_its_cost_is_measured(folder, examined):
    first, second = examine.cost(folder, [0, 3], 7)  # in two other processes
    assert first.digests | second.digests == {one.index: one.digest for one in examined[1]}
    for spent in (first, second):
        assert len(spent.digests) == len(spent.seconds) == 1
        assert spent.seconds[0] > 0
        assert 0.1 < spent.memory < 10


def test_the_largest_component_is_measured_by_area():
    small, large = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 2))
    large.apply_translation((3, 0, 0))
    both = trimesh.util.concatenate([small, large])
    assert examine.largest_share(both) == pytest.approx(10 / 16)
    assert examine.largest_share(large) == 1
    assert examine.largest_share(None) == 0


def made(index, mesh=None, **values):
    """An object whose examination went perfectly but for `values`."""
    good = {f"{what}, {run}": 0.9 for what in ("IoU", "F", "share") for run in RUNS}
    good |= {"F, medium": 0.8, "F, severe": 0.7, "F, other": 0.2, "F, small": 0.3, "F between seeds": 0.9}
    good |= {"F, mild": 0.85, "IoU, other": 0.1, "reconstruction, F": 0.99, "reconstruction, color": 0.01}
    good |= {"Gaussians, silhouette": 0.9, "Gaussians, color": 0.05}
    item = furniture("test", index)
    return Examined(index, item.category, good | values, {"clean": mesh}, {}, f"mesh {index}")


def table(seconds=1.0, right=8, **values):
    """Summary of eight objects, of which so many were of the right category."""
    costs = [Cost([seconds] * 2, 1.0, {i: f"mesh {i}" for i in range(start, 4, 2)}) for start in range(2)]
    frame = evaluate.summarize([made(i, **values) for i in range(8)], [i < right for i in range(8)], costs, 0)
    assert list(frame) == ["metric", "value", "low", "high", "n", "bar", "met"]
    return frame.set_index("metric")


def test_a_perfect_generator_meets_every_bar_and_a_bad_one_misses_its_own():
    good = table()
    barred = good[good.bar != ""]
    assert (barred.met == "yes").all()
    assert len(barred) == 17
    assert (good[good.bar == ""].met == "").all()
    worse = {
        "structure IoU at 16^3": {"IoU, clean": 0.59},
        "reconstruction: F-score at 2%": {"reconstruction, F": 0.97},
        "reconstruction: color L1": {"reconstruction, color": 0.04},
        "generated mesh: median F-score at 2%": {
            "F, clean": 0.59,
            "F, severe": 0.5,
            "F, medium": 0.55,
            "F, mild": 0.58,
        },
        "generated mesh: median share of the largest component": {"share, clean": 0.8},
        "category by nearest test object": {"right": 7},
        "25 steps with guidance beat 2 without": {"F, small": 0.95},
        "clean photo beats severe": {"F, clean": 0.65},
        "mean loss (1 - F), medium photo": {"F, medium": 0.86},
        "mean loss (1 - F), photo of another object": {"F, other": 0.75},
        "mean F-score between two seeds": {"F between seeds": 0.98},
        "mean F-score, second seed less first": {"F, other seed": 0.95},
        "photo to mesh, one core, median seconds": {"seconds": 2.1},
    }
    for metric, values in worse.items():
        assert table(**values).met[metric] == "no", metric


def test_the_category_is_that_of_the_nearest_object():
    meshes = [furniture("test", i).mesh for i in range(4)]
    assert evaluate.recognized([made(i, mesh) for i, mesh in enumerate(meshes)], 0) == [True] * 4
    shifted = [made(0, meshes[1]), made(1, meshes[0]), made(2, meshes[2]), made(3)]
    assert evaluate.recognized(shifted, 0) == [False, False, True, False]


def test_another_mesh_on_repeat_is_found():
    costs = [Cost([1.0], 1.0, {0: "mesh 0"}), Cost([1.0], 1.0, {1: "another"})]
    frame = evaluate.summarize([made(i) for i in range(4)], [True] * 4, costs, 0)
    row = frame.set_index("metric").loc["identical mesh on repeat"]
    assert (row.value, row.n, row.met) == (0.5, 2, "no")


def test_intervals_hold_the_value_and_do_not_change():
    values = np.random.default_rng(0).random(40)
    first, second = (evaluate.resampled(values, np.median, 3) for _ in range(2))
    assert first == second
    assert first.low < first.value == np.median(values) < first.high


def test_the_gallery_shows_an_object_that_became_nothing(examined):
    one = examined[1][0]
    empty = Examined(one.index, one.category, one.values, {**one.meshes, "severe": None}, one.photos)
    true = [furniture("test", 0).mesh] * 2
    figure = figures.gallery([one, empty], true, 32)
    assert len(figure.axes) == 2 * len(figures.COLUMNS)
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    assert (pictures[10] == 255).all()
    assert not (pictures[4] == 255).all()


@lru_cache
def few_cells(folder, weights, device):
    """The pipeline of a generator that has learned nothing, not even where objects are not."""
    pipeline = load_pipeline(folder)
    thinned(pipeline.models["sparse_structure_decoder"])
    return pipeline


def test_the_notebook_goes_from_nothing_to_a_generator_with_a_card_and_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "RECIPE", tiny(Budget(steps=2)))
    monkeypatch.setattr("lib.generator.structure.SAMPLED", 2)
    monkeypatch.setattr(examine, "generator", few_cells)
    monkeypatch.setattr(examine, "cost", lambda *asked: [examine._cost(*asked)])  # other processes have all the cells
    for name in ("tables_dir", "figures_dir"):
        monkeypatch.setattr(Profile, name, tmp_path / name)
    code = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    space = {"display": lambda figure: None}
    for cell in code:
        exec(cell.source, space)
        if "parameters" in cell.metadata.get("tags", []):
            space |= {"profile": "smoke", "weights": str(tmp_path / "trellis"), "objects": 16, "device": "cpu"}
            space |= {"workers": 1, "n_objects": 2, "n_timed": 2, "n_severity": 2, "gaussians_minutes": 0.01}
    frame = pd.read_csv(tmp_path / "tables_dir" / "A1_generator.csv")
    assert list(frame) == ["metric", "value", "low", "high", "n", "bar", "met"]
    assert frame.met.isin(["yes", "no"]).sum() == 17
    text = (tmp_path / "trellis" / "README.md").read_text()
    assert "evidence about the real model" in text
    assert "stage slat vae" in text
    assert "structure IoU" in text
    assert len(list((tmp_path / "figures_dir").glob("*.png"))) == 3


def test_severities_are_where_the_loss_has_gone_its_share_of_the_way():
    loss = [0.2, 0.2, 0.3, 0.28, 0.48, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.8]
    curve = pd.DataFrame({"severity": [*severity.GRID, severity.OTHER], "loss": loss})
    found = severity.named_severities(curve)
    wanted = {name: 0.2 + share * 0.6 for name, share in severity.REACHED.items()}
    assert wanted == pytest.approx({"mild": 0.32, "medium": 0.47, "severe": 0.62})
    assert found == {"mild": 0.3, "medium": 0.4, "severe": 0.5}, "0.28 after 0.3 is chance"


def test_severity_objects_are_no_ones_training_objects_and_no_test_objects():
    firsts = sorted([*(one.first for one in RECIPES.values()), TAUGHT, severity.FIRST])
    assert np.diff(firsts).min() >= 900_000
