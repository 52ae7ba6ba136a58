"""What every network keeps: independence of batch and voxel order, types, smaller widths, and memory on loading."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib.errors import BadInput
from lib.trellis.checkpoints import build_model, load_model, save_model
from lib.trellis.layers import grid_coords
from lib.trellis.sparse import SparseTensor, collate
from lib.trellis.tiny import MODELS, tiny_pipeline


@pytest.fixture(scope="module")
def models():
    return tiny_pipeline(0).models


def latents(n: int, seed: int, side: int = 16) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    cells = grid_coords(side)[torch.randperm(side**3, generator=generator)[:n]]
    coords = torch.cat([torch.zeros(n, 1), cells], dim=1).int()
    return SparseTensor(torch.randn(n, 8, generator=generator), coords)


def output(model, x: SparseTensor) -> torch.Tensor:
    """What the network computes for every voxel, or for every one of its cells or Gaussians."""
    n, width = x.batch_size, MODELS["slat_flow_model"][1]["cond_channels"]
    t, cond = torch.full((n,), 400.0), torch.linspace(-1, 1, 5 * width).view(1, 5, width).expand(n, -1, -1)
    name = type(model).__name__
    if name == "SLatFlowModel":
        return model(x, t, cond).feats
    return model.cells(x).feats.view(len(x.feats), -1) if name == "SLatMeshDecoder" else model.raw(x)


SPARSE = "slat_flow_model", "slat_decoder_mesh", "slat_decoder_gs"


@pytest.mark.parametrize("role", SPARSE)
def test_items_of_a_batch_do_not_see_each_other(models, role):
    parts = [latents(40, 0), latents(90, 1)]
    together = output(models[role], collate(parts))
    alone = torch.cat([output(models[role], part) for part in parts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("role", SPARSE)
def test_order_of_voxels_does_not_matter(models, role):
    x = latents(90, 2)
    order = torch.randperm(90)
    shuffled = SparseTensor(x.feats[order], x.coords[order])
    torch.testing.assert_close(output(models[role], shuffled), output(models[role], x)[order], atol=1e-5, rtol=1e-4)


def test_bf16_torso_stays_close_to_fp32(models):
    flow = build_model(*MODELS["slat_flow_model"])
    flow.load_state_dict(models["slat_flow_model"].state_dict())
    flow.set_torso_dtype(torch.bfloat16)
    assert flow.blocks[0].self_attn.to_qkv.weight.dtype == torch.bfloat16
    assert flow.blocks[0].norm2.weight.dtype == flow.out_layer.weight.dtype == torch.float32
    x = latents(90, 3)
    wanted, found = output(models["slat_flow_model"], x), output(flow, x)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.03 * wanted.norm()


def test_autocast_trains_every_parameter(models):
    flow = build_model(*MODELS["slat_flow_model"])
    flow.load_state_dict(models["slat_flow_model"].state_dict())
    x = latents(90, 4)
    loss = output(flow, x).square().mean()
    exact = torch.autograd.grad(loss, list(flow.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = output(flow, x).float().square().mean()
    for a, b in zip(torch.autograd.grad(loss, list(flow.parameters())), exact, strict=True):
        assert (a - b).norm() < 0.1 * b.norm()


def test_group_count_frees_the_mesh_decoder_from_widths_of_256():
    _, args = MODELS["slat_decoder_mesh"]
    assert args["model_channels"] == 32
    assert build_model("SLatMeshDecoder", args).upsample[1].out_layers[1].num_groups == args["num_groups"]
    with pytest.raises(ValueError, match="divisible"):
        build_model("SLatMeshDecoder", {key: value for key, value in args.items() if key != "num_groups"})
    wide = {key: value for key, value in args.items() if key != "num_groups"} | {"model_channels": 256}
    assert build_model("SLatMeshDecoder", wide).upsample[0].act_layers[0].num_groups == 32


def test_full_attention_and_plain_voxels_are_options():
    _, args = MODELS["slat_decoder_gs"]
    full = build_model("SLatGaussianDecoder", args | {"attn_mode": "full"})
    torch.nn.init.normal_(full.out_layer.weight)
    x = latents(60, 5)
    moved = x.feats.clone()
    moved[0] += 1  # every voxel sees the first one, however far it is
    assert ((full.raw(x.with_feats(moved)) - full.raw(x)).abs().amax(1) > 0).all()
    with pytest.raises(BadInput, match="attn_mode"):
        build_model("SLatGaussianDecoder", args | {"attn_mode": "serialized"})


def test_published_class_prefix_and_wrong_descriptions():
    name, args = MODELS["slat_flow_model"]
    assert type(build_model(f"Elastic{name}", args)).__name__ == name
    with pytest.raises(BadInput, match="SLatRadianceFieldDecoder"):
        build_model("SLatRadianceFieldDecoder", args)
    with pytest.raises(BadInput, match="depth"):
        build_model(name, args | {"depth": 3})
    with pytest.raises(BadInput, match="patch_size"):
        build_model(name, args | {"patch_size": 4})
    plain = build_model(name, args | {"io_block_channels": None, "patch_size": 4})
    assert not plain.input_blocks


@pytest.fixture
def saved(tmp_path, models):
    """A folder that holds one network as `ckpts/flow`."""
    model = build_model(*MODELS["slat_flow_model"])
    model.load_state_dict(models["slat_flow_model"].state_dict())
    save_model(model, tmp_path, "ckpts/flow")
    return tmp_path


def test_saved_network_loads_again(saved, models):
    loaded = load_model(saved, "ckpts/flow", torch.float32)
    wanted = models["slat_flow_model"].state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items())
    assert load_model(saved, "ckpts/flow", torch.bfloat16).blocks[0].mlp.mlp[0].weight.dtype == torch.bfloat16


def test_wrong_files_are_named(saved, models):
    weights, config = saved / "ckpts/flow.safetensors", saved / "ckpts/flow.json"
    state = dict(models["slat_flow_model"].state_dict())
    state["out_layer.bias"] = torch.zeros(3)
    state["extra"] = state.pop("input_layer.bias")
    save_file(state, weights)
    with pytest.raises(BadInput, match=r"missing; extra is unknown; out_layer\.bias has shape") as error:
        load_model(saved, "ckpts/flow", torch.float32)
    assert error.value.source == str(weights)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(BadInput, match=r"flow\.safetensors"):
        load_model(saved, "ckpts/flow", torch.float32)
    weights.unlink()
    with pytest.raises(BadInput, match=r"flow\.safetensors: the file is missing"):
        load_model(saved, "ckpts/flow", torch.float32)
    config.write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        load_model(saved, "ckpts/flow", torch.float32)


FULL_SIZE = """
import json, psutil, sys, torch
from lib.trellis.checkpoints import load_model
torch.zeros(1) @ torch.zeros(1, 1)
start = psutil.Process().memory_info().rss / 1024
model = load_model(sys.argv[1], "flow", torch.float32)
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
held = sum(t.nbytes for t in model.state_dict().values()) / 1024
print(json.dumps({"peak": peak - start, "held": held}))
"""


# getrusage would not do: a child begins with the peak of the process that started it
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the memory from Linux's /proc")
def test_loading_holds_one_copy_of_the_weights(tmp_path):
    """Two full-size blocks in a process of its own; the pages of the file may be in memory beside the one copy."""
    args = {"resolution": 16, "in_channels": 8, "out_channels": 8, "model_channels": 1024, "cond_channels": 1024}
    args |= {"num_blocks": 2, "num_heads": 16, "patch_size": 1, "qk_rms_norm": True, "use_fp16": True}
    with torch.device("meta"):
        model = build_model("SparseStructureFlowModel", args)
    save_model(model.to_empty(device="cpu"), tmp_path, "flow")
    run = subprocess.run([sys.executable, "-c", FULL_SIZE, tmp_path], capture_output=True, text=True, check=True)
    sizes = json.loads(run.stdout)
    pages = (tmp_path / "flow.safetensors").stat().st_size / 1024
    assert sizes["held"] > 200e3  # KB
    assert sizes["peak"] < sizes["held"] + pages + 100e3


def test_full_size_pipeline_has_the_published_number_of_weights_without_holding_any():
    args = {"in_channels": 8, "out_channels": 8, "model_channels": 1024, "cond_channels": 1024, "num_blocks": 24}
    args |= {"num_heads": 16, "qk_rms_norm": True, "use_fp16": True}
    with torch.device("meta"):
        structure = build_model("SparseStructureFlowModel", args | {"resolution": 16, "patch_size": 1})
        slat = build_model("SLatFlowModel", args | {"resolution": 64, "io_block_channels": [128]})
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (structure, slat)]
    assert sizes == [pytest.approx(555.5, abs=0.1), pytest.approx(600.4, abs=0.1)]
    assert all(p.is_meta for model in (structure, slat) for p in model.parameters())
