"""The judge on a server: the same questions, put to any vision-language model behind OpenAI's API."""

import base64
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from time import perf_counter
from warnings import warn

import numpy as np
from PIL import Image

from lib.errors import BadInput
from lib.judges.candidates import Picture, Question
from lib.judges.models import family
from lib.judges.prompts import Prompt, Prompted
from lib.judges.server import LATER, Refused, Server
from lib.judges.verdicts import Answer

ONE_TOKEN = {"temperature": 0, "max_tokens": 1, "logprobs": True}
A_LETTER = {"temperature": 0, "max_tokens": 8}
SAMPLING = (ONE_TOKEN | {"top_logprobs": 20}, ONE_TOKEN | {"top_logprobs": 5}, A_LETTER)  # the first that is taken
BLANK = np.full((112, 112, 3), 255, np.uint8)  # shown in the question that finds out which


class ServedJudge(Prompted):
    """A judge on a server, by its address `http://host:8000/v1#model`; asks as `lib.judges.vlm.VLMJudge` does.

    layout, wordings, tie: see there. Where the server offers log probabilities, an answer's are the labels' share among
    the likeliest tokens at its first place; a label that is not among these has 0. Where it does not, a letter is
    read, whose probability is then 1. Naming no label is an abstention; of several wordings those that named one are
    averaged. concurrency: questions on their way at once. timeout, attempts, pause: see `lib.judges.server.Server`.

    Raises BadInput, before any question, for an unknown layout or wording, a server that cannot be used (see `Server`)
    and one that takes no images, or not so many.
    """

    def __init__(
        self,
        address: str,
        layout: str = "montage",
        wordings: Sequence[str] = ("better",),
        tie: bool = False,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 6,
        pause: float = 1.0,
    ):
        if concurrency < 1:
            raise BadInput("concurrency", f"{concurrency} questions at once", "Give at least one")
        self._read(layout, wordings, tie)
        self.server = Server(address, timeout, attempts, pause)
        self.concurrency, self.batch = concurrency, 4 * concurrency
        facts = self.server.facts  # a name can be anything, what it was loaded from or adapted from tells more
        self.family = family((facts["parent"] or facts["root"] or self.server.model).rstrip("/").rpartition("/")[2])
        self.sampling = self._offered()

    @property
    def settings(self) -> dict:
        """Everything besides the pictures that can change an answer."""
        prompts = [one.describe() for one in self.prompts]
        own = {"model": self.server.model, "family": self.family, "sampling": self.sampling, "prompts": prompts}
        return own | {"server": self.server.facts}

    def ask(self, questions: Sequence[Question]) -> list[Answer | BadInput]:
        """The answers, in the questions' order; in place of one that could not be had, what the server failed with."""
        started = perf_counter()
        with ThreadPoolExecutor(self.concurrency) as threads:
            said = list(threads.map(self._said, questions))
        seconds = round((perf_counter() - started) / max(len(said), 1), 4)
        return [one if isinstance(one, BadInput) else Answer(*one, seconds) for one in said]

    def _said(self, question: Question) -> tuple[tuple[float, ...], float] | BadInput:
        """Probabilities of the labels, and their mass: means over the wordings."""
        try:
            shares = np.array([self._shares(one, question.pictures, self.sampling) for one in self.prompts])
        except BadInput as failure:
            return failure
        mass = shares.sum(1)
        if not mass.any():
            return (math.nan,) * shares.shape[1], 0.0
        p = (shares[mass > 0] / mass[mass > 0, None]).mean(0)
        return tuple(p.round(6).tolist()), round(float(mass.mean()), 6)

    def _shares(self, asked: Prompt, pictures: Sequence[Picture], sampling: dict) -> list[float]:
        """What the labels get: probabilities, or 1 for the one that is read; all 0 for an abstention."""
        choice = self.server.chat(messages=_messages(asked, pictures), **sampling)
        if "logprobs" in sampling:
            if not (tokens := tokens_of(choice)):
                raise BadInput(self.server.url, "left out log probabilities that it had offered", LATER)
            return label_shares(tokens, asked.labels)
        text = choice["message"].get("content") or ""
        letter = read_letter(text, asked.labels)
        if letter is None:
            warn(f"{self.server.model} answered {text!r}: no label, so an abstention", stacklevel=1)
        return [float(label == letter) for label in asked.labels]

    def _offered(self) -> dict:
        """The first of `SAMPLING` that the server takes, found by a question with blank images."""
        asked = self.prompts[0]
        blank = [Picture(BLANK)] * sum(part["type"] == "image" for part in asked.messages()[0]["content"])
        for sampling in SAMPLING:
            try:
                choice = self.server.chat(messages=_messages(asked, blank), **sampling)
            except Refused as refused:
                failure = refused
            else:
                if sampling is A_LETTER or len(tokens_of(choice)) > 1:
                    return sampling
        remedy = "Serve a vision-language model that may be shown so many images at once"
        raise BadInput(self.server.url, f"does not take {len(blank)} images ({failure.problem})", remedy)


def _messages(asked: Prompt, pictures: Sequence[Picture]) -> list[dict]:
    """The question as one user turn, its images as PNG data URLs where the prompt places them."""
    images = iter(pictures)
    (turn,) = asked.messages()
    content = [
        {"type": "image_url", "image_url": {"url": _data_url(next(images))}} if part["type"] == "image" else part
        for part in turn["content"]
    ]
    return [turn | {"content": content}]


def _data_url(picture: Picture) -> str:
    file = BytesIO()
    Image.fromarray(picture.pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def tokens_of(choice: dict) -> dict[str, float]:
    """Log probability of the likeliest tokens at the answer's first place; none where the server leaves them out."""
    places = (choice.get("logprobs") or {}).get("content") or []
    return {one["token"]: one["logprob"] for place in places[:1] for one in (place, *(place.get("top_logprobs") or []))}


def label_shares(tokens: dict[str, float], labels: Sequence[str]) -> list[float]:
    """Probability of each label, whatever white space its token has around it."""
    return [sum(math.exp(value) for token, value in tokens.items() if token.strip() == label) for label in labels]


def read_letter(text: str, labels: Sequence[str]) -> str | None:
    """The label that the first line of a text is ("A", "A.", "**B**", "Answer: B", "Image A"); None for anything else.

    "A chair with holes" names none: what is not known to be an answer is not read as one.
    """
    line = text.strip().partition("\n")[0]
    words = r"(?:(?:the|final|correct|answer|is|object|image|images|option)\b[\s:*]*)*"
    found = re.fullmatch(rf"\W*(?i:{words})\W*({'|'.join(labels)})\W*", line)
    return found and found[1]
