"""Hard photos as the paper's "hard" regime has them: crop, occlusion, downscale, blur (it prints no parameters).

Every amount is severity times a constant below, the amount at severity 1 as a share of the object's box. So a severity
means the same at any resolution, degradation starts from nothing, and a larger severity adds to what a smaller one did.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageFilter

from lib.data.photos import object_box
from lib.errors import BadInput

KINDS = ("crop", "occlusion", "downscale", "blur")

# Where the miniature generator's loss has gone 20, 45 and 70% of the way from a clean photo to that of another object,
# on training objects and to the nearest 0.05 (notebook A1, lib/generator/severity.py).
SEVERITIES = {"mild": 0.25, "medium": 0.45, "severe": 0.75}

CROP = 0.4  # of the box's width or height lies outside the frame: more leaves no object to speak of
OCCLUSION = 0.35  # of the box's area lies behind the occluder, in the middle: likewise
PIXEL = 1 / 12  # of the box's longer side is one pixel: a chair of 12 pixels is a blot
BLUR = 1 / 30  # of the box's longer side is the standard deviation: legs and slats, about as wide, melt away
GREYS = (90, 166)  # of the occluder, unlike black and white backgrounds


def degrade(photo: Image.Image, severity: float | str, seed: int, kinds: Iterable[str] = KINDS) -> Image.Image:
    """The photo as it would be, had it been badly taken: RGBA of the same size, straight alpha.

    severity: in [0, 1] or a name of SEVERITIES; 0 returns the photo bit for bit. kinds: which of KINDS; whatever their
    order, the occluder comes first, then crop, downscale and blur, as in a camera. seed: draws the side of the crop and
    the place and grey of the occluder, each from its own stream, so that neither depends on severity or other kinds.
    Raises BadInput for an unknown severity or kind, or a photo that is not RGBA or shows nothing.
    """
    severity = _number(severity)
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if unknown := sorted(kinds - set(KINDS)):
        raise BadInput("kinds", f"{', '.join(unknown)} is unknown", f"Use some of {', '.join(KINDS)}.")
    if photo.mode != "RGBA":
        raise BadInput("photo", f"its mode is {photo.mode}, not RGBA", "Read it with load_photo.")
    box = object_box(photo)
    photo = photo.copy()
    for kind, change in {"occlusion": _occlude, "crop": _crop, "downscale": _downscale, "blur": _blur}.items():
        if kind in kinds and severity > 0:
            photo = change(photo, severity, box, np.random.default_rng([seed, KINDS.index(kind)]))
    return photo


def _number(severity: float | str) -> float:
    value = SEVERITIES.get(severity, np.nan) if isinstance(severity, str) else severity
    if not 0 <= value <= 1:
        raise BadInput("severity", f"{severity!r} is unknown", f"Use 0 to 1 or one of {', '.join(SEVERITIES)}.")
    return value


def _occlude(photo: Image.Image, severity: float, box: tuple, rng: np.random.Generator) -> Image.Image:
    """An opaque grey rectangle with the box's proportions and within it, over a point in its middle half."""
    corner, size = np.array(box[:2]), np.subtract(box[2:], box[:2])
    weights = np.asarray(photo.crop(box).getchannel("A"), float)
    middle = np.zeros_like(weights)
    middle[size[1] // 4 : -(size[1] // 4), size[0] // 4 : -(size[0] // 4)] = 1
    weights = weights * middle if (weights * middle).any() else weights
    row = _draw(weights.sum(axis=1), rng)
    center = (np.array([_draw(weights[row], rng), row]) + 0.5) / size
    side = np.sqrt(OCCLUSION * severity)
    start = np.clip(center - side / 2, 0, 1 - side)
    rectangle = np.concatenate([corner + start * size, corner + (start + side) * size]).round().astype(int)
    photo.paste((*[int(rng.integers(*GREYS))] * 3, 255), tuple(rectangle.tolist()))
    return photo


def _draw(weights: np.ndarray, rng: np.random.Generator) -> int:
    """An index drawn by weight from one number, so that the same number means the same place at any resolution."""
    return int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right"))


def _crop(photo: Image.Image, severity: float, box: tuple, rng: np.random.Generator) -> Image.Image:
    """Moves the frame until one of its sides, drawn at random, cuts the object; new ground is transparent."""
    (left, top, right, bottom), (width, height) = box, photo.size
    cut_x, cut_y = CROP * severity * (right - left), CROP * severity * (bottom - top)
    corners = [(left + cut_x, 0), (0, top + cut_y), (right - cut_x - width, 0), (0, bottom - cut_y - height)]
    x, y = map(round, corners[rng.integers(4)])
    return photo.crop((x, y, x + width, y + height))


def _downscale(photo: Image.Image, severity: float, box: tuple, rng: np.random.Generator) -> Image.Image:
    """To larger pixels and back to the old size; Pillow resizes RGBA pre-multiplied."""
    pixel = max(1, PIXEL * severity * _longest(box))
    small = [max(1, round(side / pixel)) for side in photo.size]
    return photo.resize(small, Image.Resampling.BOX).resize(photo.size, Image.Resampling.BICUBIC)


def _blur(photo: Image.Image, severity: float, box: tuple, rng: np.random.Generator) -> Image.Image:
    blurred = photo.convert("RGBa").filter(ImageFilter.GaussianBlur(BLUR * severity * _longest(box)))
    return blurred.convert("RGBA")


def _longest(box: tuple) -> int:
    left, top, right, bottom = box
    return max(right - left, bottom - top)
