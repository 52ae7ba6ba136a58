"""LoRA on both flows: off is the base to the bit, merged is the active adapter, saved is loaded."""

import pytest
import torch

from lib.errors import BadInput
from lib.trellis.checkpoints import build_model
from lib.trellis.layers import grid_coords
from lib.trellis.lora import adapter_names, add_lora, load_lora, merge_lora, save_lora, use_adapter
from lib.trellis.sparse import SparseTensor
from lib.trellis.tiny import MODELS, tiny_pipeline

ROLES = "sparse_structure_flow_model", "slat_flow_model"


def fresh(role: str) -> torch.nn.Module:
    return tiny_pipeline(0).models[role]


def run(flow) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    t, cond = torch.tensor([300.0]), torch.randn(1, 5, 32, generator=generator)
    if type(flow).__name__ == "SLatFlowModel":
        cells = grid_coords(16)[torch.randperm(4096, generator=generator)[:50]]
        coords = torch.cat([torch.zeros(50, 1), cells], dim=1).int()
        return flow(SparseTensor(torch.randn(50, 8, generator=generator), coords), t, cond).feats
    return flow(torch.randn(1, 8, 8, 8, 8, generator=generator), t, cond)


def trained(flow, name: str, seed: int) -> None:
    """Give a fresh adapter weights that do something."""
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in flow.named_parameters():
        if f".{name}." in key:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


@pytest.mark.parametrize("role", ROLES)
def test_adapter_switches_saves_loads_and_merges(role, tmp_path):
    flow = fresh(role)
    base, keys = run(flow), flow.state_dict().keys()
    add_lora(flow, "a", rank=4, alpha=8)
    torch.testing.assert_close(run(flow), base)  # a new adapter starts as zero
    trained(flow, "a", 1)
    active = run(flow)
    assert (active - base).abs().max() > 1e-3
    with use_adapter(flow, None):
        assert torch.equal(run(flow), base)
    assert torch.equal(run(flow), active)

    save_lora(flow, tmp_path, "a")
    other = load_lora(fresh(role), tmp_path, "copy")
    torch.testing.assert_close(run(other), active)

    merge_lora(flow, "a")
    assert flow.state_dict().keys() == keys
    torch.testing.assert_close(run(flow), active, atol=1e-5, rtol=0)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_adapter_learns(role):
    flow = add_lora(fresh(role).requires_grad_(), "a", rank=2, alpha=2, targets=("to_q", "mlp.mlp.0"))
    learning = [key for key, parameter in flow.named_parameters() if parameter.requires_grad]
    assert learning
    assert all(".lora_" in key for key in learning)
    assert {key.split(".lora_")[0].rsplit(".", 1)[-1] for key in learning} == {"to_q", "0"}
    run(flow).sum().backward()
    assert all(p.grad is not None for p in flow.parameters() if p.requires_grad)


def test_two_adapters_stand_side_by_side():
    flow = fresh(ROLES[0])
    for name, seed in (("a", 1), ("b", 2)):
        add_lora(flow, name, rank=2, alpha=2)
        trained(flow, name, seed)
    results = {}
    for name in ("a", "b"):
        with use_adapter(flow, name):
            results[name] = run(flow)
    assert adapter_names(flow) == {"a", "b"}
    assert not torch.allclose(results["a"], results["b"])
    torch.testing.assert_close(run(merge_lora(flow, "a")), results["a"], atol=1e-5, rtol=0)


def test_adapter_start_is_a_function_of_its_seed():
    def weights(seed: int):
        flow = add_lora(fresh(ROLES[0]), "a", rank=2, alpha=2, seed=seed)
        return torch.cat([p.flatten() for key, p in flow.named_parameters() if "lora_A" in key])

    state = torch.random.get_rng_state()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_wrong_adapters_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no linear matches"):
        add_lora(fresh(ROLES[0]), "a", targets=("to_nothing",))
    with pytest.raises(BadInput, match=r"adapter_model\.safetensors"):
        load_lora(fresh(ROLES[0]), tmp_path, "a")
    save_lora(add_lora(fresh(ROLES[0]), "a", rank=2, alpha=2), tmp_path, "a")
    name, args = MODELS[ROLES[0]]
    for other in ({"model_channels": 64}, {"num_blocks": 1}, {"num_blocks": 3}):
        with pytest.raises(BadInput, match="network"):
            load_lora(build_model(name, args | other), tmp_path, "a")
