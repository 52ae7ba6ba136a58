"""The miniature judges' training, at a size that trains nothing useful but takes every step."""

from dataclasses import replace
from functools import partial

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import trimesh
from trimesh.util import concatenate

from lib.data.compare import mesh_error
from lib.data.corrupt import corrupt
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.judges.mini import Size, save_mini
from lib.judges.training import card, cases, figures, samples
from lib.judges.training.collection import Collection
from lib.judges.training.evaluate import BARS
from lib.judges.training.language import Features, LanguageLoss, Live
from lib.judges.training.layers import NOTHING, Layers, eight_bit_depth
from lib.judges.training.questions import draw
from lib.judges.training.recipes import KINDS, RECIPES
from lib.judges.training.tower import Heads, TowerLoss
from lib.judges.training.train import Plan, halves, train_judge
from lib.judges.training.truth import mirrored_montage, preference, turned_montage, view_error
from lib.judges.training.variety import bent, fine_parts
from lib.judges.vlm import VLMJudge
from lib.profiles import ROOT, Profile
from lib.renderers.cameras import judge_views
from lib.renderers.montage import grid, judge_montage
from lib.renderers.raycast import normal_images, render
from lib.shards import write_shards
from lib.training import Budget, _optimizers, fit

NOTEBOOK = ROOT / "notebooks" / "A2_train_mini_judges.ipynb"
TINY = Size(hidden=32, vision_layers=1, text_layers=1, heads=2, mlp=32, init=0.06)
X, Y = RECIPES["judge_x"], RECIPES["judge_y"]
CHEAP = replace(X, mix=(3, 3, 3, 0, 3, 0, 0, 0))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The data of 48 objects with five candidates each: every layout is among them, and objects shown once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "SHOWN_TWICE", 40)
        patch.setattr(samples, "CANDIDATES", 5)
        patch.setattr(samples, "SPLATS", 500)
        yield write_shards(partial(samples.sample, CHEAP), tmp_path_factory.mktemp("scratch") / "data", 48, workers=1)


@pytest.fixture(scope="module")
def data(shards):
    return Collection.read(CHEAP, shards)


def montage(mesh):
    """A mesh's normals and depth as the training data has them."""
    seen = render(mesh, judge_views(), 56)
    depth = eight_bit_depth(seen.depth, judge_views()[0])
    return [torch.from_numpy(grid(x).copy())[None] for x in (normal_images(seen), depth[..., None])]


def error_of(candidate, truth):
    (a, depth_a), (b, depth_b) = montage(candidate), montage(truth)
    return view_error(a, depth_a[..., 0], b, depth_b[..., 0]).item()


def test_layers_show_what_a_render_of_the_remaining_faces_shows():
    mesh = furniture("train", 1).mesh
    keep = np.random.default_rng(0).random(len(mesh.faces)) < 0.6
    color, depth = Layers(mesh, judge_views(), 56).views(keep)
    left = mesh.copy()
    left.update_faces(keep)
    seen = render(left, judge_views(), 56)
    assert ((depth != NOTHING) == seen.mask).mean() > 0.999
    assert (color == normal_images(seen))[seen.mask].all(-1).mean() > 0.98  # faces in one plane may take turns
    assert (color == normal_images(render(mesh, judge_views(), 56)))[seen.mask].all(-1).mean() < 0.9


def test_a_training_object_is_a_function_of_its_index_and_starts_with_the_intact_mesh(shards, data):
    again = np.load(write_shards(partial(samples.sample, CHEAP), shards[0].parent.parent / "again", 8, workers=1)[0])
    first = np.load(shards[0])
    assert all((first[name] == again[name]).all() for name in first.files)
    assert (data.kinds[:, 0] == KINDS.index("intact")).all()
    assert (data.kinds[:, 1:] != KINDS.index("intact")).all()
    assert data.photo.shape[1] == samples.PHOTOS
    assert (data.photo[:, 0] != data.photo[:, 1]).any(-1).any(-1).any(-1).all()


def test_the_first_objects_are_shown_in_another_layout_too_and_the_others_once(data):
    assert [len(images) for images in data.extra] == [5] * 32 + [4] * 8 + [0] * 8
    assert data.extra_layout[::8].tolist() == [0, 0, 1, 1, 2, -1]
    assert all(len(data.having(layout)[0]) in (8, 16) for layout in samples.EXTRA)
    few, many = samples.thinned(X.chances), X.chances
    assert sum(few.values()) == pytest.approx(1)
    assert few["smooth"] / few["floaters"] == pytest.approx(many["smooth"] / many["floaters"] / 3)
    assert list(few) == list(many)


def test_every_other_eight_objects_are_bent_by_less_than_damage_and_stay_in_the_box(data):
    plain, turned = (judge_montage(furniture("train", X.first + i).mesh, 56) for i in (3, 11))
    assert (data.normals[3, 0].numpy() == plain).all(-1).mean() > 0.98
    assert (data.normals[11, 0].numpy() == turned).all(-1).mean() < 0.9
    item = furniture("train", X.first + 11)
    parts = fine_parts(item, 0.03)
    whole, curved = concatenate(parts), concatenate(bent(parts, np.random.default_rng(0)))
    assert (whole.vertices == concatenate(fine_parts(item, 0.03)).vertices).all()  # the given parts are left alone
    assert curved.extents.max() == pytest.approx(1, abs=0.01)
    assert np.abs(curved.bounds).max() == pytest.approx(0.5, abs=0.01)
    moved = np.abs(curved.vertices[: len(whole.vertices)] - whole.vertices)
    assert 0.005 < moved.mean() < 0.15


def test_what_is_there_is_not_made_again(shards):
    assert write_shards(None, shards[0].parent, 48, workers=1) == shards


def test_the_two_judges_share_neither_seed_nor_objects_nor_mix_nor_labels():
    assert X.seed != Y.seed
    assert abs(X.first - Y.first) >= 1_000_000
    assert X.mix != Y.mix
    assert X.charge != Y.charge
    assert X.build(TINY)[0].config.model_type != Y.build(TINY)[0].config.model_type


def test_the_error_is_the_view_error_where_depth_agrees_and_0_for_the_intact(data):
    intact = furniture("train", 0).mesh
    worse = corrupt(intact, "noise", 0.6, 0).mesh
    assert error_of(intact, intact) < 1e-3
    assert error_of(worse, intact) == pytest.approx(mesh_error(intact, worse, n_points=9, size=56).view, abs=0.06)
    assert data.error[:, 0].abs().max() < 1e-2
    assert (data.error[:, 1:] > data.error[:, :1]).all()


def test_the_depth_reveals_a_surface_that_is_gone_before_one_that_looks_alike():
    front, back = (furniture("train", 8).mesh.copy() for _ in range(2))
    back.vertices[:, 1] += 0.1
    assert error_of(back, front) > mesh_error(front, back, n_points=9, size=56).view + 0.02


def test_a_mirrored_montage_is_the_montage_of_the_mirrored_mesh():
    mesh = furniture("train", 3).mesh
    twin = mesh.copy()
    twin.vertices = mesh.vertices * [-1, 1, 1]
    twin.faces = mesh.faces[:, ::-1]
    expected = judge_montage(twin, 56).astype(int)
    got = mirrored_montage(torch.from_numpy(judge_montage(mesh, 56)), True).numpy()
    drawn = (expected < 255).any(-1)
    assert (np.abs(got - expected).max(-1) <= 1)[drawn].mean() > 0.99
    assert (np.abs(judge_montage(mesh, 56) - expected).max(-1) <= 1)[drawn].mean() < 0.9


def test_a_turned_montage_is_the_montage_of_the_turned_mesh(data):
    mesh = furniture("train", 3).mesh
    turned = mesh.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [0, 0, 1]))
    montages = [torch.from_numpy(judge_montage(one, 56)) for one in (mesh, turned)]
    assert (turned_montage(montages[0], 1) == montages[1]).all(-1).float().mean() > 0.98
    assert (montages[0] == montages[1]).all(-1).float().mean() < 0.9
    item, candidate = torch.tensor([3, 11]), torch.tensor([1, 2])
    shown, damage = data.images("montage", item, candidate, False, 3)[:, 0], data.damage(item, candidate, False, 3)
    assert torch.equal(turned_montage(shown, 1), data.normals[item, candidate])
    assert torch.equal(turned_montage(damage, 1), data.damage(item, candidate, False))


def test_only_montages_without_a_photo_are_turned_and_every_photo_is_shown(data):
    asked = [draw(data, 16, np.random.default_rng(step)) for step in range(60)]
    quarters = {name: {a.quarter for a in asked if a.prompt.layout.name == name} for name in ("montage", "montage_ref")}
    assert quarters == {"montage": {0, 1, 2, 3}, "montage_ref": {0}}
    assert {a.quarter for a in (draw(data, 16, np.random.default_rng(step), 1) for step in range(60))} == {0}
    assert set(torch.cat([a.photo for a in asked]).tolist()) == set(range(samples.PHOTOS))


def test_questions_charge_what_is_not_the_photos_object_and_only_where_there_is_a_photo(data):
    with_photo, without, identical = [], [], 0
    for step in range(200):
        asked = draw(data, 16, np.random.default_rng(step))
        wrong = asked.of != asked.item
        same = (asked.of[0] == asked.of[1]) & (asked.which[0] == asked.which[1])
        identical += int(same.sum())
        assert torch.equal(asked.error[0, same], asked.error[1, same])
        own = data.error[asked.of, asked.which]
        assert torch.equal(asked.error[~wrong], own[~wrong])
        (with_photo if asked.prompt.layout.photo else without).append((asked.error - own)[wrong])
    assert torch.cat(with_photo).min() > 0
    assert torch.cat(without).abs().max() == 0
    assert identical > 0


def test_the_better_one_is_preferred_and_equals_are_a_coin_toss():
    a, b = torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0.3, 0.1, 0.2])
    assert preference(a, b)[0] > 0.9
    assert preference(a, b)[2] == 0.5
    assert torch.allclose(preference(a, b) + preference(b, a), torch.ones(3))


def fresh(data, stage, recipe=CHEAP):
    """Everything that a stage's training needs, untrained."""
    model, processor = recipe.build(TINY)
    model.set_attn_implementation("eager")
    vision, language = halves(model)
    torch.manual_seed(0)
    if stage == "tower":
        heads = Heads(32)
        return torch.nn.ModuleDict({"vision": vision, "heads": heads}), TowerLoss(model, processor, heads, data, 5)
    readout = torch.nn.Linear(32, 5)
    if stage == "together":
        loss = LanguageLoss(model, processor, readout, data, Live(model, processor, data), (5, 3))
        return torch.nn.ModuleDict({"model": model, "readout": readout}), loss
    loss = LanguageLoss(model, processor, readout, data, Features(model, processor, data), (5, 2))
    return torch.nn.ModuleDict({"language": language, "readout": readout}), loss


@pytest.mark.parametrize("stage", ["tower", "language", "together"])
def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(data, stage, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.training.SAVE", 0)
    monkeypatch.setattr("lib.training.MATRIX", 16)  # so that both optimizers have something to do
    whole, loss = fresh(data, stage)
    start = {name: weight.clone() for name, weight in whole.state_dict().items()}
    curve = fit(whole, loss, Budget(steps=6), tmp_path / "whole.pt")
    halves, loss = fresh(data, stage)

    def killed(step):
        if step == 3:
            raise KeyboardInterrupt
        return loss(step)

    with pytest.raises(KeyboardInterrupt):
        fit(halves, killed, Budget(steps=6), tmp_path / "halves.pt")
    again, loss = fresh(data, stage)
    resumed = fit(again, loss, Budget(steps=6), tmp_path / "halves.pt")
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in whole.state_dict().items())
    assert any(not torch.equal(weight, start[name]) for name, weight in whole.state_dict().items())
    assert resumed.step.tolist() == curve.step.tolist()


def test_matrices_are_muons_and_the_rest_is_adams():
    parts = torch.nn.ModuleDict(
        {
            "wide": torch.nn.Linear(64, 64),
            "read-out": torch.nn.Linear(64, 5),
            "words": torch.nn.Embedding(70, 64),
            "head": torch.nn.Linear(64, 70, bias=False),
        }
    )
    parts["head"].weight = parts["words"].weight
    adam, muon = _optimizers(parts, 1e-3, 0)
    assert [id(weight) for weight in muon.param_groups[0]["params"]] == [id(parts["wide"].weight)]
    assert len(adam.param_groups[0]["params"]) == 4


def test_training_ends_after_its_minutes(tmp_path):
    part = torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)})
    curve = fit(part, lambda step: (part["one"].weight.sum(), {}), Budget(minutes=0.002), tmp_path / "one.pt")
    assert 0 < curve.seconds.max() < 2


@pytest.mark.parametrize("recipe", [CHEAP, replace(Y, mix=CHEAP.mix)], ids=["qwen", "internvl"])
def test_a_few_steps_lower_every_loss_of_every_stage(data, recipe, tmp_path):
    told = ["answer", "read-out", "end"]
    for stage, names in (("tower", ["damage", "quality"]), ("language", told), ("together", told)):
        parts, loss = fresh(data, stage, recipe)
        with torch.no_grad():
            before = pd.DataFrame([loss(step)[1] for step in range(8)])[names].mean()
        fit(parts, loss, Budget(steps=30), tmp_path / f"{stage}.pt")
        with torch.no_grad():
            after = pd.DataFrame([loss(step)[1] for step in range(8)])[names].mean()
        assert (after < before).all(), pd.DataFrame({"before": before, "after": after})


def test_the_notebook_goes_from_nothing_to_a_judge_with_a_card_and_its_table(shards, tmp_path, monkeypatch):
    for name in ("GRADED", "SHOWN"):
        monkeypatch.setattr(cases, name, 2)
    monkeypatch.setattr("lib.judges.known.corrupt", lambda mesh, kind, *how: corrupt(mesh, "floaters", *how))
    for name in ("tables_dir", "figures_dir"):
        monkeypatch.setattr(Profile, name, tmp_path / name)
    monkeypatch.setitem(RECIPES, "judge_x", replace(CHEAP, family=lambda seed, size: X.family(seed, TINY)))
    (tmp_path / "training" / "judge_x").mkdir(parents=True)
    (tmp_path / "training" / "judge_x" / "data").symlink_to(shards[0].parent)
    code = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    space = {"display": lambda figure: None}
    for cell in code:
        exec(cell.source, space)
        if "parameters" in cell.metadata.get("tags", []):
            space |= {"profile": "smoke", "judges": "judge_x", "weights": str(tmp_path / "mini"), "furniture": "none"}
            space |= {
                "objects": 48,
                "test_objects": 16,
                "tower_minutes": 0.02,
                "language_minutes": 0.02,
                "together_minutes": 0.02,
            }
            space |= {"workers": 1, "device": "cpu"}
    table = pd.read_csv(tmp_path / "tables_dir" / "A2_judges.csv")
    assert list(table) == ["judge", "layout", "case", "n", "raw", "flips", "consistent", "low", "high", "bar"]
    absent = set(BARS) - set(zip(table.layout, table.case, strict=True))
    assert absent <= {(layout, case) for layout, case in BARS if "real" in case or ".1 to .2" in case}
    assert table[table.case == "identical images"].flips.item() == 1
    assert ((table.low <= table.raw) & (table.raw <= table.high)).all()
    text = (tmp_path / "mini" / "judge_x" / "README.md").read_text()
    assert "evidence about real models" in text
    assert "montage_ref" in text
    assert len(list((tmp_path / "figures_dir").glob("*.png"))) == 2


def test_training_can_begin_with_the_weights_of_a_shipped_judge(shards, tmp_path):
    (tmp_path / "data").symlink_to(shards[0].parent)
    save_mini(tmp_path / "first", *CHEAP.build(TINY))
    still = Plan(48, Budget(minutes=0), Budget(steps=0), Budget(minutes=1e-9))  # one stage, and of it not one step
    start = tmp_path / "first", "cpu", 1, TINY
    assert train_judge(replace(CHEAP, seed=99), still, tmp_path, tmp_path / "second", *start).empty
    assert [path.name for path in tmp_path.glob("*.pt")] == ["together.pt"]
    first, second = (VLMJudge(tmp_path / name).model.state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_curves_have_a_panel_for_each_stage_that_was_trained():
    told = {"step": [0, 10], "seconds": [0.0, 60.0], **{loss: [1.0, 0.5] for loss in figures.TOLD}}
    for stages in (["together"], ["language", "together"]):
        table = pd.concat(pd.DataFrame(told).assign(stage=stage, judge="judge_y") for stage in stages)
        titles = [axis.get_title() for axis in figures.curves(table).axes]
        assert titles == [f"judge_y, {stage}" for stage in stages]


def test_a_training_without_a_stage_is_refused_before_it_makes_data(tmp_path):
    with pytest.raises(BadInput, match=r"judge_x.*every stage is left out"):
        train_judge(X, Plan(8, *[Budget(minutes=0)] * 3), tmp_path / "scratch", tmp_path / "weights")
    assert not (tmp_path / "scratch").exists()


def test_a_card_tells_what_the_weights_were_that_training_began_with(tmp_path):
    plan, curves = Plan(8, *[Budget(steps=1)] * 3), pd.DataFrame({"stage": ["tower"], "step": [9], "seconds": [120.0]})
    folders = [tmp_path / name for name in ("first", "second", "unknown")]
    for folder in folders:
        folder.mkdir()
    card.write_training_facts(folders[0], X, plan, curves, None)
    card.write_training_facts(folders[1], X, plan, curves, folders[0])
    told = pd.read_csv(folders[1] / "training.csv", index_col="fact").value["began from"]
    assert told.startswith("weights trained on 8 of the procedural training split")
    assert told.endswith("(stage tower 10 steps, 2 minutes), which began from random weights")
    card.write_training_facts(folders[1], X, plan, curves, folders[2])
    assert pd.read_csv(folders[1] / "training.csv", index_col="fact").value["began from"] == "the weights in unknown"


def test_a_number_of_test_objects_that_leaves_no_other_of_the_category_is_refused(tmp_path):
    for count in (8, 20):
        with pytest.raises(BadInput, match="test_objects"):
            cases.procedural_cases(0, count, 0, 28, 300, tmp_path)
