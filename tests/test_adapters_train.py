"""Adapters learn what they must, say when they diverge, and leave the generator as it was."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lib.adapters.examples import Example, make_batch, velocity_errors
from lib.adapters.objectives import METHODS, Errors, diffusion_dpo
from lib.adapters.train import FLOW, LEARNING, RECORD, STAGES, LoraRecipe, train
from lib.errors import BadInput
from lib.trellis.layers import grid_coords
from lib.trellis.lora import WEIGHTS, adapter_names, load_lora, use_adapter
from lib.trellis.sparse import SparseTensor
from lib.trellis.tiny import tiny_pipeline

SHORT = LoraRecipe("dpo", "structure", rank=4, alpha=8, steps=2, batch=2, probe_every=2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def structures(count: int, seed: int) -> list[Example]:
    """Pairs with a planted preference: the first channel of winners is high, that of losers low."""
    examples = []
    for i in range(count):
        cond, x_0 = (torch.randn(*shape, generator=seeded(seed + i)) for shape in ((5, 32), (8, 8, 8, 8)))
        sides = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        examples.append(Example(cond, *(torch.cat([x_0[:1] + side, x_0[1:]]) for side in sides)))
    return examples


def voxels(count: int, seed: int) -> list[Example]:
    """The same with structured latents; winner and loser have 20 voxels in common."""
    examples = []
    for i in range(count):
        draw, latents = seeded(seed + i), []
        cond = torch.randn(5, 32, generator=draw)
        for side, cells in ((1, slice(0, 40)), (-1, slice(20, 50))):
            coords = torch.nn.functional.pad(grid_coords(16)[cells].int(), (1, 0))
            feats = torch.randn(len(coords), 8, generator=draw)
            feats[:, 0] += side
            latents.append(SparseTensor(feats, coords, 1))
        examples.append(Example(cond, *latents))
    return examples


MAKE = {"structure": structures, "slat": voxels}


def accuracy(flow, adapter: str | None, held: list[Example]) -> float:
    """Share of pairs whose winner the adapter favors, by DPO's margin."""
    batch, errors = make_batch(held, seeded(0)), []
    for name in (adapter, None):
        with use_adapter(flow, name), torch.no_grad():
            errors += velocity_errors(flow, batch, "sum").tensor_split([batch.winners])
    return (diffusion_dpo(Errors(*errors), 0.1)[1] > 0).float().mean().item()


@pytest.mark.parametrize("stage", MAKE)
def test_dpo_finds_a_planted_preference_in_pairs_it_has_not_seen(stage, tmp_path):
    pipeline, held = tiny_pipeline(), MAKE[stage](10, 500)
    recipe = LoraRecipe("dpo", stage, rank=4, alpha=8, steps=20, batch=4, rate=5e-3)
    record = train(pipeline, {stage: MAKE[stage](12, 100)}, {stage: held}, recipe, tmp_path)["stages"][stage]
    curve = record["curve"]
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=0.01)  # 16 bits
    assert curve[-1]["loss"] < 0.6
    assert [line["probe"] for line in curve if "probe" in line] == [record["probe_before"]]
    for when in ("before", "after"):
        each = record[f"each_{when}"]
        assert len(each) == len(set(each)) == len(held)
        assert sum(each) / len(each) == pytest.approx(record[f"probe_{when}"])
    assert all(line.keys() >= {"winner", "loser", "accuracy", "gradient"} for line in curve)
    flow = load_lora(pipeline.models[FLOW[stage]], tmp_path / FLOW[stage], "learned")
    assert accuracy(flow, "learned", held) >= 0.9
    assert accuracy(flow, None, held) == 0


def test_identical_winner_and_loser_start_at_log_2_without_a_gradient(tmp_path):
    same = [replace(one, loser=one.winner) for one in structures(4, 0)]
    different = structures(4, 0)
    lines = {}
    for name, examples in {"same": same, "different": different}.items():
        record = train(tiny_pipeline(), {"structure": examples}, {"structure": same}, SHORT, tmp_path / name)
        lines[name] = record["stages"]["structure"]["curve"][0]
    assert lines["same"]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert lines["same"]["winner"] == lines["same"]["loser"] > 0
    assert lines["same"]["gradient"] < 1e-4 * lines["different"]["gradient"]


@pytest.mark.parametrize("method", ["sft_best", "orpo"])
def test_fine_tuning_lowers_the_probe(method, tmp_path):
    examples, held = structures(12, 0), structures(6, 300)
    recipe = LoraRecipe(method, "structure", rank=4, alpha=8, steps=20, batch=4, rate=5e-3)
    record = train(tiny_pipeline(), {"structure": examples}, {"structure": held}, recipe, tmp_path)
    record = record["stages"]["structure"]
    assert record["probe_after"] < 0.95 * record["probe_before"]
    assert ("accuracy" in record["curve"][0]) == (method == "orpo")


def test_dro_rewards_and_punishes_single_samples(tmp_path):
    pairs = voxels(6, 0)
    alone = [replace(one, loser=None) for one in pairs[:3]] + [replace(one, winner=None) for one in pairs[3:]]
    recipe = LoraRecipe("dro", rank=4, alpha=8, steps=15, batch=6, rate=5e-3)
    curve = train(tiny_pipeline(), {"slat": alone}, {"slat": pairs}, recipe, tmp_path)["stages"]["slat"]["curve"]
    first, last = ([line["loser"] - line["winner"] for line in part] for part in (curve[:5], curve[-5:]))
    assert sum(last) > sum(first) + 0.5
    assert curve[-1]["loss"] < curve[0]["loss"]


class Knowing(torch.nn.Module):
    """A flow that knows at t = 0.5 what leads to a latent of ones, and that nothing keeps from growing."""

    def __init__(self):
        super().__init__()
        self.to_q, self.blocks = torch.nn.Linear(8, 8), torch.nn.ModuleList()
        torch.nn.init.constant_(self.to_q.bias, -2)
        self.to_q.weight.data = 2 * torch.eye(8)

    def forward(self, x, t, cond):
        return self.to_q(x.movedim(1, -1)).movedim(-1, 1)


def test_training_that_diverges_says_so(tmp_path):
    ones = torch.ones(8, 8, 8, 8)
    examples, records = {"structure": [Example(torch.zeros(5, 32), ones, -ones)]}, {}
    for name, changed in {"calm": {}, "wild": {"rate": 3.0, "beta": 500.0}, "broken": {"rate": 1e30}}.items():
        pipeline = tiny_pipeline()
        pipeline.models[FLOW["structure"]] = Knowing()
        recipe = replace(SHORT, **{"rate": 1e-4, "steps": 5} | changed)
        train(pipeline, examples, examples, recipe, tmp_path / name)
        records[name] = json.loads((tmp_path / name / RECORD).read_text())["stages"]["structure"]
        assert records[name]["probe_before"] < 1e-6
        weights = load_file(tmp_path / name / FLOW["structure"] / WEIGHTS)
        assert all(value.isfinite().all() for value in weights.values())
    assert [records[name]["diverged"] for name in records] == [False, True, True]
    assert records["calm"]["probe_after"] < records["calm"]["probe_blank"] < records["wild"]["probe_after"]
    assert records["calm"]["stopped"] is records["wild"]["stopped"] is None
    broken = records["broken"]
    assert broken["stopped"] == len(broken["curve"]) - 1 < 4
    assert not math.isfinite(broken["curve"][-1]["loss"] + broken["curve"][-1]["gradient"])


def test_both_stages_repeat_to_the_bit_and_leave_the_generator_as_it_was(tmp_path):
    examples, recipe = {stage: MAKE[stage](4, 0) for stage in STAGES["both"]}, replace(SHORT, stage="both")
    weights = {}
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        pipeline = tiny_pipeline()
        before = {role: pipeline.models[role].state_dict() for role in FLOW.values()}
        torch.manual_seed(seed + len(name))
        train(pipeline, examples, examples, replace(recipe, seed=seed), tmp_path / name)
        for role, kept in before.items():
            assert pipeline.models[role].state_dict().keys() == kept.keys()
            assert all(torch.equal(value, kept[key]) for key, value in pipeline.models[role].state_dict().items())
            assert not adapter_names(pipeline.models[role])
        weights[name] = [(tmp_path / name / role / WEIGHTS).read_bytes() for role in FLOW.values()]
        weights[name] += [(tmp_path / name / role / "adapter_config.json").read_bytes() for role in FLOW.values()]
    assert weights["one"] == weights["again"]
    config = json.loads(weights["one"][-1])
    assert config["target_modules"] == sorted(recipe.targets)  # not in the order of a set
    assert weights["one"][0] != weights["other"][0]
    assert weights["one"][1] != weights["other"][1]
    assert json.loads((tmp_path / "one" / RECORD).read_text())["recipe"]["reduction"] == "sum"


def test_pairs_can_be_made_while_the_flow_learns(tmp_path):
    pipeline, seen = tiny_pipeline(), []

    def pool(step: int) -> list[Example]:
        noise = pipeline.structure_noise([0])
        seen.append(pipeline.sample_structure(torch.ones(1, 5, 32), noise, adapter=LEARNING)[1].sample)
        return structures(4, 10 * step)

    recipe = replace(SHORT, rate=1e-2)
    record = train(pipeline, {"structure": pool}, {"structure": structures(2, 0)}, recipe, tmp_path)
    assert record["stages"]["structure"]["examples"] == "online"
    assert len(seen) == 2
    assert not torch.equal(*seen)  # the second is of the flow as it was after a step


def test_a_step_without_a_pair_leaves_the_flow_as_it_is(tmp_path):
    held, recipe = {"structure": structures(3, 50)}, replace(SHORT, rate=1e-2)
    for name, empty in (("never", (0, 1)), ("first", (0,))):
        pool = {"structure": lambda step, empty=empty: [] if step in empty else structures(4, 0)}
        record = train(tiny_pipeline(), pool, held, recipe, tmp_path / name)["stages"]["structure"]
        assert ["loss" in line for line in record["curve"]] == [step not in empty for step in (0, 1)]
        assert (record["each_before"] == record["each_after"]) == (name == "never")
        assert record["stopped"] is None
        load_lora(tiny_pipeline().models[FLOW["structure"]], tmp_path / name / FLOW["structure"], "learned")


def test_adapters_of_a_16_bit_flow_learn_in_32(tmp_path):
    pipeline, examples = tiny_pipeline(), {"slat": voxels(4, 0)}
    pipeline.models[FLOW["slat"]].set_torso_dtype(torch.bfloat16)
    recipe = replace(SHORT, stage="slat", rate=1e-5)
    record = train(pipeline, examples, examples, recipe, tmp_path)["stages"]["slat"]
    assert record["stopped"] is None
    assert {value.dtype for value in load_file(tmp_path / FLOW["slat"] / WEIGHTS).values()} == {torch.float32}


def test_what_cannot_be_trained_is_refused_before_it_starts(tmp_path):
    for wrong in ({"method": "ppo"}, {"stage": "decoder"}, {"reduction": "median"}):
        with pytest.raises(BadInput, match="Use one of") as error:
            replace(SHORT, **wrong)
        assert next(iter(wrong)) in str(error.value)
        known = {"method": METHODS, "stage": STAGES, "reduction": ("sum", "mean")}[next(iter(wrong))]
        assert all(name in str(error.value) for name in known)

    good = {"structure": structures(2, 0)}
    empty = SparseTensor(torch.zeros(0, 8), torch.zeros(0, 4, dtype=torch.int32), 1)
    for examples, held, words in (
        ({}, good, "examples: there are none for stage 'structure'"),
        (good, {"structure": []}, "held: there are none"),
        ({"structure": [good["structure"][0], replace(good["structure"][1], loser=None)]}, good, "has no loser"),
        (good, {"structure": [replace(good["structure"][0], winner=empty)]}, "has no winner"),
    ):
        with pytest.raises(BadInput, match=words):
            train(tiny_pipeline(), examples, held, SHORT, tmp_path / "none")
    assert not (tmp_path / "none").exists()
