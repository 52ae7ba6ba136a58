"""Low-rank adapters (LoRA) on the linears of a flow, through peft; several may sit on one flow, told apart by name.

All linears here are plain nn.Linear, those on sparse voxels too, so that peft can wrap them.
"""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn

from lib.errors import BadInput

ATTENTION = ("to_qkv", "to_q", "to_kv", "to_out")
WEIGHTS = "adapter_model.safetensors"


def add_lora(
    model: nn.Module,
    name: str,
    rank: int = 64,
    alpha: float = 128,
    targets: Sequence[str] = ATTENTION,
    seed: int = 0,
) -> nn.Module:
    """Put a new adapter on every linear whose name ends in one of `targets`; it starts as zero and becomes active.

    Beyond attention "mlp.mlp.0", "mlp.mlp.2" and "adaLN_modulation.1" can be named. Only its weights get gradients.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are meant
        try:
            inject_adapter_in_model(config, model, adapter_name=name)
        except ValueError as error:
            raise BadInput("targets", f"no linear matches {list(targets)}", f"Use names like {ATTENTION}.") from error
    for layer in lora_layers(model):
        layer.set_adapter(name)
    return model


def lora_layers(model: nn.Module) -> list[LoraLayer]:
    """The linears of the model that carry adapters."""
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def adapter_names(model: nn.Module) -> set[str]:
    """Names of the adapters on the model."""
    return {name for layer in lora_layers(model) for name in layer.lora_A}


@contextmanager
def use_adapter(model: nn.Module, name: str | None):
    """Within the block the model runs with this adapter alone, or with none: bit for bit the base model."""
    layers = lora_layers(model)
    before = [(layer.active_adapters, layer.disable_adapters) for layer in layers]
    for layer in layers:
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)
    try:
        yield model
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer.set_adapter(active)
            layer.enable_adapters(not disabled)


def save_lora(model: nn.Module, folder: str | Path, name: str) -> None:
    """Write one adapter in peft's layout (adapter_config.json, adapter_model.safetensors)."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    config = model.peft_config[name]
    config.target_modules = sorted(config.target_modules)  # the order of a set differs from run to run
    config.save_pretrained(folder)
    weights = get_peft_model_state_dict(model, adapter_name=name)
    save_file({key: value.contiguous() for key, value in weights.items()}, Path(folder, WEIGHTS))


def load_lora(model: nn.Module, folder: str | Path, name: str) -> nn.Module:
    """Put a saved adapter on the model and make it active; BadInput if it is missing or belongs to another network."""
    if not Path(folder, WEIGHTS).is_file():
        raise BadInput(folder, f"no {WEIGHTS} in it", "Give a folder that save_lora or peft wrote.")
    config = LoraConfig.from_pretrained(str(folder))
    add_lora(model, name, config.r, config.lora_alpha, config.target_modules)
    try:
        result = set_peft_model_state_dict(model, load_file(Path(folder, WEIGHTS)), adapter_name=name)
    except RuntimeError as error:
        raise BadInput(
            folder, "its shapes are those of another network", "Load it on the network it is for."
        ) from error
    absent = [key for key in result.missing_keys if f".{name}." in key]
    if result.unexpected_keys or absent:
        problem = f"its tensors do not fit ({(result.unexpected_keys + absent)[0]})"
        raise BadInput(folder, problem, "Load it on the network it is for.")
    return model


def merge_lora(model: nn.Module, name: str) -> nn.Module:
    """Add one adapter to the base weights for good and take all adapters off; keys are the published ones again."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(adapter_names=[name])
            _unwrap(model, path)
    return model


def remove_lora(model: nn.Module, name: str) -> nn.Module:
    """Take one adapter off; if it was active, none is. Without a last one the model is as if there had been none."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.set_adapter([active for active in module.active_adapters if active != name])
            module.delete_adapter(name)
            if not module.lora_A:
                _unwrap(model, path)
    del model.peft_config[name]
    return model


def _unwrap(model: nn.Module, path: str) -> None:
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, model.get_submodule(path).get_base_layer())
