"""The training loop of both stages: a budget, a learning rate that ends at zero, checkpoints that survive a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

WARMUP = 50  # steps
DECLINE = 0.3  # share of the budget over which the learning rate falls to zero; before, it waits for a longer budget
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

    loss: of a step's number, so that a resumed run sees what an uninterrupted one would; with named values for the
    curve. Resumes from `checkpoint` where there is one; a finished run is only loaded.
    """
    weights = list(parts.parameters())
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, betas=(0.9, 0.98))
    state = {"step": 0, "seconds": 0.0, "curve": []}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=weights[0].device, weights_only=True)
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
    step, curve, begun, saved = state["step"], state["curve"], monotonic() - state["seconds"], monotonic()
    with tqdm(total=100, initial=0, desc=checkpoint.stem, mininterval=5, bar_format="{l_bar}{bar}| {postfix}") as bar:
        while (progress := budget.progress(step, monotonic() - begun)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / WARMUP, (1 - progress) / DECLINE)
            total, values = loss(step)
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if curve and curve[-1]["step"] % 10:
                curve.pop()
            curve.append({"step": step, "seconds": monotonic() - begun, **values})
            if step % 10 == 0:
                bar.set_postfix_str(f"step {step}, " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
                bar.n = round(100 * progress)
            step += 1
            if monotonic() - saved > SAVE:
                _save(checkpoint, parts, optimizer, step, monotonic() - begun, curve)
                saved = monotonic()
    _save(checkpoint, parts, optimizer, step, monotonic() - begun, curve)
    return pd.DataFrame(curve)


def _save(checkpoint: Path, parts, optimizer, step: int, seconds: float, curve: list):
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_suffix(".partial")
    state = {"parts": parts.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step, "seconds": seconds, "curve": curve}, partial)
    partial.replace(checkpoint)
