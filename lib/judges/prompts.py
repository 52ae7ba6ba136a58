"""Every word a judge reads: the layouts of images and the wordings of the question, in one place.

The papers print no prompt (arXiv 2606.20364, 2606.18451); these are this project's own. A prompt's digest goes into the
key of every answer, so changing a word asks the question anew. A new word also needs a place in the vocabulary of the
miniature judges (`lib.judges.mini`), which is made of the words found here.
"""

import hashlib
import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from lib.errors import BadInput

PHOTO, FIRST, SECOND = "<photo>", "<first>", "<second>"  # places of images among the parts of a prompt
LABELS = ("A", "B")
TIE_LABEL = "C"


@dataclass(frozen=True)
class Layout:
    """What one question shows: `count` images of each candidate, after the photo where `photo` is true."""

    name: str
    shows: str
    count: int = 1
    photo: bool = False


_LAYOUTS = (
    Layout("montage", "Each image shows the surface normals of one 3D object from four sides."),
    Layout("montage_ref", "Each image shows the surface normals of one 3D object from four sides.", photo=True),
    Layout("seven_images", "Each image shows the surface normals of one 3D object from one side.", 3, photo=True),
    Layout("splat", "Each image shows a color render of one 3D object from four sides."),
    Layout("turntable24", "Each image shows color renders of one 3D object from 24 sides."),
)
LAYOUTS = {layout.name: layout for layout in _LAYOUTS}

# wording -> (question without a photo, question with one)
WORDINGS = {
    "better": ("Which object has the better geometry?", "Which object is the better model of the photo?"),
    "faults": ("Which object has fewer faults in its geometry?", "Which object differs less from the photo?"),
    "choose": (
        "Which object would you choose as a 3D model?",
        "Which object would you choose as a model of the photo?",
    ),
}


@dataclass(frozen=True)
class Prompt:
    """One wording of the question for one layout.

    parts: text, and PHOTO, FIRST, SECOND where the images go. labels: the answers, first candidate, second, tie.
    """

    layout: Layout
    wording: str
    parts: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.layout.name}/{self.wording}" + ("/tie" if len(self.labels) > 2 else "")

    @cached_property
    def digest(self) -> str:
        """12 hex digits of everything the judge reads; equal prompts have equal digests."""
        return hashlib.sha256(json.dumps([self.parts, self.labels]).encode()).hexdigest()[:12]

    def describe(self) -> dict:
        """What the records say of it."""
        return {"id": self.id, "digest": self.digest, "text": str(self)}

    def messages(self) -> list[dict]:
        """The question as one user turn of a chat template, with a place for every image."""
        content = []
        for part in self.parts:
            place = {PHOTO: 1, FIRST: self.layout.count, SECOND: self.layout.count}.get(part, 0)
            content += [{"type": "image"}] * place or [{"type": "text", "text": part}]
        return [{"role": "user", "content": content}]

    def __str__(self) -> str:
        return " ".join(self.parts)


def prompt(layout: str = "montage", wording: str = "better", tie: bool = False) -> Prompt:
    """The prompt for a layout and a wording; `tie` adds a third label. Raises BadInput for an unknown name."""
    for kind, name, known in (("layout", layout, LAYOUTS), ("wording", wording, WORDINGS)):
        if name not in known:
            raise BadInput(kind, f"there is no {kind} {name!r}", f"Use one of: {', '.join(known)}")
    shown = LAYOUTS[layout]
    image = "Image" if shown.count == 1 else "Images"
    question = " ".join(
        [
            shown.shows,
            WORDINGS[wording][shown.photo],
            f"Answer {LABELS[0]}, {LABELS[1]}, or {TIE_LABEL} if they are equal." if tie else "Answer A or B.",
        ]
    )
    parts = ("Photo:", PHOTO) if shown.photo else ()
    parts += (f"{image} {LABELS[0]}:", FIRST, f"{image} {LABELS[1]}:", SECOND, question)
    return Prompt(shown, wording, parts, LABELS + (TIE_LABEL,) * tie)


class Prompted:
    """What all judges have in common: a layout, one prompt a wording, and being asked otherwise."""

    prompts: list[Prompt]
    layout: Layout

    def _read(self, layout: str, wordings: Sequence[str], tie: bool):
        self.prompts = [prompt(layout, wording, tie) for wording in wordings]
        self.layout = self.prompts[0].layout

    def asking(self, layout: str = "montage", wordings: Sequence[str] = ("better",), tie: bool = False) -> Self:
        """The same loaded model or server, and what it has already encoded, asked in another way."""
        other = copy(self)
        other._read(layout, wordings, tie)
        return other
