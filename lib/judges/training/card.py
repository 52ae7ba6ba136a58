"""The card beside a judge's weights: what it is, how it was made, what it reaches, what it does not show."""

import os
import platform
from pathlib import Path

import pandas as pd
import torch

from lib.judges.training.questions import SHARES
from lib.judges.training.recipes import Recipe
from lib.judges.training.samples import CANDIDATES, PHOTOS, SHOWN_TWICE, thinned
from lib.judges.training.train import Plan

COLUMNS = ["layout", "case", "n", "raw", "flips", "consistent", "low", "high", "bar"]


def write_training_facts(folder: Path, recipe: Recipe, plan: Plan, curves: pd.DataFrame, start: Path | None):
    """`training.csv` in a judge's folder: what its card says of the training, one row a fact."""
    done = curves.groupby("stage").agg(steps=("step", "max"), seconds=("seconds", "max"))
    rows = {
        "class": recipe.build()[0].__class__.__name__,
        "seed": recipe.seed,
        "objects": f"{plan.objects} of the procedural training split, from number {recipe.first}",
        "variety": "every other eight objects rounded, ornamented and bent",
        "pictures": f"{PHOTOS} photos and {CANDIDATES} candidates an object, the first intact; candidates of the first "
        f"{SHOWN_TWICE} objects also in another layout",
        f"corruption mix, first {SHOWN_TWICE} objects": _shares(recipe.chances),
        "corruption mix, other objects": _shares(thinned(recipe.chances)),
        "charges (constant, times severity)": ", ".join(f"{k} {a:g} + {b:g} s" for k, (a, b) in recipe.charge.items()),
        "charges for another object": "same category {:g}, another {:g}".format(*recipe.wrong),
        "layout shares": _shares(SHARES),
        "began from": "random weights" if start is None else _history(start),
        **{
            f"stage {stage}": f"{row.steps + 1:.0f} steps, {row.seconds / 60:.0f} minutes"
            for stage, row in done.iterrows()
        },
        "hardware": f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads, torch {torch.__version__}",
    }
    pd.Series(rows, name="value").rename_axis("fact").to_csv(folder / "training.csv")


def write_card(folder: Path, table: pd.DataFrame, test_objects: str):
    """`README.md` in a judge's folder, from its `training.csv` and its rows of the evaluation table."""
    facts = pd.read_csv(folder / "training.csv")
    rows = table.loc[table.judge == folder.name, COLUMNS]
    (folder / "README.md").write_text(
        f"# {folder.name}, a miniature judge\n\n"
        f"A tiny vision-language model ({facts.value[0]}) trained from scratch to say which of two renderings of "
        "procedural furniture is damaged less. It carries the default study of this repository on a CPU. **Nothing "
        "measured with it is evidence about real models**: it shows that the protocol runs, and what its statistics "
        "do.\n\n"
        "Rebuild it with `./run_all.sh A2`; evaluate it alone with `./run_all.sh A2 -p train False`.\n\n"
        f"## Training\n\n{facts.to_markdown(index=False)}\n\n"
        "Without a photo the label is the distance to the object's own intact mesh, so a clean but wrong object is "
        "right by construction; with a photo it is the distance to the object of the photo. It never saw the output of "
        "a generator, nor a mesh that was not made by a program.\n\n"
        f"## Evaluation\n\n{test_objects}. Both orders; `raw` is the accuracy over both, `flips` the share of pairs "
        "without a consistent verdict, `consistent` the accuracy of the rest, `low` and `high` the 95% interval of "
        "`raw` over objects; for identical images `raw` is the mean probability of the first label. `bar` is what was "
        f"aimed at.\n\n{rows.to_markdown(index=False, floatfmt='.3f')}\n",
        encoding="utf-8",
    )


def _history(start: Path) -> str:
    """How the weights were made that training began with, where their folder tells."""
    if not (told := start / "training.csv").exists():
        return f"the weights in {start.name}"
    facts = pd.read_csv(told, index_col="fact").value
    stages = ", ".join(f"{fact} {value}" for fact, value in facts.items() if fact.startswith("stage "))
    return f"weights trained on {facts.objects} ({stages}), which began from {facts['began from']}"


def _shares(table: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.2g}" for name, share in table.items())


def _processor() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() + " CPU"
