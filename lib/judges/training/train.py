"""From nothing to a judge: data, vision tower, language model, both together, folder."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from lib.errors import BadInput
from lib.judges.forward import batch_attention
from lib.judges.mini import Size, save_mini
from lib.judges.training.collection import Collection
from lib.judges.training.language import Features, LanguageLoss, Live
from lib.judges.training.recipes import SIZE, Recipe
from lib.judges.training.samples import sample
from lib.judges.training.tower import Heads, TowerLoss
from lib.placement import choose_device
from lib.shards import write_shards
from lib.training import Budget, fit, open_scratch, seeded

TOGETHER_RATE = 3e-4  # of stage 3


@dataclass(frozen=True)
class Plan:
    """How much of everything: training objects, and the budgets of the three stages."""

    objects: int
    tower: Budget
    language: Budget
    together: Budget


def train_judge(
    recipe: Recipe,
    plan: Plan,
    scratch: Path,
    weights: Path,
    start: Path | None = None,
    device: str = "auto",
    workers: int = -1,
    size: Size = SIZE,
) -> pd.DataFrame:
    """Trains a judge and writes its folder `weights`; the curves of the stages (column `stage`).

    A stage with a budget of 0 is left out, as where `start` has been through it.

    scratch: data and checkpoints; whatever it holds is used, so a killed run goes on where it was. start: folder of
    weights to begin with instead of random ones. device: "auto" is a GPU where there is one. Raises BadInput where
    every stage is left out.
    """
    if not any(map(_wanted, (plan.tower, plan.language, plan.together))):
        raise BadInput(f"the training of {recipe.name}", "every stage is left out", "Give one of them some minutes.")
    open_scratch(scratch)
    paths = write_shards(partial(sample, recipe), scratch / "data", plan.objects, workers, f"objects for {recipe.name}")
    data = Collection.read(recipe, paths)
    model, processor = recipe.build(size)
    if start is not None:
        model = type(model).from_pretrained(start, dtype=torch.float32)
    model = batch_attention(model.to(choose_device(device))).train()
    model.set_attn_implementation("eager")  # on a CPU the fused kernels are slow backwards
    hidden = model.config.text_config.hidden_size
    heads, readout = (
        seeded(recipe.seed, build).to(model.device) for build in (lambda: Heads(hidden), lambda: nn.Linear(hidden, 5))
    )
    stages = {
        "tower": (train_tower, heads, plan.tower),
        "language": (train_language, readout, plan.language),
        "together": (train_together, readout, plan.together),
    }
    curves = [
        train(model, processor, taught, data, recipe, budget, scratch).assign(stage=stage)
        for stage, (train, taught, budget) in stages.items()
        if _wanted(budget)
    ]
    save_mini(weights, model, processor)
    return pd.concat(curves, ignore_index=True)


def _wanted(budget: Budget) -> bool:
    return min(budget.steps, budget.minutes) > 0


def train_tower(
    model, processor, heads, data: Collection, recipe: Recipe, budget: Budget, scratch: Path
) -> pd.DataFrame:
    """Stage 1; only the vision part of `model` changes, and the throw-away heads."""
    parts = nn.ModuleDict({"vision": halves(model)[0], "heads": heads})
    return fit(parts, TowerLoss(model, processor, heads, data, recipe.seed), budget, scratch / "tower.pt")


def train_language(
    model, processor, readout, data: Collection, recipe: Recipe, budget: Budget, scratch: Path
) -> pd.DataFrame:
    """Stage 2; only the language part of `model` changes, and the throw-away read-out."""
    parts = nn.ModuleDict({"language": halves(model)[1], "readout": readout})
    loss = LanguageLoss(model, processor, readout, data, Features(model, processor, data), (recipe.seed, 2))
    return fit(parts, loss, budget, scratch / "language.pt")


def train_together(
    model, processor, readout, data: Collection, recipe: Recipe, budget: Budget, scratch: Path
) -> pd.DataFrame:
    """Stage 3; all of `model` changes, slowly: what the tower tells becomes what the answer needs."""
    parts = nn.ModuleDict({"model": model, "readout": readout})
    loss = LanguageLoss(model, processor, readout, data, Live(model, processor, data), (recipe.seed, 3))
    return fit(parts, loss, budget, scratch / "together.pt", TOGETHER_RATE)


def halves(model) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """The modules of a model that see, and those that read."""
    inside = dict(model.model.named_children())
    language = {"model": inside.pop("language_model"), "head": model.lm_head}
    return nn.ModuleDict(inside), nn.ModuleDict(language)
