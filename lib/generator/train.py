"""From nothing to the generator's folder, stage after stage.

A stage is `stage(networks, data, recipe, scratch) -> curve`: it trains some of `networks` (nn.ModuleDict by role, on
one device) in place, with `lib.training.fit` and the checkpoint `scratch/<stage>.pt`, and returns fit's curve. What
other stages need of it, it leaves in `scratch` as a file that appears when it is complete:

conditions.npy (N, V, 2, 129, C) float16: condition of every photo, plain and mirrored (conditioner);
structure_latents.npy (N, 2, 4, 8, 8, 8) float16, plain and mirrored (structure_vae);
slat_latents.npy, slat_normalization.json: see `slat` (slat_vae).

Mirrored means x -> -x in space and columns reversed in a photo.
"""

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import sleep

import pandas as pd
import torch
from joblib import Parallel, cpu_count, delayed
from torch import nn

from lib.generator.collection import Collection, write_collection
from lib.generator.conditioner import build_conditioner, train_conditioner
from lib.generator.gaussians import train_gaussians
from lib.generator.recipe import Recipe
from lib.generator.slat import NORMALIZATION, train_mesh_decoder, train_slat_vae
from lib.generator.slat_flow import train_slat_flow
from lib.generator.structure import train_structure_flow, train_structure_vae
from lib.placement import choose_device
from lib.training import open_scratch, seeded
from lib.trellis.checkpoints import build_model, load_model, save_model
from lib.trellis.conditioning import load_conditioner
from lib.trellis.pipeline import DECODERS, REQUIRED

CONDITIONER = "conditioner"  # role of the photo's encoder, and its folder
CONDITIONS, STRUCTURE, SLAT = "conditions.npy", "structure_latents.npy", "slat_latents.npy"
STAGES = {  # what to call, what it waits for, what it trains
    "conditioner": (train_conditioner, (), (CONDITIONER,)),
    "structure_vae": (train_structure_vae, (), ("sparse_structure_encoder", "sparse_structure_decoder")),
    "structure_flow": (train_structure_flow, (CONDITIONS, STRUCTURE), ("sparse_structure_flow_model",)),
    "slat_vae": (train_slat_vae, (), ("slat_encoder", "slat_decoder_mesh")),
    "mesh_decoder": (train_mesh_decoder, (SLAT,), ("slat_decoder_mesh",)),
    "gaussians": (train_gaussians, (SLAT,), ("slat_decoder_gs",)),
    "slat_flow": (train_slat_flow, (CONDITIONS, SLAT), ("slat_flow_model",)),
}
BRANCHES = ("conditioner", "structure_vae", "structure_flow"), ("slat_vae", "mesh_decoder", "gaussians", "slat_flow")


def train_generator(
    recipe: Recipe,
    scratch: Path,
    weights: Path,
    start: Path | None = None,
    device: str = "auto",
    workers: int = -1,
) -> pd.DataFrame:
    """Trains everything and writes the folder `weights`; the curves of all stages (column `stage`).

    scratch: data and checkpoints; whatever it holds is used, so a killed run goes on where it was. start: folder of
    weights to begin with instead of random ones. device: "auto" is a GPU where there is one. workers: processes, -1 for
    one a core; with more than one, and no GPU, both branches are trained side by side.
    """
    make_data(recipe, scratch, workers)
    device = str(choose_device(device))
    together = device == "cpu" and (workers if workers > 0 else cpu_count()) > 1
    made, run = scratch / "weights", delayed(train_stages)
    curves = Parallel(2 if together else 1)(run(names, recipe, scratch, made, start, device) for names in BRANCHES)
    shutil.copytree(made, weights, dirs_exist_ok=True)
    return pd.concat(curves, ignore_index=True)


def make_data(recipe: Recipe, scratch: Path, workers: int = -1) -> Collection:
    """The training objects, sampled where they are missing."""
    open_scratch(scratch)
    return Collection(recipe.data, write_collection(recipe, scratch / "data", workers))


def train_stages(
    names: Sequence[str], recipe: Recipe, scratch: Path, weights: Path, start: Path | None = None, device: str = "cpu"
) -> pd.DataFrame:
    """Some stages, one after the other; each writes its networks to `weights` when it is done.

    Waits for what it needs of stages that another process trains. Finished stages are only loaded.
    """
    data, networks, curves = make_data(recipe, scratch, 1), build_networks(recipe, start).to(device), []
    for name in names:
        stage, needed, roles = STAGES[name]
        while not all((scratch / file).exists() for file in needed):
            sleep(5)
        curves.append(stage(networks, data, recipe, scratch).assign(stage=name))
        for role in roles:
            save_network(networks[role], role, weights)
        write_pipeline(recipe, scratch, weights)
    return pd.concat(curves, ignore_index=True)


def build_networks(recipe: Recipe, start: Path | None = None) -> nn.ModuleDict:
    """All networks by role, ready to be trained: random, or those of the folder `start`."""
    table = {**recipe.structure.networks, **recipe.slat.networks}
    if start is None:
        parts = {CONDITIONER: seeded(recipe.seed, lambda: build_conditioner(recipe))}
        parts |= {role: seeded(recipe.seed, lambda args=args: build_model(*args)) for role, args in table.items()}
    else:
        parts = {CONDITIONER: load_conditioner(str(start / "ckpts" / CONDITIONER))}
        parts |= {role: load_model(start, f"ckpts/{role}", torch.float32) for role in table}
    return nn.ModuleDict(parts).train().requires_grad_(True)


def save_network(network: nn.Module, role: str, weights: Path):
    """In half precision, in the published layout."""
    half = copy.deepcopy(network).half().cpu()
    if role == CONDITIONER:
        half.model.save_pretrained(weights / "ckpts" / role)
    else:
        save_model(half, weights, f"ckpts/{role}")


def write_pipeline(recipe: Recipe, scratch: Path, weights: Path):
    """pipeline.json, once there are all networks that it names."""
    roles = (*REQUIRED, *DECODERS.values())
    files = [weights / "ckpts" / f"{role}.safetensors" for role in roles]
    if not all(path.exists() for path in (*files, weights / "ckpts" / CONDITIONER, scratch / NORMALIZATION)):
        return
    args = {
        "models": {role: f"ckpts/{role}" for role in roles},
        "sparse_structure_sampler": recipe.structure_sampler,
        "slat_sampler": recipe.slat_sampler,
        "slat_normalization": json.loads((scratch / NORMALIZATION).read_text()),
        "image_cond_model": f"ckpts/{CONDITIONER}",
    }
    (weights / "pipeline.json").write_text(json.dumps({"name": "TrellisImageTo3DPipeline", "args": args}, indent=1))
