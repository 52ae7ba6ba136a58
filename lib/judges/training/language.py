"""Stages 2 and 3: the language model, on what the finished tower says of every picture; then both together."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from tqdm.auto import tqdm

from lib.judges.forward import answer_logits, token_ids
from lib.judges.training.collection import MONTAGE, PHOTO, Collection
from lib.judges.training.questions import Questions, draw
from lib.judges.training.samples import EXTRA
from lib.judges.training.tower import VIEWED, encode
from lib.judges.training.truth import SHARPNESS, cells, preference
from lib.judges.vlm import label_ids
from lib.placement import mixed_precision

PAIRS = 32  # a batch, each in both orders
ENCODED = 64  # images in one call


class Features:
    """The tower's tokens for every picture of a collection, plain and mirrored, in half precision on the device."""

    quarters = 1  # objects are as they stand: each turn would take a table of its own

    @torch.no_grad()
    def __init__(self, model, processor, data: Collection):
        self.model, self.processor, self.tables = model, processor, {}
        self.place = {layout: torch.full((len(data.photo),), -1) for layout in EXTRA}
        for layout in (PHOTO, MONTAGE, *EXTRA):
            items, shown = data.having(layout)
            if layout in EXTRA:
                self.place[layout][items] = torch.arange(len(items))
            for mirror in (False, True) if layout != "turntable24" else (False,):
                rows = [
                    data.images(layout, item.expand(shown), torch.arange(shown), mirror)
                    for item in tqdm(items, desc=f"encoding, {layout}", mininterval=5)
                ]
                self.tables[layout, mirror] = self._encode(torch.stack(rows))

    def _encode(self, images: Tensor) -> Tensor:
        """(n,shown,c,112,112,3) -> (n,shown,c,16,hidden)."""
        flat, done = images.flatten(0, 2), []
        for group in flat.split(ENCODED):
            done.append(encode(self.model, self.processor, group).bfloat16())
        return torch.cat(done).unflatten(0, images.shape[:3])

    def __call__(self, layout: str, item: Tensor, candidate: Tensor, mirror: bool, quarter: int = 0) -> list[Tensor]:
        """For each image of the layout (B,16,hidden) float32; `quarter` is 0."""
        place = self.place[layout][item] if layout in EXTRA else item
        return list(self.tables[layout, mirror][place, candidate].float().unbind(1))


class Live:
    """What `Features` tells, by the tower as it is now, so that it learns too; objects may be turned."""

    quarters = 4

    def __init__(self, model, processor, data: Collection):
        self.model, self.processor, self.data = model, processor, data

    def __call__(self, layout: str, item: Tensor, candidate: Tensor, mirror: bool, quarter: int = 0) -> list[Tensor]:
        """For each image of the layout (B,16,hidden) float32."""
        images = self.data.images(layout, item, candidate, mirror, quarter)
        tokens = encode(self.model, self.processor, images.flatten(0, 1))
        return list(tokens.float().unflatten(0, images.shape[:2]).unbind(1))


class LanguageLoss:
    """The loss of stages 2 and 3 as a function of the step: the answer, the end after it, and throw-away read-outs, of
    each candidate's error where its last image ends and of where it is damaged, by the photo where there is one."""

    def __init__(
        self, model, processor, readout: nn.Module, data: Collection, features: Features | Live, seed: Sequence[int]
    ):
        self.model, self.processor, self.readout, self.data = model, processor, readout, data
        self.features, self.seed, self.device = features, seed, model.device
        self.end = processor.tokenizer.eos_token_id

    def __call__(self, step: int) -> tuple[Tensor, dict[str, float]]:
        asked = draw(self.data, PAIRS, np.random.default_rng([*self.seed, step]), self.features.quarters)
        layout, error = asked.prompt.layout, asked.error.to(self.device)
        pictured = MONTAGE if layout.name == "montage_ref" else layout.name
        shown = zip(asked.of, asked.which, strict=True)
        seen = [self.features(pictured, *pair, asked.mirror, asked.quarter) for pair in shown]
        first, second = ([torch.cat(both) for both in zip(*order, strict=True)] for order in (seen, seen[::-1]))
        images = [*first, *second]
        if layout.photo:
            photo = self.features(PHOTO, asked.item, asked.photo, asked.mirror)[0]
            images = [photo.repeat(2, 1, 1), *images]
        error = torch.cat([error, error.flip(0)], 1)  # (2, 2 pairs): of the first and the second shown
        labels = label_ids(self.processor, asked.prompt)
        ids = token_ids(self.processor, asked.prompt, [image.shape[1] for image in images])
        answered = torch.cat([ids, torch.tensor([labels[step % 2]])])
        norm, kept = self.model.model.language_model.norm, []
        hook = norm.register_forward_hook(lambda module, inputs, output: kept.append(output))
        with hook, mixed_precision(self.device):
            logits = answer_logits(self.model, answered, images, keep=2)
        answer, after = logits.float().log_softmax(-1).unbind(1)
        target = preference(*error)[:, None]
        target = torch.cat([target, 1 - target], 1)
        if len(labels) == 3:
            tie = (-(((error[0] - error[1]) / SHARPNESS) ** 2)).exp()[:, None]
            target = torch.cat([target * (1 - tie), tie], 1)
        answered = -(target * answer[:, labels]).sum(1).mean()
        least = -(target * target.clamp(min=1e-9).log()).sum(1).mean()
        (hidden,) = kept
        ends = self._ends(ids, len(images), layout.count)
        read = self.readout(hidden[:, ends].float())[..., 0].T
        places = (torch.tensor(ends)[:, None] - torch.arange(images[0].shape[1], 0, -1)).flatten()
        where = self.readout(hidden[:, places].float())[..., 1:].unflatten(1, (2, -1))
        losses = {
            "answer": answered - least,  # divergence: 0 where every probability is the true one
            "read-out": smooth_l1_loss(read, error, beta=0.05),
            "end": -after[:, self.end].mean(),
            "damage": smooth_l1_loss(where, self._damage(asked), beta=0.1)
            if pictured in VIEWED
            else after.new_zeros(()),
        }
        values = {name: loss.item() for name, loss in losses.items()}
        right = ((answer[:, labels[0]] > answer[:, labels[1]]) == (error[0] < error[1])).float()
        clear = (error[0] - error[1]).abs() > 0.2
        values |= {"right where the gap is over .2": right[clear].mean().item()}
        total = losses["answer"] + 4 * losses["read-out"] + 4 * losses["damage"] + 0.05 * losses["end"]
        return total, values

    def _damage(self, asked: Questions) -> Tensor:
        """(2 pairs, 2, 16, 4): of the first and the second shown."""
        photo = asked.item if asked.prompt.layout.photo else None
        first, second = (
            cells(self.data.damage(*shown, asked.mirror, asked.quarter, photo), 14)
            for shown in zip(asked.of, asked.which, strict=True)
        )
        both = torch.stack([first, second], 1)
        return torch.cat([both, both.flip(1)]).to(self.device)

    def _ends(self, ids: Tensor, images: int, count: int) -> list[int]:
        """Places of the tokens after the last image of the first and of the second candidate."""
        image = self.model.config.image_token_id
        ends = ((ids[:-1] == image) & (ids[1:] != image)).nonzero()[:, 0] + 1
        assert len(ends) == images
        return [int(ends[-1 - count]), int(ends[-1])]
