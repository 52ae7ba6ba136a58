"""One training loop for adapters of the flows, whatever the objective.

    examples = {"slat": [Example(cond, winner, loser), ...]}
    training = train(pipeline, examples, held, LoraRecipe("dpo", beta=0.5), folder)

The folder then holds a subfolder for each adapted flow in peft's layout, and training.json: the recipe, and for each
stage the curve, the probe before and after (mean and each example's), and whether training diverged.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn
from tqdm.auto import trange

from lib.adapters.examples import ROLES, Batch, Example, Latent, Probe, make_batch, velocity_errors
from lib.adapters.objectives import METHODS, REDUCTIONS, Errors, Method
from lib.errors import BadInput
from lib.placement import mixed_precision, recomputed, release_memory
from lib.trellis.layers import require
from lib.trellis.lora import ATTENTION, adapter_names, add_lora, remove_lora, save_lora, use_adapter
from lib.trellis.pipeline import FLOWS, Pipeline
from lib.trellis.sparse import SparseTensor

STAGES = {"structure": ("structure",), "slat": ("slat",), "both": ("structure", "slat")}
FLOW = dict(zip(STAGES["both"], FLOWS, strict=True))
RELEASE = 2  # steps between `release_memory`
LEARNING = "learning"  # name of the adapter while it learns
RECORD = "training.json"

Pool = Sequence[Example] | Callable[[int], Sequence[Example]]


@dataclass(frozen=True)
class LoraRecipe:
    """All that training depends on besides the examples. The paper prints the methods, the betas and the stage."""

    method: str
    stage: str = "slat"  # the paper's
    beta: float = 0.1  # the paper's first for DPO; ORPO's weight of the odds, too
    reduction: str | None = None  # of a latent's errors; None: the method's own
    rank: int = 16  # a tenth of the miniature flows' width; DSO has 64 on a width of 1,024
    alpha: float = 32.0  # twice the rank, as in DSO
    targets: tuple[str, ...] = (*ATTENTION, "mlp.mlp.0", "mlp.mlp.2")  # the paper: "the linear layers"
    rate: float = 1e-3  # so few steps must do; DSO takes thousands at 5e-6
    decay: float = 0.01  # AdamW's customary value, and DSO's
    steps: int = 60  # of DPO, about a minute on one core
    batch: int = 8  # examples; a pair counts as one
    drop: float = 0.1  # of the conditions, as when the flow was made: guidance needs the flow without one
    clip: float = 1.0  # norm of the gradient, as when the flow was made
    seed: int = 0
    probe_every: int = 20  # steps; the probe costs a forward pass

    def __post_init__(self):
        require("method", self.method, tuple(METHODS))
        require("stage", self.stage, tuple(STAGES))
        require("reduction", self.reduction, (None, *REDUCTIONS))


def train(
    pipeline: Pipeline,
    examples: Mapping[str, Pool],
    held: Mapping[str, Sequence[Example]],
    recipe: LoraRecipe,
    folder: str | Path,
) -> dict:
    """Trains an adapter on each flow of the recipe's stage; what training.json holds. The pipeline is left as it was.

    examples: by stage ("structure", "slat"); a list, or for pairs that are made while the flow learns a function of the
        step, which may sample from the pipeline with adapter=LEARNING. A step for which it gives none is skipped.
    held: by stage, with winners: what the probe looks at.
    A loss or gradient that is not finite ends training before it reaches the weights; `stopped` then is the step.
    `diverged` says that, or that the probe ends above the error of answering zero. training.json is written last.
    Raises BadInput for a stage without examples, and an example that lacks what the method reads.
    """
    stages, folder = STAGES[recipe.stage], Path(folder)
    method = METHODS[recipe.method]
    for stage in stages:
        for name, given in (("examples", examples), ("held", held)):
            if not callable(given.get(stage)) and not given.get(stage):
                raise BadInput(name, f"there are none for stage {stage!r}", "Give some for each stage that is adapted")
        _read(held[stage], METHODS["sft_best"], "held")
        if not callable(examples[stage]):
            _read(examples[stage], method, "examples")
    record = {"recipe": asdict(recipe) | {"reduction": recipe.reduction or method.reduction}, "stages": {}}
    try:
        for stage in stages:
            flow = pipeline.models[FLOW[stage]]
            with recomputed(flow.blocks, pipeline.device):
                record["stages"][stage] = train_flow(flow, examples[stage], held[stage], recipe, stage)
            save_lora(flow, folder / FLOW[stage], LEARNING)
    finally:
        for stage in stages:
            if LEARNING in adapter_names(pipeline.models[FLOW[stage]]):
                remove_lora(pipeline.models[FLOW[stage]], LEARNING)
    write_record(record, folder)
    return record


def write_record(record: dict, folder: Path):
    """training.json, whole or not at all: where it is, training has ended."""
    partial = folder / f".{RECORD}"
    partial.write_text(json.dumps(record))
    partial.replace(folder / RECORD)


def train_flow(flow: nn.Module, examples: Pool, held: Sequence[Example], recipe: LoraRecipe, stage: str) -> dict:
    """One stage's part of the record. The flow keeps the adapter, called LEARNING, in float32."""
    started, method, device = perf_counter(), METHODS[recipe.method], next(flow.parameters()).device
    add_lora(flow, LEARNING, recipe.rank, recipe.alpha, recipe.targets, recipe.seed)
    weights = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    for weight in weights:
        weight.data = weight.data.float()  # steps are too small for the 16 bits that the flow may have
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=recipe.decay)
    probe, probed, curve, stopped = Probe(held, recipe.seed, device=device), [], [], None
    for step in trange(recipe.steps, desc=f"{recipe.method}, {stage}", mininterval=5):
        line = {"step": step}
        if step % recipe.probe_every == 0:
            probed.append(probe(flow))
            line["probe"] = probed[-1].mean().item()
        rng = np.random.default_rng([recipe.seed, step])
        pool = examples(step) if callable(examples) else examples
        if not pool:
            curve.append(line)
            continue
        rows = rng.choice(len(pool), min(recipe.batch, len(pool)), replace=False)
        chosen = _read([pool[row] for row in rows], method, "examples")
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        errors = _errors(flow, make_batch(chosen, generator, recipe.drop, device=device), recipe, method)
        loss, margin = method.loss(errors, recipe.beta)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, recipe.clip)
        line |= {"loss": loss.item(), "gradient": norm.item()}
        line |= {role: getattr(errors, role).mean().item() for role in ROLES if len(getattr(errors, role))}
        if margin is not None:
            line["accuracy"] = (margin.sign().mean().item() + 1) / 2  # a tie counts half
        curve.append(line)
        if not math.isfinite(line["loss"]) or not math.isfinite(line["gradient"]):
            stopped = step
            break
        optimizer.step()
        if step % RELEASE == 0:
            release_memory()
    before, after = probed[0], probe(flow)
    return {
        "examples": "online" if callable(examples) else len(examples),
        "held": len(held),
        "probe_before": before.mean().item(),
        "probe_after": after.mean().item(),
        "probe_blank": probe.blank,
        "each_before": before.tolist(),
        "each_after": after.tolist(),
        "stopped": stopped,
        "diverged": stopped is not None or not after.mean().item() < probe.blank,
        "seconds": perf_counter() - started,
        "curve": curve,
    }


def _errors(flow: nn.Module, batch: Batch, recipe: LoraRecipe, method: Method) -> Errors:
    def ask() -> tuple[torch.Tensor, ...]:
        with mixed_precision(batch.t.device):  # margins in bfloat16 err by hundredths
            errors = velocity_errors(flow, batch, recipe.reduction or method.reduction)
        return errors.tensor_split([batch.winners])

    if not method.base:
        return Errors(*ask())
    with use_adapter(flow, None), torch.no_grad():  # the same flow with the adapter off
        base = ask()
    return Errors(*ask(), *base)


def _read(examples: Sequence[Example], method: Method, source: str) -> list[Example]:
    """The examples with what the method reads of them."""
    read = [replace(one, **{role: None for role in ROLES if role not in method.reads}) for one in examples]
    for number, one in enumerate(read):
        absent = [role for role in method.reads if _empty(getattr(one, role))]
        if len(absent) > method.alone:
            raise BadInput(f"{source}[{number}]", f"it has no {absent[0]}", "Leave it out, or give its latent")
    return read


def _empty(latent: Latent | None) -> bool:
    return latent is None or not (latent.feats if isinstance(latent, SparseTensor) else latent).numel()
