"""Conditioner repair: the condition of a degraded photo is mended before frozen flows see it (the paper's Methods)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lib.adapters.train import write_record
from lib.errors import BadInput
from lib.placement import mixed_precision
from lib.training import Budget, fit, seeded
from lib.trellis.layers import LayerNorm, zero
from lib.trellis.transformer import Block

WEIGHTS, CONFIG = "repair.safetensors", "repair.json"
HEAD = 64  # channels of an attention head, as in DINOv2
COMPARED = 64  # photos in one call


@dataclass(frozen=True)
class RepairRecipe:
    """All that training depends on besides the features. The paper prints none of it."""

    blocks: int = 2  # enough to look around in the photo, and a small part of the generator
    ratio: float = 4.0  # hidden width of the MLP, as in every transformer here
    rate: float = 1e-3  # as all miniature models
    steps: int = 400  # about a minute on one core
    batch: int = 16  # photos
    seed: int = 0


class Repair(nn.Module):
    """Residual adapter A(c) = c + f(c) on the condition's tokens; f is zero at first."""

    def __init__(self, width: int, blocks: int = 2, ratio: float = 4.0):
        super().__init__()
        self.config = {"width": width, "blocks": blocks, "ratio": ratio}
        self.blocks = nn.ModuleList(Block(width, max(1, width // HEAD), ratio) for _ in range(blocks))
        self.norm = LayerNorm(width, elementwise_affine=False)
        self.out = zero(nn.Linear(width, width))

    def forward(self, cond: Tensor, scale: float = 1.0) -> Tensor:
        """Condition [B, L, C] to c + scale f(c)."""
        tokens = cond
        for block in self.blocks:
            tokens = block(tokens)
        return cond + scale * self.out(self.norm(tokens))


def train_repair(
    degraded: Tensor,
    clean: Tensor,
    held: tuple[Tensor, Tensor],
    recipe: RepairRecipe,
    folder: str | Path,
    device="cpu",
) -> dict:
    """Regression A(condition of the degraded photo) -> condition of the clean one, both [N, L, C]; the record.

    held: degraded and clean conditions that are not trained on. The folder then holds the adapter and training.json
    with the recipe, the curve and the mean squared difference from the clean condition on `held`, before and after,
    of all and of each photo.
    Resumes where it was killed. Raises BadInput for conditions that do not belong together.
    """
    for source, (one, other) in {"degraded": (degraded, clean), "held": held}.items():
        if one.shape != other.shape or one.shape[1:] != degraded.shape[1:] or not len(one):
            problem = f"shapes {list(one.shape)} and {list(other.shape)} of degraded and clean conditions do not match"
            raise BadInput(source, problem, "Give the condition of one clean photo for each degraded one")
    folder = Path(folder)
    repair = seeded(recipe.seed, lambda: Repair(degraded.shape[-1], recipe.blocks, recipe.ratio)).to(device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([recipe.seed, step])
        rows = rng.choice(len(degraded), min(recipe.batch, len(degraded)), replace=False)
        with mixed_precision(torch.device(device)):
            repaired = repair(degraded[rows].float().to(device))
        error = F.mse_loss(repaired, clean[rows].float().to(device))
        return error, {"loss": error.item()}

    before = feature_errors(lambda cond: cond, *held, device)
    checkpoint = folder / "repair.pt"
    curve = fit(nn.ModuleDict({"repair": repair}), loss, Budget(steps=recipe.steps), checkpoint, recipe.rate)
    after = feature_errors(repair, *held, device)
    record = {"recipe": asdict(recipe) | {"method": "conditioner_repair"}, "examples": len(degraded)}
    record |= {"held": len(held[0]), "mse_before": before.mean().item(), "mse_after": after.mean().item()}
    record |= {"each_before": before.tolist(), "each_after": after.tolist()}
    record |= {"seconds": float(curve.seconds.iloc[-1]), "curve": curve.to_dict("records")}
    save_file({key: value.cpu().contiguous() for key, value in repair.state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(repair.config))
    write_record(record, folder)
    checkpoint.unlink()
    return record


@torch.no_grad()
def feature_errors(repair, degraded: Tensor, clean: Tensor, device="cpu") -> Tensor:
    """Mean squared difference of each repaired condition from the clean one: [N, L, C] twice to [N]."""
    parts = zip(degraded.split(COMPARED), clean.split(COMPARED), strict=True)
    errors = [(repair(one.float().to(device)) - other.float().to(device)).square().mean((1, 2)) for one, other in parts]
    return torch.cat(errors).cpu()


def load_repair(folder: str | Path, width: int | None = None) -> Repair:
    """A saved adapter; BadInput where it is missing, damaged, or not for conditions of this width."""
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise BadInput(folder, f"no {name} in it", "Give a folder that train_repair wrote.")
    try:
        repair = Repair(**json.loads((folder / CONFIG).read_text()))
        repair.load_state_dict(load_file(folder / WEIGHTS))
    except (ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadInput(folder, f"{CONFIG} and {WEIGHTS} are no repair ({error})", "Train it again.") from error
    if width not in (None, repair.config["width"]):
        problem = f"it is for conditions of width {repair.config['width']}, not {width}"
        raise BadInput(folder, problem, "Use it with the conditioner it was trained on.")
    return repair.eval().requires_grad_(False)
