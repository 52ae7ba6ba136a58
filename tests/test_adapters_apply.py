"""Any adapter is used the same way, at any strength, and leaves nothing behind."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib.adapters.apply import adapted
from lib.adapters.repair import Repair
from lib.errors import BadInput
from lib.trellis.lora import WEIGHTS, add_lora, remove_lora, save_lora
from lib.trellis.pipeline import FLOWS, Pipeline
from lib.trellis.tiny import WIDTH, tiny_pipeline

PHOTO = Image.radial_gradient("L").resize((80, 80)).convert("RGBA")
PHOTO.putalpha(PHOTO.getchannel("R").point(lambda value: 255 * (value < 120)))


def sample(pipeline: Pipeline) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of both stages."""
    result = pipeline.sample(PHOTO, 1, steps=2, formats=(), trajectory=True)[0]
    return result.structure_trajectory[-1], result.latent.feats


def same(one, other) -> bool:
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict:
    """An adapter of each flow, of both, and a repair, with weights that do something."""
    root = tmp_path_factory.mktemp("adapters")
    pipeline = tiny_pipeline()
    for number, role in enumerate(FLOWS):
        flow = add_lora(pipeline.models[role], "a", rank=2, alpha=2)
        for key, parameter in flow.named_parameters():
            if "lora_B" in key:
                parameter.data.normal_(0, 0.5, generator=torch.Generator().manual_seed(number))
        for name in ("both", ("structure", "slat")[number]):
            save_lora(flow, root / name / role, "a")
    repair = Repair(WIDTH, 1, 1.0)
    repair.out.weight.data.normal_(0, 0.2, generator=torch.Generator().manual_seed(5))
    (root / "repair").mkdir()
    save_file(repair.state_dict(), root / "repair" / "repair.safetensors")
    (root / "repair" / "repair.json").write_text(json.dumps(repair.config))
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize("kind", ["structure", "slat", "both", "repair"])
def test_an_adapter_changes_samples_only_inside_its_block(kind, folders):
    pipeline = tiny_pipeline()
    base, keys = sample(pipeline), {role: pipeline.models[role].state_dict().keys() for role in FLOWS}
    with adapted(pipeline, folders[kind]) as used:
        result = sample(used)
        assert torch.equal(result[0], base[0]) == (kind == "slat")
        assert not same(result, base)
        assert same(sample(used), result)
        assert same(sample(pipeline), base)
    assert same(sample(pipeline), base)
    assert {role: pipeline.models[role].state_dict().keys() for role in FLOWS} == keys


@pytest.mark.parametrize("kind", ["slat", "repair"])
def test_scale_goes_from_the_base_through_the_adapter_and_beyond(kind, folders):
    pipeline, shifts = tiny_pipeline(), []
    base = sample(pipeline)
    for scale in (0.0, 0.02, 0.1, 1.0, 1.5):
        with adapted(pipeline, folders[kind], scale) as used:
            result = sample(used)
        if kind == "slat":
            shifts.append((result[1] - base[1]).abs().mean().item())
        else:
            shifts.append((result[0] - base[0]).abs().mean().item())
        assert same(result, base) == (scale == 0)
    assert 0 == shifts[0] < shifts[1] < shifts[2] < shifts[3]
    assert shifts[4] != shifts[3]


def test_without_a_folder_it_is_the_base():
    pipeline = tiny_pipeline()
    with adapted(pipeline, None) as used:
        assert same(sample(used), sample(pipeline))


def test_both_kinds_combine(folders):
    pipeline = tiny_pipeline()
    with adapted(pipeline, folders["repair"]) as repaired:
        alone = sample(repaired)
        with adapted(repaired, folders["slat"]) as used:
            both = sample(used)
        assert torch.equal(both[0], alone[0])
        assert not torch.equal(both[1], alone[1])
        assert same(sample(repaired), alone)


def test_one_of_two_adapters_is_taken_off(folders):
    flow = tiny_pipeline().models[FLOWS[0]]
    keys = flow.state_dict().keys()
    for name in ("a", "b"):
        add_lora(flow, name, rank=2, alpha=2)
    remove_lora(flow, "b")
    assert set(flow.peft_config) == {"a"}
    assert not [key for key in flow.state_dict() if ".b." in key]
    assert [key for key in flow.state_dict() if ".a." in key]
    assert remove_lora(flow, "a").state_dict().keys() == keys
    add_lora(flow, "a", rank=2, alpha=2)


def test_a_folder_without_an_adapter_is_refused_and_leaves_nothing(tmp_path, folders):
    pipeline = tiny_pipeline()
    with pytest.raises(BadInput, match="no subfolder"), adapted(pipeline, tmp_path):
        pass
    shutil.copytree(folders["slat"], tmp_path / "part")
    weights = tmp_path / "part" / FLOWS[1] / WEIGHTS
    save_file(dict(list(load_file(weights).items())[1:]), weights)
    with pytest.raises(BadInput, match="do not fit"), adapted(pipeline, tmp_path / "part"):
        pass
    assert not [key for key in pipeline.models[FLOWS[1]].state_dict() if "lora" in key]
    wide = Repair(64, 1, 1.0)
    (tmp_path / "wide").mkdir()
    save_file(wide.state_dict(), tmp_path / "wide" / "repair.safetensors")
    (tmp_path / "wide" / "repair.json").write_text(json.dumps(wide.config))
    with pytest.raises(BadInput, match=f"width 64, not {WIDTH}"), adapted(pipeline, tmp_path / "wide"):
        pass
