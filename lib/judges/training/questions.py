"""Which questions the language model is trained on: layouts, pairs and their errors, drawn from a step's number."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.judges.prompts import LAYOUTS, WORDINGS, Prompt, prompt
from lib.judges.training.collection import MONTAGE, Collection

SHARES = {"montage": 0.36, "montage_ref": 0.38, "seven_images": 0.08, "splat": 0.09, "turntable24": 0.09}
WORDING_SHARES, TIES = (0.6, 0.2, 0.2), 0.06  # of the prompts; of prompts without a photo, with a tie label
# Of pairs: intact against damaged, one against itself, another object for one of the two, both other objects.
AGAINST_INTACT, IDENTICAL = 0.3, 0.03
OTHER_WITH_PHOTO, OTHER_WITHOUT = 0.5, 0.15


@dataclass(frozen=True)
class Questions:
    """B pairs in one form of prompt. item (B,): whose photo it is, photo (B,): which of its photos; of (2,B),
    which (2,B): object and candidate shown first and second; error (2,B); quarter: all objects are turned so often,
    then mirror: all pictures are mirrored."""

    prompt: Prompt
    item: Tensor
    photo: Tensor
    of: Tensor
    which: Tensor
    error: Tensor
    quarter: int
    mirror: bool


def draw(data: Collection, count: int, rng: np.random.Generator, quarters: int = 4) -> Questions:
    """`count` pairs for one layout; in "montage", one of `quarters` quarter turns."""
    layout = LAYOUTS[rng.choice(list(SHARES), p=list(SHARES.values()))]
    wording = rng.choice(list(WORDINGS), p=WORDING_SHARES)
    asked = prompt(layout.name, str(wording), tie=bool(rng.random() < TIES))
    pictured = MONTAGE if layout.name == "montage_ref" else layout.name
    having, shown = data.having(pictured)
    category = data.category[having].numpy()
    members = [np.flatnonzero(category == number) for number in range(category.max() + 1)]
    mine = rng.integers(len(having), size=count)
    which = np.stack([rng.permutation(shown)[:2] for _ in range(count)])
    chance = rng.random(count)
    place = rng.integers(2, size=count)
    rows = np.arange(count)
    against = (chance < AGAINST_INTACT) & (which[rows, 1 - place] > 0)
    which[rows[against], place[against]] = 0
    same = chance > 1 - IDENTICAL
    which[same, 0] = which[same, 1]
    other = rng.random(count) < (OTHER_WITH_PHOTO if layout.photo else OTHER_WITHOUT)
    of = np.stack([mine, mine], 1)
    for row in rows[other & ~same]:
        alike = members[category[mine[row]]] if rng.random() < 0.5 else np.arange(len(having))
        of[row, place[row]] = rng.choice(alike)
        if rng.random() < 0.5:  # clean but wrong
            which[row, place[row]] = 0
    item, of, which = having[torch.from_numpy(mine)], having[torch.from_numpy(of.T)], torch.from_numpy(which.T)
    error = data.error[of, which]
    if layout.photo:
        for side in range(2):
            wrong = (of[side] != item).nonzero()[:, 0]
            if len(wrong):
                error[side, wrong] = data.wrong_error(of[side, wrong], which[side, wrong], item[wrong])
    mirror = bool(rng.random() < 0.5) and layout.name != "turntable24"
    photo = torch.from_numpy(rng.integers(data.photo.shape[1], size=count))
    quarter = int(rng.integers(quarters)) if layout.name == MONTAGE else 0
    return Questions(asked, item, photo, of, which, error, quarter, mirror)
