"""The training loop of all miniature models: a budget, a falling learning rate, checkpoints that survive a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.muon import Muon

WARMUP = 50  # steps
DECLINE = 0.6  # share of the budget over which the learning rate falls to zero; before, it waits for a longer budget
MATRIX, MUON = 64, 4  # rows and columns from which a linear layer is Muon's; its learning rate beside AdamW's
SAVE = 60  # seconds between checkpoints: what a kill can cost


@dataclass(frozen=True)
class Budget:
    """Training ends after so many steps or minutes, whichever comes first; only steps repeat to the bit."""

    steps: float = inf
    minutes: float = inf

    def progress(self, step: int, seconds: float) -> float:
        return max(step / self.steps, seconds / (60 * self.minutes))


def fit(
    parts: nn.ModuleDict,
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    budget: Budget,
    checkpoint: Path,
    rate: float = 1e-3,
    decay: float = 0.05,
) -> pd.DataFrame:
    """Trains `parts`; the curve: step, seconds and losses of every tenth step and the last.

    By Muon (Jordan et al., 2024), which took half the steps of AdamW here; what is no matrix, by AdamW at `rate`.

    loss: of a step's number, so that a resumed run sees what an uninterrupted one would; with named values for the
    curve. Resumes from `checkpoint` where there is one; a finished run is only loaded.
    """
    weights = list(parts.parameters())
    optimizers = _optimizers(parts, rate, decay)
    state = {"step": 0, "seconds": 0.0, "curve": []}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=weights[0].device, weights_only=True)
        parts.load_state_dict(state["parts"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
    step, curve, begun, saved = state["step"], state["curve"], monotonic() - state["seconds"], monotonic()
    with tqdm(total=100, initial=0, desc=checkpoint.stem, mininterval=5, bar_format="{l_bar}{bar}| {postfix}") as bar:
        while (progress := budget.progress(step, monotonic() - begun)) < 1:
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["full"] * min(1, (step + 1) / WARMUP, (1 - progress) / DECLINE)
            total, values = loss(step)
            parts.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            if curve and curve[-1]["step"] % 10:
                curve.pop()
            curve.append({"step": step, "seconds": monotonic() - begun, **values})
            if step % 10 == 0:
                bar.set_postfix_str(f"step {step}, " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
                bar.n = round(100 * progress)
            step += 1
            if monotonic() - saved > SAVE:
                _save(checkpoint, parts, optimizers, step, monotonic() - begun, curve)
                saved = monotonic()
    if step > state["step"] or not checkpoint.exists():
        _save(checkpoint, parts, optimizers, step, monotonic() - begun, curve)
    return pd.DataFrame(curve)


def open_scratch(folder: Path):
    """A folder for data and checkpoints, which git does not see."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def outdated(file: Path, checkpoint: Path) -> bool:
    """Whether what was made with a checkpoint's weights is missing or older than the last training step."""
    return not file.exists() or file.stat().st_mtime < checkpoint.stat().st_mtime


def seeded(seed: int, build: Callable):
    """What `build` makes of torch's global random numbers, from a seed and without touching them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _optimizers(parts: nn.ModuleDict, rate: float, decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of linear layers, AdamW for the rest; tied embeddings and small read-outs are the rest."""
    linear = [m.weight for m in parts.modules() if isinstance(m, nn.Linear) and min(m.weight.shape) >= MATRIX]
    tied = {id(m.weight) for m in parts.modules() if isinstance(m, nn.Embedding)}
    matrices = {id(weight): weight for weight in linear if id(weight) not in tied and weight.requires_grad}
    rest = [weight for weight in parts.parameters() if id(weight) not in matrices and weight.requires_grad]
    adam = torch.optim.AdamW([{"params": rest, "full": rate}], lr=rate, weight_decay=decay, betas=(0.9, 0.98))
    if not matrices:
        return [adam]
    group = {"params": list(matrices.values()), "full": MUON * rate}
    return [adam, Muon([group], lr=MUON * rate, weight_decay=decay)]


def _save(checkpoint: Path, parts, optimizers, step: int, seconds: float, curve: list):
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_suffix(".partial")
    state = {"parts": parts.state_dict(), "optimizers": [one.state_dict() for one in optimizers]}
    torch.save(state | {"step": step, "seconds": seconds, "curve": curve}, partial)
    partial.replace(checkpoint)
