"""What a profile needs: its models, data, GPU and disk; what of it is not here, and what to type to get it."""

import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from transformers import AutoConfig

from lib.data.datasets import open_dataset
from lib.errors import BadInput
from lib.judges.engines import FEATURES
from lib.judges.models import SMALL
from lib.judges.processors import MAX_PIXELS
from lib.judges.prompts import Prompt
from lib.profiles import ROOT, Profile, find_folder
from lib.study.flops import GeneratorCost, JudgeCost, generator_cost, judge_cost
from lib.study.similarity import CLIP
from lib.trellis.conditioning import PUBLISHED_NAMES
from lib.trellis.pipeline import DECODERS, REQUIRED

KNOWN = tomllib.loads((Path(__file__).parent / "known_models.toml").read_text())
SAMPLERS = ("sparse_structure_sampler", "slat_sampler")
SERVED = ("http://", "https://")
CLIP_BYTES = 605_000_000  # of CLIP ViT-B/32 in float32


@dataclass(frozen=True)
class Problem:
    """Something that is not here, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Model:
    """A model of a profile. cost: None where its configuration is unknown. download: bytes, 0 where it is here."""

    role: str
    name: str
    cost: GeneratorCost | JudgeCost | None
    problem: Problem | None
    download: int = 0


def snapshot(name: str, file: str) -> Path | None:
    """The folder of a model that holds `file`: named, or in the hub's cache; None where there is none."""
    folder = find_folder(name)
    if isinstance(folder, Path):
        return folder if (folder / file).is_file() else None
    cached = try_to_load_from_cache(name, file) if name.count("/") == 1 else None
    return Path(cached).parent if isinstance(cached, str) else None


def generator(name: str) -> tuple[list[Model], Mapping]:
    """The generator and its image encoder, and the settings of its samplers by stage ({} where they are unknown)."""
    folder, known = snapshot(name, "pipeline.json"), KNOWN.get(name, {})
    missing, networks = ["pipeline.json"], known.get("networks", {})
    if folder:
        args = _read(folder / "pipeline.json")["args"]
        stems = {role: stem for role, stem in args["models"].items() if role in (*REQUIRED, *DECODERS.values())}
        files = [f"{stem}.{kind}" for stem in stems.values() for kind in ("json", "safetensors")]
        missing = [file for file in files if not (folder / file).is_file()]
        if not missing:
            networks = {role: _read(folder / f"{stem}.json") for role, stem in stems.items()}
        known = args | {key: args[key]["args"] | args[key]["params"] for key in SAMPLERS}
    encoder = known.get("image_cond_model", "")
    encoder = str(folder / encoder) if folder and (folder / encoder).is_dir() else PUBLISHED_NAMES.get(encoder, encoder)
    absent, config = _encoder(encoder) if encoder else (None, None)
    cost = generator_cost(networks, config) if networks and config else None
    include = ' --include pipeline.json "ckpts/*"'
    first = Model("generator", name, cost, _missing(name, missing, include), cost.bytes if missing and cost else 0)
    models = [first] + ([Model("image encoder", encoder, None, absent)] if encoder else [])
    return models, {key: known[key] for key in SAMPLERS if key in known}


def _encoder(name: str) -> tuple[Problem | None, dict | None]:
    folder = snapshot(name, "config.json")
    if folder is None:
        return _missing(name, ["config.json"]), KNOWN.get(name, {}).get("config")
    return _missing(name, _shards(folder)), _read(folder / "config.json")


def judge(role: str, name: str, side: int) -> Model:
    """side: of the images that it is shown, pixels. A served judge costs nothing here."""
    if name.startswith(SERVED):
        return Model(role, name, None, None)
    folder, known = snapshot(name, "config.json"), KNOWN.get(name)
    missing = ["config.json"] if folder is None else _shards(folder)
    problem, cost = _missing(name, missing), None
    try:
        if folder or known:
            config = AutoConfig.from_pretrained(folder) if folder else AutoConfig.for_model(**known["config"])
            cost = judge_cost(config, side, _pixels(folder, known))
    except AttributeError:  # of another form than Qwen2.5-VL and InternVL
        pass
    except (OSError, ValueError) as error:
        what = f"{name}: no vision-language model of transformers ({str(error).splitlines()[0]})"
        problem = Problem(what, "Give the folder or the hub id of one")
    return Model(role, name, cost, problem, cost.bytes if missing and cost else 0)


def _pixels(folder: Path | None, known: Mapping | None) -> tuple[int, int]:
    """Fewest and most pixels of an image for Qwen2.5-VL, by the folder and by `MAX_PIXELS`."""
    low, high = (known or {}).get("pixels", (3136, MAX_PIXELS))
    for file in ("preprocessor_config.json", "processor_config.json") if folder else ():
        settings = _read(folder / file) if (folder / file).is_file() else {}
        size = settings.get("image_processor", settings)
        edges = size.get("size", {})
        low = size.get("min_pixels", edges.get("shortest_edge", low))
        high = size.get("max_pixels", edges.get("longest_edge", high))
    return low, min(high, MAX_PIXELS)


def clip(judge_x: Model, name: str | None = None) -> list[Model]:
    """What notebook 07 encodes views with, where it is not the tower of a miniature judge X."""
    if name is None and judge_x.cost and judge_x.cost.small:
        return []
    name = name or CLIP
    folder = snapshot(name, "config.json")
    missing = ["config.json"] if folder is None else _shards(folder)
    return [Model("CLIP", name, None, _missing(name, missing), CLIP_BYTES if missing else 0)]


def _shards(folder: Path) -> list[str]:
    """The weights' files that are not there."""
    index = folder / "model.safetensors.index.json"
    files = set(_read(index)["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return sorted(file for file in files if not (folder / file).is_file())


def _missing(name: str, files: Sequence[str], include: str = "") -> Problem | None:
    if not files:
        return None
    if name.count("/") == 1 and not Path(name).is_absolute() and not (ROOT / name.split("/")[0]).is_dir():
        return Problem(f"{name}: not downloaded ({_some(files)})", f"hf download {name}{include}")
    return Problem(f"{name}: the folder lacks {_some(files)}", "Correct the path, or train it (notebooks A1 and A2)")


def _some(files: Sequence[str]) -> str:
    return files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def data(settings: Profile, folder: str, needed: int) -> Problem | None:
    """Whether a folder of meshes holds the objects that are needed; "" is procedural furniture."""
    if not folder or not needed:
        return None
    remedy = (
        f"Unpack 3D-FUTURE-model.zip (19 GB, tianchi.aliyun.com/dataset/98063, where its license is accepted) to"
        f" {folder}, or set data_dir in lib/profiles/{settings.name}.toml to another folder of meshes or to nothing"
    )
    try:
        found = len(open_dataset(find_folder(folder)))
    except BadInput as error:
        return Problem(f"{folder}: {error.problem}", remedy)
    return Problem(f"{folder}: {found} objects, {needed} are needed", remedy) if found < needed else None


def memory(models: Sequence[Model], prompts: Sequence[Prompt]) -> int:
    """Bytes on the GPU for the one model that needs most, beside what the other judges keep there; 0 for miniatures."""
    costs = [model.cost for model in models if model.cost]
    judges = [cost for cost in costs if isinstance(cost, JudgeCost) and not cost.small]
    drawing = [cost.memory for cost in costs if isinstance(cost, GeneratorCost) and cost.bytes > 2 * SMALL]
    answering = [cost.memory(prompt) for cost in judges for prompt in prompts]
    return max([*drawing, *answering], default=0) + FEATURES * max(0, len(judges) - 1)


def gpu(needed: int) -> Problem | None:
    """Whether there is a GPU of that memory, where one is needed."""
    remedy = f"Use a GPU of {needed / 1e9:.0f} GB or more, or a judge on a server: -p judge_y http://HOST:8000/v1#MODEL"
    if not needed:
        return None
    if not torch.cuda.is_available():
        return Problem("no GPU that torch can use", remedy)
    there = torch.cuda.get_device_properties(0).total_memory
    return Problem(f"GPU of {there / 1e9:.0f} GB, {needed / 1e9:.0f} GB are needed", remedy) if there < needed else None


def disk(download: int, results: int) -> list[Problem]:
    """Whether the hub's cache has room for the downloads, and the repository for the results."""
    wanted = {
        Path(constants.HF_HUB_CACHE): (download, "Free some, or put the cache on a larger disk: export HF_HOME=FOLDER"),
        ROOT: (results, "Free some, or clone to a larger disk"),
    }
    problems = []
    for place, (needed, remedy) in wanted.items():
        there = next(folder for folder in (place, *place.parents) if folder.is_dir())
        free = shutil.disk_usage(there).free
        if free < needed:
            problems.append(Problem(f"{free / 1e9:.1f} GB free in {there}, {needed / 1e9:.1f} GB are needed", remedy))
    return problems


def _read(path: Path) -> dict:
    return json.loads(path.read_text())
