"""From nothing to a judge: data, vision tower, language model, folder."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from lib.judges.forward import batch_attention
from lib.judges.mini import Size, save_mini
from lib.judges.training.collection import Collection
from lib.judges.training.language import Features, LanguageLoss
from lib.judges.training.loop import Budget, fit
from lib.judges.training.recipes import SIZE, Recipe
from lib.judges.training.shards import write_shards
from lib.judges.training.tower import Heads, TowerLoss


@dataclass(frozen=True)
class Plan:
    """How much of everything: training objects, and the budgets of both stages."""

    objects: int
    tower: Budget
    language: Budget


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
    """Trains a judge and writes its folder `weights`; the curves of both stages (column `stage`).

    scratch: data and checkpoints; whatever it holds is used, so a killed run goes on where it was. start: folder of
    weights to begin with instead of random ones. device: "auto" is a GPU where there is one.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / ".gitignore").write_text("*\n")
    paths = write_shards(recipe, scratch / "data", plan.objects, workers)
    data = Collection.read(recipe, paths)
    model, processor = recipe.build(size)
    if start is not None:
        model = type(model).from_pretrained(start, dtype=torch.float32)
    model = batch_attention(model.to(torch.device(device if device != "auto" else _best()))).train()
    model.set_attn_implementation("eager")  # on a CPU the fused kernels are slow backwards
    curves = [
        stage(model, processor, data, recipe, budget, scratch).assign(stage=stage.__name__.removeprefix("train_"))
        for stage, budget in ((train_tower, plan.tower), (train_language, plan.language))
    ]
    save_mini(weights, model, processor)
    return pd.concat(curves, ignore_index=True)


def train_tower(model, processor, data: Collection, recipe: Recipe, budget: Budget, scratch: Path) -> pd.DataFrame:
    """Stage 1; only the vision part of `model` changes."""
    heads = seeded(recipe.seed, lambda: Heads(model.config.text_config.hidden_size)).to(model.device)
    parts = nn.ModuleDict({"vision": halves(model)[0], "heads": heads})
    return fit(parts, TowerLoss(model, processor, heads, data, recipe.seed), budget, scratch / "tower.pt")


def train_language(model, processor, data: Collection, recipe: Recipe, budget: Budget, scratch: Path) -> pd.DataFrame:
    """Stage 2; only the language part of `model` changes."""
    readout = seeded(recipe.seed, lambda: nn.Linear(model.config.text_config.hidden_size, 1)).to(model.device)
    parts = nn.ModuleDict({"language": halves(model)[1], "readout": readout})
    features = Features(model, processor, data)
    loss = LanguageLoss(model, processor, readout, data, features, recipe.seed)
    return fit(parts, loss, budget, scratch / "language.pt")


def halves(model) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """The modules of a model that see, and those that read."""
    inside = dict(model.model.named_children())
    language = {"model": inside.pop("language_model"), "head": model.lm_head}
    return nn.ModuleDict(inside), nn.ModuleDict(language)


def seeded(seed: int, build):
    """What `build` makes of torch's global random numbers, from a seed and without touching them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _best() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
