"""The card beside the generator's weights: what it is, how it was made, what it reaches, what it does not show."""

import os
import platform
from pathlib import Path

import pandas as pd
import torch

from lib.generator.recipe import Recipe


def write_training_facts(folder: Path, recipe: Recipe, curves: pd.DataFrame, start: Path | None):
    """`training.csv` in the generator's folder: what its card says of the training, one row a fact."""
    done = curves.groupby("stage", sort=False).agg(steps=("step", "max"), seconds=("seconds", "max"))
    sizes = {path.stem: path.stat().st_size for path in sorted((folder / "ckpts").rglob("*.safetensors"))}
    data = recipe.data
    rows = {
        "seed": recipe.seed,
        "data": f"{data.objects - data.held} objects from the first of the procedural training split, "
        f"{data.photos} photos of each, and all of it mirrored; {data.held} more to watch",
        "pairs that do not match": f"{recipe.structure.mismatch:.0%} of those of the structure flow, see its module",
        "began from": "random weights" if start is None else f"the weights in {start.name}",
        **{
            f"stage {stage.replace('_', ' ')}": f"{row.steps + 1:.0f} steps, {row.seconds / 60:.0f} minutes"
            for stage, row in done.iterrows()
        },
        "hardware": f"{_processor()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "bytes of the weights": f"{sum(sizes.values()):,}",
    }
    pd.Series(rows, name="value").rename_axis("fact").to_csv(folder / "training.csv")


def write_card(folder: Path, table: pd.DataFrame, test_objects: str):
    """`README.md` in the generator's folder, from its `training.csv` and the evaluation table."""
    facts = pd.read_csv(folder / "training.csv")
    rows = table.astype(object).where(table.notna(), "")  # a measured number has no interval
    (folder / "README.md").write_text(
        "# A miniature generator\n\n"
        "From a photo to a mesh and to Gaussians at 64^3, with the classes of `lib/trellis` at small size, in the "
        "published folder layout. It was trained from scratch on procedural furniture and carries the default study of "
        "this repository on a CPU. **Nothing measured with it is evidence about the real model**: it shows that the "
        "study runs, and what its statistics do.\n\n"
        "Rebuild it with `./run_all.sh A1`; evaluate it alone with `./run_all.sh A1 -p train False`. Load it with "
        "`lib.trellis.pipeline.load_pipeline`, and sample with `fill_interior=True`: at this size the inner surface "
        "that the published extraction leaves would count as error.\n\n"
        f"## Training\n\n{facts.to_markdown(index=False)}\n\n"
        "The conditioner stands in for DINOv2 and was taught by supervision. The mesh decoder was compared with the "
        "analytic field, without rendering; its deformation and weights stay at zero. `ckpts` holds both encoders too: "
        "training and probes of the flows need them.\n\n"
        f"## Evaluation\n\n{test_objects}. `low` and `high` are the 95% interval over objects; `bar` is what was aimed "
        f"at.\n\n{rows.to_markdown(index=False, floatfmt='.3f')}\n\n"
        "Scores compare a mesh with the true one in the same frame; what one photo hides cannot be known, so no "
        "generator reaches 1. It knows eight categories of furniture made by a program, seen from the front at eye "
        "level and above, and nothing else.\n",
        encoding="utf-8",
    )


def _processor() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() + " CPU"
