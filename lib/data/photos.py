"""Photos as the generator wants them: the object alone, RGBA with straight alpha, rendered or read from a file."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image, ImageOps
from scipy import ndimage

from lib.errors import BadInput
from lib.renderers.cameras import Camera, project
from lib.renderers.raycast import render, shaded_images

MARGIN = 1.2  # side of the square frame over the longest side of the object's box, as TRELLIS crops
VISIBLE = 204  # alpha above which a pixel counts for that box, as TRELLIS has it: 0.8 of 255
LARGEST = 1024  # pixels a side, when a background is removed, as TRELLIS has it
SMALLEST = 32  # pixels: below, an object has too little detail to make anything of

# A background is uniform where this share of the outermost pixels lies within the tolerance (of 255, in each channel)
# of their median. Product photos tried have over 0.95, scenes below 0.4; the frame may cut the object off.
UNIFORM = 0.8
TOLERANCE = 12
# So is an enclosed region, as under an arm rest, if half of it lies within the narrower tolerance (white objects rarely
# come as close). Regions below a share of the photo are none: highlights on the object, JPEG dots around it.
GAP_TOLERANCE = 4
SPECK = 1 / 10_000
EDGE = 3  # pixels in which object and background mix: the object's share is the difference over the largest nearby


def render_photo(mesh: trimesh.Trimesh, size: int, azimuth: float = 30, elevation: float = 20) -> Image.Image:
    """A photo-like view of size x size pixels: shaded, smooth edges, framed as TRELLIS frames its input."""
    camera = Camera(azimuth, elevation)
    reach = 2 * np.abs(project(camera, mesh.vertices, size=1)[0] - 0.5).max()  # 1: the object just fits into the view
    camera = replace(camera, fov=2 * np.degrees(np.arctan(reach * np.tan(np.radians(camera.fov / 2)))))
    pixels = shaded_images(render(mesh, [camera], 2 * size))[0]
    return crop_to_object(Image.fromarray(pixels)).resize((size, size), Image.Resampling.LANCZOS)


def load_photo(path: str | PathLike, remove_background: bool = True) -> Image.Image:
    """Reads any image that Pillow can: turned as its EXIF says, grey, palette, CMYK and 16 bit brought to RGBA.

    Without transparency a uniform background becomes transparent, from the image's sides inwards and where a gap shows
    it exactly; remove_background=False keeps such a photo opaque.
    Raises BadInput for a file that is missing or no image, an object below 32 pixels, nothing visible, or a background
    that is not uniform.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(path, "is not a file", "Check the path.")
    try:
        with Image.open(path) as image:
            photo = _eight_bit(ImageOps.exif_transpose(image)).convert("RGBA")
    except Exception as error:  # Pillow raises a dozen kinds for broken files
        problem = f"cannot be read as an image ({type(error).__name__}: {error})"
        raise BadInput(path, problem, "Give a PNG, JPEG or WebP file.") from error
    opaque = photo.getextrema()[3][0] == 255
    if opaque and remove_background:
        photo = _cut_out(photo, path)
    left, top, right, bottom = object_box(photo, path)
    if max(right - left, bottom - top) < SMALLEST:
        problem = f"the object is {right - left} x {bottom - top} pixels"
        raise BadInput(path, problem, f"Give a photo that shows it at {SMALLEST} pixels or more.")
    return photo


def object_box(photo: Image.Image, source: str | PathLike = "photo") -> tuple[int, int, int, int]:
    """left, top, right, bottom (exclusive) of what is clearly visible. Raises BadInput where nothing is."""
    box = photo.getchannel("A").point(lambda alpha: 255 * (alpha > VISIBLE)).getbbox()
    if box is None:
        raise BadInput(source, "nothing is visible in it but background", "Give a photo with an opaque object.")
    return box


def crop_to_object(photo: Image.Image, margin: float = MARGIN) -> Image.Image:
    """Square crop around the object, `margin` times the longest side of its box; transparent beyond the photo."""
    left, top, right, bottom = object_box(photo)
    half = int(margin * max(right - left, bottom - top)) // 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return photo.crop((round(x - half), round(y - half), round(x - half) + 2 * half, round(y - half) + 2 * half))


def _eight_bit(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))


def _cut_out(photo: Image.Image, path: Path) -> Image.Image:
    """Makes a uniform background transparent; pixels at the edge lose its color and get partial alpha."""
    photo.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    rgb = np.asarray(photo)[..., :3].astype(float)
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    background = np.median(border, axis=0)
    if (np.abs(border - background).max(axis=1) <= TOLERANCE).mean() < UNIFORM:
        remedy = "Give a cut-out (RGBA, for instance from rembg), or a photo before a uniform background."
        raise BadInput(path, "the photo has no alpha and its background is not uniform", remedy)
    distance = np.abs(rgb - background).max(axis=-1)
    regions, _ = ndimage.label(distance <= TOLERANCE)
    close = np.bincount(regions.ravel(), distance.ravel() <= GAP_TOLERANCE)
    is_outside = (close >= np.bincount(regions.ravel()) / 2) & ~_specks(regions)
    is_outside[np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])] = True
    is_outside[0] = False  # the object
    outside = is_outside[regions]
    parts, _ = ndimage.label(~outside)
    outside |= _specks(parts)[parts]
    edge = ndimage.binary_dilation(outside, iterations=EDGE) & ~outside
    share = np.where(edge, distance / np.maximum(ndimage.maximum_filter(distance, 2 * EDGE + 1), 1), 1)[..., None]
    alpha = np.where(outside[..., None], 0, share)
    rgb = np.clip(background + (rgb - background) / np.maximum(share, 1 / 255), 0, 255)
    return Image.fromarray(np.dstack([rgb, alpha * 255]).round().astype(np.uint8))


def _specks(regions: np.ndarray) -> np.ndarray:
    return np.bincount(regions.ravel()) < SPECK * regions.size
