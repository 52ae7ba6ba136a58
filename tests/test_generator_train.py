"""The whole way from nothing to a generator's folder, at a size that learns nothing but takes every step."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lib.data.photos import render_photo
from lib.data.procedural import furniture
from lib.generator import train
from lib.generator.recipe import RECIPE, Recipe
from lib.training import Budget, fit, outdated
from lib.trellis.checkpoints import build_model
from lib.trellis.pipeline import load_pipeline

WIDTH = 32
NARROW = {"model_channels": WIDTH, "num_blocks": 1, "num_heads": 2}
CHANGED = {
    "sparse_structure_encoder": {"channels": [8, 16]},
    "sparse_structure_decoder": {"channels": [16, 8]},
    "sparse_structure_flow_model": NARROW | {"cond_channels": WIDTH},
    "slat_flow_model": NARROW | {"cond_channels": WIDTH, "io_block_channels": [16]},
    "slat_encoder": NARROW,
    "slat_decoder_mesh": NARROW | {"num_groups": 4},
    "slat_decoder_gs": NARROW,
}
TWO = Budget(steps=2)
STILL = Budget(minutes=1e-9)  # not one step


def tiny(budget: Budget) -> Recipe:
    def smaller(section):
        table = {role: (name, args | CHANGED[role]) for role, (name, args) in section.networks.items()}
        budgets = {name: budget for name in section.__dataclass_fields__ if name.endswith("budget")}
        return replace(section, networks=table, **budgets)

    arguments = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2}
    arguments = RECIPE.conditioner.arguments | arguments
    return replace(
        RECIPE,
        data=replace(RECIPE.data, objects=16, held=8, photos=1, points=64),
        conditioner=replace(RECIPE.conditioner, arguments=arguments, batch=4, budget=budget),
        structure=replace(smaller(RECIPE.structure), vae_batch=4, flow_batch=4),
        slat=replace(smaller(RECIPE.slat), vae_cells=600, flow_batch=2, gaussian_cells=600, gaussian_image=16),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """scratch, weights and curves of a complete training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lib.generator.structure.SAMPLED", 2)
        folder = tmp_path_factory.mktemp("generator")
        curves = train.train_generator(tiny(TWO), folder / "scratch", folder / "weights", device="cpu", workers=1)
    return folder / "scratch", folder / "weights", curves


def test_training_writes_a_folder_that_the_pipeline_loads(run):
    scratch, weights, curves = run
    assert curves.groupby("stage").step.max().to_dict() == dict.fromkeys(train.STAGES, 1)
    assert {path.name for path in (weights / "ckpts").glob("*.safetensors")} == {
        f"{role}.safetensors" for role in CHANGED
    }
    assert (scratch / ".gitignore").read_text() == "*\n"
    pipeline = load_pipeline(weights)
    cond = pipeline.encode([render_photo(furniture("test", 0).mesh, 112)])
    assert cond.shape == (1, 129, WIDTH)
    assert pipeline.settings["structure"] == {"sigma_min": 1e-5} | RECIPE.structure_sampler["params"]
    assert pipeline.mean.tolist() == pytest.approx(
        json.loads((scratch / "slat_normalization.json").read_text())["mean"]
    )
    coords = torch.tensor([[0, 8, 8, 8], [0, 8, 8, 9]], dtype=torch.int32)
    latent, _ = pipeline.sample_slat(cond, coords, pipeline.slat_noise([0], coords), steps=1)
    assert len(pipeline.decode(latent, "gaussians")[0].means) == 64


def test_networks_are_kept_in_half_precision(run):
    for path in run[1].rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}


def test_a_finished_training_is_only_loaded(run, tmp_path, monkeypatch):
    scratch, weights, curves = run
    before = {path.name: path.stat().st_mtime_ns for path in scratch.glob("*.pt")}
    monkeypatch.setattr("lib.generator.conditioner.write_conditions", None)
    again = train.train_stages(["conditioner", "structure_vae"], tiny(TWO), scratch, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in scratch.glob("*.pt")} == before
    assert again.stage.value_counts().to_dict() == curves[curves.stage.isin(again.stage)].stage.value_counts().to_dict()
    for role in ("conditioner/model", "sparse_structure_encoder", "sparse_structure_decoder"):
        old, new = (load_file(folder / "ckpts" / f"{role}.safetensors") for folder in (weights, tmp_path))
        assert all(torch.equal(old[name], new[name]) for name in old)


def test_training_can_begin_with_the_weights_of_a_folder(run, tmp_path):
    scratch, weights, _ = run
    (tmp_path / "data").symlink_to(scratch / "data")
    begun = train.train_stages(["conditioner", "structure_vae"], tiny(STILL), tmp_path, tmp_path / "weights", weights)
    assert begun.empty
    for role in ("conditioner/model", "sparse_structure_decoder"):
        old, new = (load_file(folder / "ckpts" / f"{role}.safetensors") for folder in (weights, tmp_path / "weights"))
        assert all(torch.allclose(old[name], new[name], rtol=0.02, atol=1e-3) for name in old)
    assert not (tmp_path / "weights" / "pipeline.json").exists()


def test_a_stage_waits_for_what_another_process_makes(run, tmp_path, monkeypatch):
    scratch, _, _ = run
    for name in ("data", "structure_latents.npy"):
        (tmp_path / name).symlink_to(scratch / name)
    monkeypatch.setattr("lib.generator.structure.SAMPLED", 2)
    monkeypatch.setattr(
        train, "sleep", lambda seconds: (tmp_path / "conditions.npy").symlink_to(scratch / "conditions.npy")
    )
    assert len(train.train_stages(["structure_flow"], tiny(TWO), tmp_path, tmp_path / "weights")) == 2


def test_what_comes_of_weights_is_outdated_once_they_are_trained_further(tmp_path):
    checkpoint, made = tmp_path / "one.pt", tmp_path / "made"
    part = torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)})

    def run(steps):
        fit(part, lambda step: (part["one"].weight.sum(), {}), Budget(steps=steps), checkpoint)

    run(2)
    assert outdated(made, checkpoint)
    made.touch()
    run(2)
    assert not outdated(made, checkpoint)
    run(3)
    assert outdated(made, checkpoint)


def test_the_recipe_fits_the_repository_and_the_study():
    table = {**RECIPE.structure.networks, **RECIPE.slat.networks}
    with torch.device("meta"):
        networks = [build_model(*network) for network in table.values()]
        conditioner = train.build_conditioner(RECIPE)
    size = sum(tensor.numel() for network in [*networks, conditioner.model] for tensor in network.state_dict().values())
    assert 2 * size < 24e6
    params = RECIPE.structure_sampler["params"]
    assert params["steps"] <= 25
    assert params["cfg_strength"] > 0
    assert set(sum(train.BRANCHES, ())) == set(train.STAGES)
