"""Loading a vision-language model: local folder or hub id, device, precision, and which weights exactly."""

import hashlib
import re
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from lib.errors import BadInput
from lib.placement import choose_device, fast_bfloat16

SMALL = 100_000_000  # parameters; below, bfloat16 saves little, and float32 answers repeat on any machine
FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # all that a model and its processor are read from


def load_model(
    model: str | Path, revision: str | None = None, dtype: str = "auto", device: str = "auto"
) -> tuple[PreTrainedModel, dict]:
    """A model on the host, and what it is as JSON values: name, revision, weights, family, dtype, device, versions.

    dtype: "auto" or the name of a torch dtype; see `choose_dtype`. device: where it will answer, once it is moved there
    (`lib.placement.resident`); "auto" is a GPU where there is one. Raises BadInput for an unknown dtype, a GPU that is
    not there, what is neither a folder nor a hub id, what is not a vision-language model of transformers, and weights
    that are broken or incomplete.
    """
    device = choose_device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInput("device", "there is no GPU that torch can use", 'Use "cpu" or "auto"')
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise BadInput("dtype", f"torch has no {dtype!r}", 'Use "auto", "float32", "bfloat16" or "float16"')
    try:
        config = AutoConfig.from_pretrained(model, revision=revision)
        kind = choose_dtype(config, device) if dtype == "auto" else getattr(torch, dtype)
        loaded, report = AutoModelForImageTextToText.from_pretrained(
            model, revision=revision, dtype=kind, output_loading_info=True
        )
        if report["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"its weights lack {', '.join(sorted(report['missing_keys'])[:3])} ...")
    except (OSError, ValueError, SafetensorError) as error:
        remedy = "Give the folder of a vision-language model in transformers' layout, or its hub id"
        raise BadInput(model, f"no judge can be loaded from it ({error})", remedy) from error
    folder = Path(cached_file(model, "config.json", revision=revision)).parent
    local = Path(model).is_dir()
    return loaded.eval(), {
        "model": folder.resolve().name if local else str(model),
        "revision": None if local else folder.name,  # the cache names a snapshot after its commit
        "weights": weights_digest(folder) if local else None,
        "family": family(config.model_type),
        "dtype": str(kind).removeprefix("torch."),
        "device": device.type,
        "attention": loaded.config._attn_implementation,
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
    }


def choose_dtype(config: PreTrainedConfig, device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU and on a CPU with instructions for it, else float32; small models always float32.

    Raises ValueError where transformers has no vision-language model for the configuration.
    """
    with torch.device("meta"):
        parameters = AutoModelForImageTextToText.from_config(config).num_parameters()
    return torch.bfloat16 if fast_bfloat16(device) and parameters >= SMALL else torch.float32


def batch_size(parameters: int) -> int:
    """Questions in a call: a large model is busy with the thousands of tokens of two, and more would not fit 24 GB."""
    return 16 if parameters < SMALL else 2


def family(model_type: str) -> str:
    """The lineage of a model's type or name, so that versions count as one: qwen2_5_vl and Qwen3-VL-8B are qwen."""
    return re.search("[a-z]+|$", model_type.lower())[0]


def weights_digest(folder: Path) -> str:
    """16 hex digits of every file that a model and its processor are read from, names included."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
