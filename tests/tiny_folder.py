"""The tiny pipeline of random weights as a folder in the published layout."""

import json
from pathlib import Path

from lib.trellis.checkpoints import save_model
from lib.trellis.pipeline import Pipeline
from lib.trellis.tiny import tiny_args


def write_pipeline(pipeline: Pipeline, folder: Path) -> Path:
    """`pipeline` is of `lib.trellis.tiny.tiny_pipeline`."""
    args = tiny_args()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.json").write_text(json.dumps({"name": "TrellisImageTo3DPipeline", "args": args}))
    for role, stem in args["models"].items():
        save_model(pipeline.models[role], folder, stem)
    pipeline.conditioner.model.save_pretrained(folder / args["image_cond_model"])
    return folder
