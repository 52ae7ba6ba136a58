"""What samples and questions cost: operations against a counter, published models against what is printed of them."""

import numpy as np
import pytest
import torch
from hub_folders import INTERNVL, QWEN, TRELLIS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from lib.judges.candidates import Picture
from lib.judges.forward import answer_logits, encode_images, token_ids
from lib.judges.prompts import prompt
from lib.judges.vlm import VLMJudge
from lib.profiles import ROOT, load_profile
from lib.study import flops, inventory
from lib.study.inventory import KNOWN
from lib.trellis.checkpoints import build_model

MINI = load_profile("mini")


def counted(function, *args) -> int:
    """By torch's counter, which does not see into the CPU's fused attention."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


def test_the_published_models_have_the_published_sizes_and_costs():
    models, samplers = inventory.generator(TRELLIS)
    cost = models[0].cost
    assert cost.structure == pytest.approx(2 * 2.61e12, rel=0.01)  # of upstream's module, counted
    assert cost.encode == pytest.approx(2 * 0.51e12, rel=0.01)
    published = 1130770840 + 147591972 + 1203755136 + 171450952 + 181903412  # bytes of the five files
    assert cost.bytes == pytest.approx(published + 4 * 304e6, rel=0.01)
    network = KNOWN[TRELLIS]["networks"]["slat_flow_model"]["args"]
    counted = {3700: 0.63, 6800: 1.20, 11700: 2.17}  # voxels of an object, multiply-adds in 10^12
    for voxels, tera in counted.items():
        assert flops._flow(network, (1374, 1024), voxels / flops.MERGED) == pytest.approx(2e12 * tera, rel=0.1)
        assert flops._mesh_convolutions(voxels, 768) == pytest.approx(2e12 * 0.45 * voxels / 6800, rel=0.1)
    assert [flops.sampler_calls(one) for one in samplers.values()] == [44, 44]
    assert flops.sampler_calls(samplers["slat_sampler"] | {"steps": 2, "cfg_strength": 0.0}) == 2
    sizes = {QWEN: 8.29e9, INTERNVL: 7.94e9}  # as the hub states them
    for name, parameters in sizes.items():
        assert inventory.judge("judge", name, 1024).cost.parameters == pytest.approx(parameters, rel=0.001)


def test_a_flow_an_encoder_and_a_decoder_cost_what_a_counter_sees():
    flow = {"resolution": 8, "in_channels": 4, "out_channels": 4, "model_channels": 128, "cond_channels": 64}
    flow |= {"num_blocks": 3, "num_heads": 2, "mlp_ratio": 4, "patch_size": 1}
    encoder = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 4}
    encoder |= {"image_size": 112, "patch_size": 14, "num_register_tokens": 4}
    decoder = {"out_channels": 1, "latent_channels": 4, "num_res_blocks": 2, "num_res_blocks_middle": 1}
    decoder |= {"channels": [16, 8]}
    x, t, cond = torch.zeros(1, 4, 8, 8, 8), torch.zeros(1), torch.zeros(1, 69, 64)
    model = build_model("SparseStructureFlowModel", flow)
    assert flops._flow(flow, (69, 64)) == pytest.approx(counted(model, x, t, cond), rel=0.05)
    vit = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**encoder))
    embedding = 2 * 64 * 64 * 3 * 14**2  # of the patches: left out, since it is much in a narrow network only
    wanted = counted(vit, torch.zeros(1, 3, 112, 112)) - embedding
    assert flops.blocks(69, 64, 3, 4) == pytest.approx(wanted, rel=0.01)
    model = build_model("SparseStructureDecoder", decoder)
    assert flops._grid_decoder(decoder, 8) == pytest.approx(counted(model, x), rel=0.01)


@pytest.mark.parametrize("name", ["judge_x", "judge_y"])
def test_a_judge_costs_what_a_counter_sees(name):
    judge = VLMJudge(ROOT / "weights/mini" / name)
    cost = inventory.judge("judge", f"weights/mini/{name}", 2 * MINI.tile).cost
    pixels = judge.engine._pixels([Picture(np.zeros((112, 112, 3), np.uint8))])
    features = encode_images(judge.model, pixels)
    assert cost.parameters == judge.model.num_parameters()
    assert cost.tokens == features.shape[1]
    assert cost.image == pytest.approx(counted(encode_images, judge.model, pixels), rel=0.1)
    ids = token_ids(judge.processor, prompt(), [cost.tokens] * 2)
    assert cost.length(prompt()) == pytest.approx(len(ids), abs=30)
    seen = counted(answer_logits, judge.model, ids, [features, features])
    assert cost.forward(len(ids)) == pytest.approx(seen, rel=0.1)


def test_a_large_image_is_counted_as_the_processor_would_resize_it():
    assert inventory.judge("judge", QWEN, 1024).cost.tokens == 35**2
    assert inventory.judge("judge", QWEN, 112).cost.tokens == 4**2
    assert inventory.judge("judge", INTERNVL, 1024).cost.tokens == 256


def test_the_measured_rate_is_a_rate():
    rates = [flops.measured_rate(seconds) for seconds in (0.02, 0.1)]
    assert all(1e8 < rate < 1e16 for rate in rates)
