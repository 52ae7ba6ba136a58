"""The judge in process: a vision-language model asked which of two candidates is better."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor
from transformers import ProcessorMixin

from lib.errors import BadInput
from lib.judges.candidates import Question
from lib.judges.engines import EncodeOnce, Stock
from lib.judges.models import batch_size, load_model
from lib.judges.processors import IMAGE_ONLY, MAX_PIXELS, describe, load_processor
from lib.judges.prompts import Prompt, Prompted
from lib.judges.verdicts import Answer
from lib.placement import choose_device, resident


class VLMJudge(Prompted):
    """A judge over a local folder or hub id: Qwen2.5-VL, InternVL (hf), or another chat model of transformers.

    layout, tie: see `lib.judges.prompts`. wordings: more than one asks each question in each and averages the
    probabilities. batch: questions in one call; None: see `batch_size`. revision, dtype, device: see `load_model`; it
    moves to a GPU when it is asked, and away when that is needed. max_pixels, tiles: see `load_processor`. `settings`
    is all of it that can change an answer, as JSON values, for the records.

    Raises BadInput, before any question, for a model that does not load, an unknown layout or wording, words that the
    model lacks, and labels that are not one token each.
    """

    def __init__(
        self,
        model: str | Path,
        layout: str = "montage",
        wordings: Sequence[str] = ("better",),
        tie: bool = False,
        batch: int | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
        tiles: int = 1,
    ):
        if batch is not None and batch < 1:
            raise BadInput("batch", f"{batch} questions in a call", "Give at least one")
        self.model, self.identity = load_model(model, revision, dtype, device)
        kind = self.model.config.model_type
        self.processor = load_processor(model, kind, revision, max_pixels, tiles)
        self.device = choose_device(device)
        self.family = self.identity["family"]
        self.batch = batch or batch_size(self.model.num_parameters())
        self.engine = (EncodeOnce if kind in IMAGE_ONLY else Stock)(self.model, self.processor, self.batch)
        self._read(layout, wordings, tie)

    def _read(self, layout: str, wordings: Sequence[str], tie: bool):
        super()._read(layout, wordings, tie)
        self.labels = [label_ids(self.processor, one) for one in self.prompts]

    @property
    def settings(self) -> dict:
        """Everything besides the pictures that can change an answer."""
        prompts = [one.describe() for one in self.prompts]
        return {**self.identity, "batch": self.batch, "prompts": prompts, "processor": describe(self.processor)}

    @torch.inference_mode()
    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers, in the questions' order; they do not depend on what else is asked in the same call.

        Raises BadInput where a candidate lacks the layout's pictures, or a pair its photo.
        """
        resident(self.device, self.model)
        started = perf_counter()
        rows = [question.pictures for question in questions]
        total = torch.zeros(len(rows), len(self.labels[0]) + 1, dtype=torch.float64)
        for one, labels in zip(self.prompts, self.labels, strict=True):
            for indices, logits in self.engine.logits(one, rows):
                total[indices] += label_probabilities(logits, labels).cpu()
        mean = (total / len(self.prompts)).numpy().round(6).tolist()
        seconds = (perf_counter() - started) / max(len(rows), 1)
        return [Answer(tuple(p), mass, round(seconds, 4)) for *p, mass in mean]


def label_ids(processor: ProcessorMixin, prompt: Prompt) -> list[int]:
    """The token of each label where the answer starts. Raises BadInput for a label that is not one token of its own."""
    text = processor.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True)
    question = processor.tokenizer(text)["input_ids"]
    ids = []
    for label in prompt.labels:
        *before, token = processor.tokenizer(text + label)["input_ids"]
        if before != question or token in (processor.tokenizer.unk_token_id, *ids):
            problem = f"the model's tokenizer does not read the label {label!r} as one token of its own"
            raise BadInput(f"prompt {prompt.id}", problem, "Use other labels, or another judge")
        ids.append(token)
    return ids


def label_probabilities(logits: Tensor, labels: Sequence[int]) -> Tensor:
    """(n, vocabulary) -> (n, labels + 1): softmax over the labels alone, then their share of the whole vocabulary."""
    logits = logits.double()
    chosen = logits[:, list(labels)]
    mass = (chosen.logsumexp(-1) - logits.logsumexp(-1)).exp()
    return torch.cat([chosen.softmax(-1), mass[:, None]], -1)
