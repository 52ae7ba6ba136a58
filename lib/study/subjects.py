"""What is generated: objects with their photos, clean and degraded, and the surface that a perfect mesh would have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import trimesh
from PIL import Image

from lib.data.degrade import KINDS, degrade
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.data.procedural import Furniture
from lib.errors import BadInput
from lib.generator.examine import outer_surface
from lib.judges.candidates import Picture

CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class Subject:
    """An object to generate; size of its photos in pixels; seed of their degradation."""

    item: Object
    size: int
    seed: int

    def photo(self, severity: str = CLEAN, kinds: tuple[str, ...] = KINDS) -> Image.Image:
        """RGBA, clean or degraded (`lib.data.degrade`). A severe photo has all that a mild one has, and more."""
        clean = _clean(self)
        return clean if severity == CLEAN else degrade(clean, severity, self.seed, kinds)


@lru_cache(maxsize=512)
def _clean(subject: Subject) -> Image.Image:
    return render_photo(subject.item.mesh, subject.size)


def photo_digest(subject: Subject, severity: str, kinds: tuple[str, ...]) -> str:
    """16 hex digits of the photo as it looks on white."""
    return Picture(subject.photo(severity, kinds)).digest


def subjects(items: Iterable[Object], size: int, seed: int) -> list[Subject]:
    """Every object, with its place in the order as part of the seed."""
    return [Subject(item, size, seed + place) for place, item in enumerate(items)]


def truth(item: Object) -> trimesh.Trimesh:
    """The surface that a mesh of the object should have: its own, without the inner faces of procedural furniture."""
    return outer_surface(item) if isinstance(item, Furniture) else item.mesh


def require_disjoint(training: Sequence[Subject], evaluation: Sequence[Subject]):
    """Raises BadInput where an object is both trained and judged on."""
    common = {one.item.id for one in training} & {one.item.id for one in evaluation}
    if common:
        problem = f"{len(common)} objects are in both sets, {min(common)} for one"
        raise BadInput("training objects", problem, "Take the training objects from another split or folder")
