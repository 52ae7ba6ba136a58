"""Logits at the answer's place for many questions: images encoded once (known families), or the stock call (others).

Every batch is filled up to its full size by repeating its last member: an answer then has the same bits whatever else
was asked with it, so an interrupted run that is resumed gives the same numbers. What is repeated is thrown away.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lib.judges.candidates import Picture
from lib.judges.forward import answer_logits, batch_attention, encode_images, token_ids
from lib.judges.prompts import Prompt

IMAGES = 4  # encoded in one call; more would often be filled up by repeats
FEATURES = 2**30  # bytes kept of images that may be asked about again


def batches(members: Sequence, size: int) -> list[Sequence]:
    """The members in runs of `size`; the last may be shorter."""
    return [members[start : start + size] for start in range(0, len(members), size)]


def full(members: Sequence, size: int) -> list:
    """The members and as many repeats of the last as make up `size`."""
    return [*members, *[members[-1]] * (size - len(members))]


class EncodeOnce:
    """Qwen2.5-VL and InternVL: each image goes through the vision tower once and serves all orders and pairs.

    memory: bytes of features kept; the longest unused are dropped first.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, batch: int, memory: int = FEATURES):
        self.model, self.processor, self.batch, self.memory = batch_attention(model), processor, batch, memory
        self.features: OrderedDict[str, Tensor] = OrderedDict()
        self.kept = 0  # bytes of them
        self.ids: dict[tuple, Tensor] = {}

    def logits(self, prompt: Prompt, rows: Sequence[Sequence[Picture]]) -> Iterator[tuple[list[int], Tensor]]:
        """For batches of rows (the pictures of one question each): their indices, and logits (n, vocabulary)."""
        self._encode({picture.digest: picture for row in rows for picture in row})
        forms = defaultdict(list)
        for index, row in enumerate(rows):
            forms[tuple(len(self.features[picture.digest]) for picture in row)].append(index)
        for tokens, members in forms.items():
            if (prompt.digest, tokens) not in self.ids:
                self.ids[prompt.digest, tokens] = token_ids(self.processor, prompt, tokens)
            for indices in batches(members, self.batch):
                places = zip(*(rows[index] for index in full(indices, self.batch)), strict=True)
                seen = [torch.stack([self.features[picture.digest] for picture in place]) for place in places]
                logits = answer_logits(self.model, self.ids[prompt.digest, tokens], seen)[: len(indices), -1]
                yield indices, logits
        while self.kept > self.memory:
            self.kept -= self.features.popitem(last=False)[1].nbytes

    def _encode(self, pictures: dict[str, Picture]):
        sizes = defaultdict(list)
        for digest, picture in pictures.items():
            if digest in self.features:
                self.features.move_to_end(digest)
            else:
                sizes[picture.pixels.shape].append(digest)
        for digests in sizes.values():
            for group in batches(digests, IMAGES):
                pixels = self._pixels([pictures[digest] for digest in group])[full(range(len(group)), IMAGES)]
                features = encode_images(self.model, pixels)[: len(group)]
                self.features |= {digest: feature.clone() for digest, feature in zip(group, features, strict=True)}
                self.kept += features.nbytes

    def _pixels(self, pictures: Sequence[Picture]) -> Tensor:
        overrides = getattr(self.processor, "images_kwargs", {})
        images = [picture.pixels for picture in pictures]
        pixels = self.processor.image_processor(images, return_tensors="pt", **overrides)["pixel_values"]
        return pixels.unflatten(0, (len(pictures), -1)).to(self.model.device, self.model.dtype)


class Stock:
    """Any other chat model of transformers: its own processor, chat template and forward call."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, batch: int):
        self.model, self.processor, self.batch = model, processor, batch

    def logits(self, prompt: Prompt, rows: Sequence[Sequence[Picture]]) -> Iterator[tuple[list[int], Tensor]]:
        """For batches of rows (the pictures of one question each): their indices, and logits (n, vocabulary)."""
        questions = [self._inputs(prompt, row) for row in rows]
        forms = defaultdict(list)
        for index, inputs in enumerate(questions):
            forms[tuple((name, value.shape) for name, value in inputs.items())].append(index)
        for members in forms.values():
            for indices in batches(members, self.batch):
                chosen = [questions[index] for index in full(indices, self.batch)]
                inputs = {name: torch.cat([one[name] for one in chosen]).to(self.model.device) for name in chosen[0]}
                logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits
                yield indices, logits[: len(indices), -1]

    def _inputs(self, prompt: Prompt, pictures: Sequence[Picture]) -> dict[str, Tensor]:
        images = iter(pictures)
        messages = [
            {"role": turn["role"], "content": [self._filled(part, images) for part in turn["content"]]}
            for turn in prompt.messages()
        ]
        return dict(
            self.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        )

    @staticmethod
    def _filled(part: dict, images: Iterator[Picture]) -> dict:
        return part | {"image": Image.fromarray(next(images).pixels)} if part["type"] == "image" else part
