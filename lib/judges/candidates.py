"""What is compared: a candidate's pictures, a pair of candidates, the question put to a judge."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import trimesh
from PIL import Image, ImageOps

from lib.errors import BadInput
from lib.judges.prompts import LAYOUTS, Layout
from lib.renderers.cameras import turntable
from lib.renderers.montage import grid, judge_montage, single_views, splat_montage
from lib.renderers.raycast import render, shaded_images
from lib.renderers.splats import Gaussians

ORDERS = ("ab", "ba")


class Picture:
    """One image as a judge sees it. pixels: (H,H,3) uint8, on white and padded to a square; RGBA is straight alpha."""

    def __init__(self, image: Image.Image | np.ndarray):
        image = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        self.pixels = np.asarray(ImageOps.pad(flat, (max(flat.size),) * 2, color="white"))

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the pixels and their number."""
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of the things compared, as a judge sees it.

    object: id of the object it is a candidate for. images: for each layout's name its images, PIL or uint8 (H,W,3) or
    (H,W,4); a mapping may make them when they are looked at. facts: what tells where it comes from (generator, adapter,
    budget, seed, weights digest), JSON values. digests: of the pictures of layouts for which they are known.
    """

    object: str
    images: Mapping[str, Sequence[Image.Image | np.ndarray]]
    facts: Mapping = field(default_factory=dict)
    digests: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _pictures: dict[str, tuple[Picture, ...]] = field(default_factory=dict, init=False, repr=False)

    def pictures(self, layout: Layout) -> tuple[Picture, ...]:
        """Its `layout.count` pictures. Raises BadInput where they were not rendered."""
        pictures = self._pictures.get(layout.name)
        if pictures is None:
            pictures = self._pictures[layout.name] = tuple(map(Picture, self.images.get(layout.name, ())))
        if len(pictures) != layout.count:
            problem = f"{len(pictures)} images for the layout {layout.name}, which shows {layout.count}"
            raise BadInput(f"candidate for {self.object}", problem, "Render the candidate for this layout")
        return pictures

    def describe(self, layout: Layout) -> dict:
        """What the records say of it: object, facts, and the digests of what was shown."""
        known = self.digests.get(layout.name)
        images = list(known) if known else [picture.digest for picture in self.pictures(layout)]
        return {"object": self.object, **self.facts, "images": images}


def render_candidate(
    object: str,
    mesh: trimesh.Trimesh,
    tile: int,
    layouts: Sequence[str] = ("montage",),
    splats: Gaussians | None = None,
    facts: Mapping | None = None,
) -> Candidate:
    """A candidate's pictures for the layouts named: normal montage, three normal views, splats, 24 shaded views.

    tile: side of one of the montage's four views; every picture is about 2 tile on a side, so that layouts differ in
    what they show and not in pixels. seven_images shows azimuth 0, 120, 240; turntable24 a sheet of five by five, the
    last cell empty. Raises BadInput for an unknown layout and where `splat` is asked for without splats.
    """
    side = 2 * tile
    images = {}
    for name in layouts:
        if name not in LAYOUTS:
            raise BadInput("layouts", f"there is no layout {name!r}", f"Use some of: {', '.join(LAYOUTS)}")
        if name == "splat" and splats is None:
            raise BadInput(
                "splats", "the layout splat needs Gaussians", "Give splats, or make them of the mesh's surface"
            )
        if name == "seven_images":
            images[name] = tuple(single_views(mesh, side))
        elif name == "splat":
            images[name] = (splat_montage(splats, tile),)
        elif name == "turntable24":
            views = shaded_images(render(mesh, turntable(24), side // 5))
            images[name] = (grid([Picture(view).pixels for view in views], columns=5),)
        else:
            images[name] = (judge_montage(mesh, tile),)
    return Candidate(object, images, facts or {})


@dataclass(frozen=True, eq=False)
class Pair:
    """Two candidates for one object, with its photo where the layout shows one (PIL or uint8, RGB or RGBA).

    photo: or what makes it when it is looked at; photo_digest: of the photo as a judge sees it, where it is known.
    """

    a: Candidate
    b: Candidate
    photo: Image.Image | np.ndarray | Callable[[], Image.Image] | None = None
    photo_digest: str = ""

    def __post_init__(self):
        if self.a.object != self.b.object:
            problem = f"candidates for different objects, {self.a.object} and {self.b.object}"
            raise BadInput("pair", problem, "Compare candidates for one object")

    @property
    def object(self) -> str:
        return self.a.object

    @cached_property
    def reference(self) -> Picture:
        """The photo as a judge sees it. Raises BadInput where the pair has none."""
        if self.photo is None:
            raise BadInput(f"pair for {self.object}", "the layout shows a photo, the pair has none", "Give its photo")
        return Picture(self.photo() if callable(self.photo) else self.photo)


@dataclass(frozen=True, eq=False)
class Question:
    """A pair in a layout and an order: "ab" shows a first, "ba" shows b first."""

    pair: Pair
    layout: Layout
    order: str

    @property
    def candidates(self) -> tuple[Candidate, Candidate]:
        """The first shown, the second shown."""
        return (self.pair.a, self.pair.b) if self.order == "ab" else (self.pair.b, self.pair.a)

    @property
    def pictures(self) -> list[Picture]:
        """All pictures in the order in which the prompt places them: photo, the first's, the second's."""
        first, second = (candidate.pictures(self.layout) for candidate in self.candidates)
        return [*([self.pair.reference] if self.layout.photo else []), *first, *second]
