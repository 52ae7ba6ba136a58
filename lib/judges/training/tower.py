"""Stage 1: the vision tower alone, taught by throw-away heads what its tokens should tell the language model.

A candidate's tokens tell what it looks like, where it is damaged and how badly; the photo's tokens tell what the intact
object's montage looks like. All heads are linear but one, so that a small language model can read the same.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from lib.data.procedural import CATEGORIES
from lib.judges.forward import encode_images, pixel_values
from lib.judges.training.collection import MONTAGE, PHOTO, Collection
from lib.judges.training.recipes import KINDS
from lib.judges.training.samples import EXTRA
from lib.judges.training.truth import appearance, cells, preference
from lib.placement import mixed_precision

OBJECTS, SHOWN, EXTRAS = 12, 4, 2  # in a batch: objects, two of a category; montages, extra-layout candidates of each
VIEWED = (MONTAGE, "turntable24", "splat")  # layouts that show the same four sides of a candidate, in one image


class Heads(nn.Module):
    """Throw-away read-outs of tokens (B,16,hidden)."""

    def __init__(self, hidden: int):
        super().__init__()
        self.montage, self.view = nn.Linear(hidden, 64), nn.Linear(hidden, 64)
        self.damage = nn.Linear(hidden, 4)
        self.quality = nn.ModuleDict({layout: nn.Linear(hidden, 1) for layout in (MONTAGE, *EXTRA)})
        self.kind, self.category = nn.Linear(hidden, len(KINDS)), nn.Linear(hidden, len(CATEGORIES))
        self.compare = nn.Sequential(nn.Linear(4 * hidden, hidden), nn.GELU(), nn.Linear(hidden, 5))
        self.sharpness = nn.Parameter(torch.tensor(3.0))  # log of what a difference in predicted error is worth

    def difference(self, photo: Tensor, candidate: Tensor) -> Tensor:
        """(B,16,5) of a candidate beside the photo: its error, when averaged, and where it is (see `cells`)."""
        return self.compare(torch.cat([photo, candidate, photo * candidate, (photo - candidate).abs()], -1))


def encode(model, processor, images: Tensor) -> Tensor:
    """Images (n,112,112,3) uint8 to tokens (n,16,hidden) on the model's device, computed in half precision."""
    pixels = pixel_values(processor, images.to(model.device))
    with mixed_precision(model.device):
        return encode_images(model, pixels)


class TowerLoss:
    """The loss of stage 1 as a function of the step."""

    def __init__(self, model, processor, heads: Heads, data: Collection, seed: int):
        self.model, self.processor, self.heads, self.data, self.seed = model, processor, heads, data, seed
        self.device = model.device
        self.members = [(data.category == number).nonzero()[:, 0].numpy() for number in range(len(CATEGORIES))]

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Objects (OBJECTS,), neighbors of one category; candidates (OBJECTS, SHOWN + EXTRAS)."""
        chosen = rng.permutation(len(CATEGORIES))[: OBJECTS // 2]
        items = np.concatenate([rng.choice(self.members[number], 2, replace=False) for number in chosen])
        candidates = rng.permuted(np.tile(np.arange(self.data.kinds.shape[1]), (OBJECTS, 1)), axis=1)[:, :SHOWN]
        extra = [rng.choice(max(len(self.data.extra[item]), EXTRAS), EXTRAS, replace=False) for item in items]
        return torch.from_numpy(items), torch.from_numpy(np.concatenate([candidates, extra], 1))

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, 1, step])
        data, heads = self.data, self.heads
        items, candidates = self.draw(rng)
        mirror = bool(rng.random() < 0.5)
        whose, which, layouts, images = [], [], [], []
        parts = [(PHOTO, items, torch.from_numpy(rng.integers(data.photo.shape[1], size=OBJECTS)))]
        parts.append((MONTAGE, items.repeat_interleave(SHOWN), candidates[:, :SHOWN].flatten()))
        for place, layout in enumerate(EXTRA):
            mine = data.extra_layout[items] == place
            if mine.any() and not (mirror and layout == "turntable24"):  # the 24-view sheet has no mirror image
                parts.append((layout, items[mine].repeat_interleave(EXTRAS), candidates[mine, SHOWN:].flatten()))
        for layout, item, candidate in parts:
            shown = data.images(layout, item, candidate, mirror)
            view = rng.integers(shown.shape[1])  # of seven_images one of three
            images.append(shown[:, view])
            whose.append(item), which.append(candidate), layouts.append(layout)
        sizes = [len(item) for item in whose]
        encoded = encode(self.model, self.processor, torch.cat(images)).float()
        tokens = dict(zip(layouts, encoded.split(sizes), strict=True))
        losses = dict.fromkeys(("appearance", "damage", "quality", "rank", "kind", "category", "reference"), 0.0)
        for layout, item, candidate, shown in zip(layouts, whose, which, images, strict=True):
            seen, share = tokens[layout], len(item) / sum(sizes)
            of_view = layout == "seven_images"
            true = shown if of_view or layout == MONTAGE else data.images(MONTAGE, item, candidate, mirror)[:, 0]
            drawn = (heads.view if of_view else heads.montage)(seen)
            losses["appearance"] += share * smooth_l1_loss(drawn, appearance(true).to(self.device), beta=0.1)
            target = data.category[item].to(self.device)
            losses["category"] += share * cross_entropy(heads.category(seen.mean(1)), target)
            if layout == PHOTO:
                continue
            if layout in VIEWED:
                target = cells(data.damage(item, candidate, mirror), 14).to(self.device)
                losses["damage"] += share * smooth_l1_loss(heads.damage(seen), target, beta=0.1)
            target = data.kinds[item, candidate].to(self.device)
            losses["kind"] += share * cross_entropy(heads.kind(seen.mean(1)), target)
            error = data.error[item, candidate].to(self.device)
            quality = heads.quality[layout](seen).mean((1, 2))
            losses["quality"] += share * smooth_l1_loss(quality, error, beta=0.05)
            a, b = torch.triu_indices(len(item), len(item), 1, device=self.device)  # also across objects
            wanted = preference(error[a], error[b])
            losses["rank"] += share * binary_cross_entropy_with_logits(
                (quality[b] - quality[a]) * heads.sharpness.exp(), wanted
            )
        losses["reference"] = self.reference(tokens, items, candidates[:, :SHOWN], mirror)
        weights = {"appearance": 4, "damage": 8, "quality": 4, "rank": 1, "kind": 0.2, "category": 0.1, "reference": 4}
        return sum(weights[name] * loss for name, loss in losses.items()), {k: v.item() for k, v in losses.items()}

    def reference(self, tokens: dict[str, Tensor], items: Tensor, candidates: Tensor, mirror: bool) -> Tensor:
        """Each photo beside its own candidates, one of the same category, and one of another."""
        row, first = torch.arange(len(items)), torch.zeros_like(items)
        photo = row.repeat(2 + SHOWN)
        shown = torch.cat([row ^ 1, (row + 2) % len(row), row.repeat(SHOWN)])
        place = torch.cat([first, first, torch.arange(SHOWN).repeat_interleave(len(row))])
        other, which, whose = items[shown], candidates[shown, place], items[photo]
        wrong, mapped = slice(2 * len(row)), slice(3 * len(row))
        error = self.data.error[other, which]
        error[wrong] = self.data.wrong_error(other[wrong], which[wrong], whose[wrong])
        where = cells(self.data.damage(other[mapped], which[mapped], mirror, photo=whose[mapped]), 14)
        montage = tokens[MONTAGE].unflatten(0, (len(row), SHOWN))[shown.to(self.device), place]
        seen = self.heads.difference(tokens[PHOTO][photo], montage)
        loss = smooth_l1_loss(seen[..., 0].mean(1), error.to(self.device), beta=0.05)
        return loss + 2 * smooth_l1_loss(seen[mapped, :, 1:], where.to(self.device), beta=0.1)
