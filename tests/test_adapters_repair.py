"""Conditioner repair starts as nothing, undoes what can be undone, and is written and read."""

import json

import pytest
import torch

from lib.adapters.repair import CONFIG, Repair, RepairRecipe, load_repair, train_repair
from lib.adapters.train import RECORD
from lib.errors import BadInput

RECIPE = RepairRecipe(blocks=1, ratio=1.0, steps=200, batch=16, rate=3e-3)


def conditions(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Conditions [N, 6, 16] whose channels a degradation mixes linearly, and the clean ones."""
    clean = torch.nn.functional.layer_norm(
        torch.randn(count, 6, 16, generator=torch.Generator().manual_seed(seed)), (16,)
    )
    mix = torch.eye(16) + 0.3 * torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    return clean @ mix, clean


def test_a_fresh_repair_is_the_identity_and_can_be_scaled():
    repair, cond = Repair(64), conditions(2, 0)[0].repeat(1, 1, 4)
    assert torch.equal(repair(cond), cond)
    torch.nn.init.normal_(repair.out.weight)
    change = repair(cond) - cond
    assert change.abs().max() > 0.1
    assert torch.equal(repair(cond, 0.0), cond)
    torch.testing.assert_close(repair(cond, 0.5) - cond, 0.5 * change, atol=1e-5, rtol=1e-4)


def test_a_linear_corruption_of_the_features_is_undone(tmp_path):
    held = conditions(64, 7)
    record = train_repair(*conditions(256, 3), held, RECIPE, tmp_path)
    assert record["mse_before"] == pytest.approx((held[0] - held[1]).square().mean().item(), rel=1e-5)
    assert record["mse_after"] < 0.2 * record["mse_before"]
    repair = load_repair(tmp_path, width=16)
    each = (repair(held[0]) - held[1]).square().mean((1, 2))
    assert each.mean().item() == pytest.approx(record["mse_after"], rel=1e-5)
    assert each.tolist() == pytest.approx(record["each_after"], rel=1e-4)
    assert sum(record["each_before"]) / 64 == pytest.approx(record["mse_before"])
    kept = json.loads((tmp_path / RECORD).read_text())
    assert kept == record
    assert kept["recipe"]["method"] == "conditioner_repair"
    assert kept["curve"][-1]["loss"] < kept["curve"][0]["loss"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, "repair.safetensors", RECORD]


def test_a_repair_is_a_function_of_its_seed(tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        train_repair(*conditions(8, 0), conditions(4, 1), RepairRecipe(1, 1.0, steps=3, seed=seed), tmp_path / name)
    one, again, other = ((tmp_path / name / "repair.safetensors").read_bytes() for name in ("one", "again", "other"))
    assert one == again != other


def test_a_killed_training_goes_on_to_the_same_repair(tmp_path, monkeypatch):
    recipe, weights = RepairRecipe(1, 1.0, steps=6), "repair.safetensors"
    given = (*conditions(20, 0), conditions(4, 1), recipe)
    train_repair(*given, tmp_path / "whole")
    monkeypatch.setattr("lib.training.SAVE", -1)
    calls, mse_loss = [], torch.nn.functional.mse_loss

    def dies(*inputs):
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return mse_loss(*inputs)

    monkeypatch.setattr("lib.adapters.repair.F.mse_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        train_repair(*given, tmp_path / "killed")
    assert not (tmp_path / "killed" / RECORD).exists()
    train_repair(*given, tmp_path / "killed")
    assert len(calls) == 4 + 3
    assert (tmp_path / "killed" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_what_is_no_repair_is_refused(tmp_path):
    degraded, clean = conditions(4, 0)
    with pytest.raises(BadInput, match="do not match"):
        train_repair(degraded, clean[:3], (degraded, clean), RECIPE, tmp_path)
    with pytest.raises(BadInput, match="held"):
        train_repair(degraded, clean, (degraded[:, :3], clean[:, :3]), RECIPE, tmp_path)
    with pytest.raises(BadInput, match=r"no repair\.json"):
        load_repair(tmp_path)
    train_repair(degraded, clean, (degraded, clean), RepairRecipe(1, 1.0, steps=1), tmp_path)
    with pytest.raises(BadInput, match="width 16, not 32"):
        load_repair(tmp_path, width=32)
    (tmp_path / CONFIG).write_text('{"width": 16, "blocks": 2, "ratio": 1.0}')
    with pytest.raises(BadInput, match="Train it again"):
        load_repair(tmp_path)
