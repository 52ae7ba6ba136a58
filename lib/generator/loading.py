"""A generator by its folder or hub id: what it is read from, by content or commit, and where it is loaded to."""

import gc
import hashlib
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch

from lib.errors import BadInput
from lib.placement import choose_device, resident
from lib.trellis.checkpoints import find_file, read_json
from lib.trellis.conditioning import PUBLISHED_NAMES
from lib.trellis.pipeline import DECODERS, REQUIRED, Pipeline, load_pipeline


def find_generator(source: str | Path) -> tuple[Path, str]:
    """The folder of a pipeline, and 16 hex digits of all that it is read from.

    source: a folder, or a hub id, of which the files that are read are downloaded; its commit then stands for them.
    Raises BadInput where there is none.
    """
    if Path(source).is_dir():
        return Path(source), folder_digest(Path(source))
    path = find_file(source, "pipeline.json")
    stems = read_json(path).get("args", {}).get("models", {})
    for role, kind in product((*REQUIRED, *DECODERS.values()), ("json", "safetensors")):
        if role in stems:
            find_file(source, f"{stems[role]}.{kind}")
    total = hashlib.sha256(f"{source} {path.parent.name}{_encoder_name(path.parent)}".encode())
    return path.parent, total.hexdigest()[:16]


def folder_digest(folder: Path) -> str:
    """16 hex digits of all that a pipeline is read from; an image encoder from the hub counts by id and commit.

    Raises BadInput where there is none.
    """
    if not (folder / "pipeline.json").is_file():
        raise BadInput(folder, "no pipeline.json in it", "Train the generator first, or correct the path.")
    total = hashlib.sha256()
    for path in [folder / "pipeline.json", *sorted(path for path in (folder / "ckpts").rglob("*") if path.is_file())]:
        with path.open("rb") as file:
            total.update(str(path.relative_to(folder)).encode() + hashlib.file_digest(file, "sha256").digest())
    total.update(_encoder_name(folder).encode())
    return total.hexdigest()[:16]


def _encoder_name(folder: Path) -> str:
    """Id and commit of the image encoder, "" where it is in the folder."""
    name = read_json(folder / "pipeline.json").get("args", {}).get("image_cond_model", "")
    if (folder / name).is_dir():
        return ""
    name = PUBLISHED_NAMES.get(name, name)
    return f" {name} {find_file(name, 'config.json').parent.name}"


def generator(folder: Path, weights: str, device: str = "auto") -> Pipeline:
    """The pipeline of a folder, loaded once a process for the same weights; on a GPU alone, and in bfloat16.

    device: "auto" is a GPU where there is one. The examination of a miniature keeps to the CPU, in float32.
    """
    return alone(_loaded(folder, weights, choose_device(device)))


def alone(pipeline: Pipeline) -> Pipeline:
    """The same pipeline; where it belongs on a GPU, it is there now and nothing else is."""
    if pipeline.device.type != "cpu":  # on a CPU the conditioner need not even be loaded
        resident(pipeline.device, *pipeline.models.values(), pipeline.conditioner)
    return pipeline


@lru_cache(maxsize=1)
def _loaded(folder: Path, weights: str, device: torch.device) -> Pipeline:
    resident(device)  # room for what is loaded right onto the GPU
    pipeline = load_pipeline(folder, device, None if device.type == "cpu" else torch.bfloat16)
    gc.freeze()  # it stays, as do the libraries: a collection after every object need not look through them all
    return pipeline
