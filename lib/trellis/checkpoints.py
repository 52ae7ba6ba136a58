"""Networks from and to the published files: `<stem>.json` (class and arguments) and `<stem>.safetensors` (weights)."""

import json
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.errors import BadInput
from lib.trellis.gaussian_decoder import SLatGaussianDecoder
from lib.trellis.layers import MixedPrecision
from lib.trellis.mesh_decoder import SLatMeshDecoder
from lib.trellis.slat_flow import SLatFlowModel
from lib.trellis.slat_vae import SLatEncoder
from lib.trellis.structure_flow import SparseStructureFlowModel
from lib.trellis.structure_vae import SparseStructureDecoder, SparseStructureEncoder

CLASSES = {
    cls.__name__: cls
    for cls in (
        SparseStructureFlowModel,
        SparseStructureEncoder,
        SparseStructureDecoder,
        SLatFlowModel,
        SLatEncoder,
        SLatMeshDecoder,
        SLatGaussianDecoder,
    )
}


def find_file(source: str | Path, name: str) -> Path:
    """File of a local folder or of a Hugging Face repository (downloaded once); BadInput names what is missing."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise BadInput(
                folder / name, "the file is missing", "Download the folder again, or correct the path in it."
            )
        return folder / name
    try:
        return Path(hf_hub_download(str(source), name))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        problem = f"no local folder and no repository that holds {name} ({type(error).__name__})"
        raise BadInput(source, problem, "Give a folder with pipeline.json and ckpts, or a Hugging Face id.") from error


def read_json(path: Path) -> dict:
    """The JSON object of a file."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(path, f"not valid JSON ({error})", "Download the file again.") from error


def build_model(name: str, args: dict, source: str | Path = "model") -> MixedPrecision:
    """A network by class name (with or without the published prefix "Elastic") and constructor arguments."""
    cls = CLASSES.get(name.removeprefix("Elastic"))
    if cls is None:
        raise BadInput(source, f"unknown network class {name!r}", f"Known are {', '.join(CLASSES)}.")
    try:
        model = cls(**args)
    except TypeError as error:
        raise BadInput(source, str(error), f"Correct the arguments of {cls.__name__}.") from error
    model.config_file = {"name": cls.__name__, "args": args}
    return model


def load_model(source: str | Path, stem: str, dtype: torch.dtype, device="cpu") -> MixedPrecision:
    """The network `<stem>` of a folder or hub repository, its torso in `dtype`.

    Built without storage and filled tensor by tensor, so that no more than one copy of the weights is ever held.
    """
    config_path = find_file(source, f"{stem}.json")
    config, path = read_json(config_path), find_file(source, f"{stem}.safetensors")
    with torch.device("meta"):
        model = build_model(config.get("name", ""), config.get("args", {}), config_path)
        model.set_torso_dtype(dtype)
    wanted = model.state_dict()
    try:
        with safe_open(path, "pt") as file:
            check_keys(path, {key: file.get_slice(key).get_shape() for key in file.offset_keys()}, wanted)
            weights = {key: file.get_tensor(key).to(device, like.dtype) for key, like in wanted.items()}
    except SafetensorError as error:
        raise BadInput(path, f"not a complete safetensors file ({error})", "Download it again.") from error
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def check_keys(path: Path, found: dict[str, list[int]], wanted: dict[str, torch.Tensor]) -> None:
    """Raise BadInput naming the tensors that are missing, unknown or of another shape."""
    problems = [f"{key} is missing" for key in wanted if key not in found]
    problems += [f"{key} is unknown" for key in found if key not in wanted]
    problems += [
        f"{key} has shape {found[key]}, not {list(wanted[key].shape)}"
        for key in wanted
        if key in found and list(found[key]) != list(wanted[key].shape)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        remedy = "Give the weights that belong to the JSON file beside it."
        raise BadInput(path, "; ".join(problems[:3]) + more, remedy)


def save_model(model: MixedPrecision, folder: str | Path, stem: str) -> None:
    """Write a network made by `build_model` in the published layout, its tensors in their present types."""
    path = Path(folder, stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.json").write_text(json.dumps(model.config_file, indent=1))
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, path.with_name(f"{path.name}.safetensors"))
