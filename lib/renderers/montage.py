"""Pictures for a judge: 2x2 montages of normals or of splats, and the seven-image layout."""

from collections.abc import Sequence

import numpy as np
import trimesh
from PIL import Image

from lib.errors import BadInput
from lib.renderers.cameras import judge_views, turntable
from lib.renderers.raycast import normal_images, render
from lib.renderers.splats import Gaussians, render_splats


def grid(images: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """One uint8 image of equal images (H,W,C), row by row from the top left; cells left over are white."""
    if not len(images) or columns < 1 or len({np.shape(image) for image in images}) > 1:
        raise BadInput("grid", f"{len(images)} images in {columns} columns", "Give images of one size and a column.")
    images = np.asarray(images)
    n, h, w, c = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, h, w, c), 255, np.uint8)
    cells[:n] = images
    return cells.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)


def judge_montage(mesh: trimesh.Trimesh, tile: int) -> np.ndarray:
    """(2 tile, 2 tile, 3) uint8 normal maps of the judge's four views: azimuth 45, 135 above 225, 315."""
    return grid(normal_images(render(mesh, judge_views(), tile)))


def splat_montage(gaussians: Gaussians, tile: int) -> np.ndarray:
    """(2 tile, 2 tile, 3) uint8: the same views of Gaussian splats on white."""
    images = [render_splats(gaussians, camera, tile) for camera in judge_views()]
    return grid([(image.clamp(0, 1) * 255 + 0.5).byte().numpy(force=True) for image in images])


def single_views(mesh: trimesh.Trimesh, size: int) -> np.ndarray:
    """(3,size,size,3) uint8 normal views of a candidate among seven images.

    The paper does not print its views; here they are azimuth 0, 120 and 240 at elevation 20.
    """
    return normal_images(render(mesh, turntable(3), size))


def seven_images(photo: Image.Image, mesh_a: trimesh.Trimesh, mesh_b: trimesh.Trimesh, size: int) -> list[np.ndarray]:
    """The paper's overloaded layout: the photo, `single_views` of A, those of B; each (size,size,3) uint8."""
    return [_on_white(photo, size), *single_views(mesh_a, size), *single_views(mesh_b, size)]


def _on_white(photo: Image.Image, size: int) -> np.ndarray:
    """The photo, scaled to fit a white square."""
    photo = photo.convert("RGBA")
    scale = size / max(photo.size)
    photo = photo.resize([max(1, round(side * scale)) for side in photo.size], Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (size, size), "white")
    square.alpha_composite(photo, ((size - photo.width) // 2, (size - photo.height) // 2))
    return np.asarray(square.convert("RGB"))
