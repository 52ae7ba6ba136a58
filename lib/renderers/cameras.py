"""Cameras on a sphere around the origin, z up, and the pixel grid that all renderers share.

Camera space is OpenGL's: x right, y up, z toward the viewer. Images are square; pixel (row, column) has its center at
x = column + 0.5, y = row + 0.5, with x to the right and y downwards. Depth is measured along the viewing axis.

The default camera just holds the ball around the unit box, so an object of the house (longest side 1) is wholly in view
from everywhere, and every view of every object has the same scale: one unit at the origin covers 0.56 of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from lib.errors import BadInput

UNIT_BOX_RADIUS = 3**0.5 / 2


def fitting_distance(fov: float) -> float:
    """Distance at which a camera of vertical field of view `fov` (degrees) just holds the ball around the unit box."""
    return UNIT_BOX_RADIUS / np.sin(np.radians(fov / 2)).item()


@dataclass(frozen=True)
class Camera:
    """A camera that looks at the origin from `distance`, perspective (`fov`) or orthographic (`fov=None`).

    azimuth, elevation: degrees; azimuth 0 sees the front (-y), positive goes counter-clockwise seen from above.
    fov: vertical field of view in degrees. extent: world height of the image, read by orthographic cameras only.
    Raises BadInput where a value cannot be a camera's.
    """

    azimuth: float = 0.0
    elevation: float = 20.0
    distance: float = fitting_distance(30.0)
    fov: float | None = 30.0
    extent: float = 2 * UNIT_BOX_RADIUS

    def __post_init__(self):
        if not np.isfinite([self.azimuth, self.elevation]).all():
            raise BadInput("camera", f"azimuth {self.azimuth}, elevation {self.elevation}", "Give finite degrees.")
        if not (0 < self.distance < np.inf and 0 < self.extent < np.inf):
            raise BadInput("camera", f"distance {self.distance}, extent {self.extent}", "Give positive lengths.")
        if self.fov is not None and not 0 < self.fov < 180:
            raise BadInput("camera", f"fov {self.fov}", "Give degrees between 0 and 180, or None for orthographic.")

    @cached_property
    def rotation(self) -> np.ndarray:
        """(3,3) world to camera: its rows are the camera's right, up and backward axes in the world."""
        a, e = np.radians([self.azimuth, self.elevation])
        right = [np.cos(a), np.sin(a), 0.0]
        up = [-np.sin(a) * np.sin(e), np.cos(a) * np.sin(e), np.cos(e)]
        back = [np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)]
        return np.array([right, up, back])

    @property
    def eye(self) -> np.ndarray:
        """(3,) the camera's position in the world."""
        return self.distance * self.rotation[2]

    @property
    def extrinsics(self) -> np.ndarray:
        """(4,4) world-to-camera matrix."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[2, 3] = self.rotation, -self.distance
        return matrix

    def focal(self, size: int) -> float:
        """Pixels per unit of x/depth (perspective) or of x (orthographic) in an image of `size` pixels."""
        return size / (self.extent if self.fov is None else 2 * np.tan(np.radians(self.fov / 2)).item())


def judge_views() -> list[Camera]:
    """The judge's four views: azimuth 45, 135, 225, 315 at elevation 20."""
    return [Camera(azimuth) for azimuth in (45.0, 135.0, 225.0, 315.0)]


def turntable(n: int = 24, elevation: float = 20.0) -> list[Camera]:
    """`n` evenly spaced views around the object, from azimuth 0; n=24 is the companion's rig (arXiv 2606.18451)."""
    return [Camera(360 * i / n, elevation) for i in range(n)]


def rays(cameras: Sequence[Camera], size: int) -> np.ndarray:
    """(V,size,size,6) float32, read-only: origin and direction of the ray through each pixel center, in the world.

    Directions advance by one unit of depth, so the ray parameter of a hit *is* its depth.
    """
    return _rays(tuple(cameras), size)


@lru_cache(maxsize=4)  # the same few rigs are cast again and again; 24 views of 512 px are 150 MB
def _rays(cameras: tuple[Camera, ...], size: int) -> np.ndarray:
    if size < 1 or not cameras:
        raise BadInput("rays", f"{len(cameras)} cameras, size {size}", "Give at least one camera and one pixel.")
    out = np.empty((len(cameras), size, size, 6), np.float32)
    centers = np.arange(size) + 0.5 - size / 2
    for image, camera in zip(out, cameras, strict=True):
        right, up, back = camera.rotation
        across = (centers[None, :, None] * right / camera.focal(size)).astype(np.float32)
        down = (-centers[:, None, None] * up / camera.focal(size)).astype(np.float32)
        origin, direction = camera.eye.astype(np.float32), -back.astype(np.float32)
        if camera.fov is None:
            image[..., :3], image[..., 3:] = across + down + origin, direction
        else:
            image[..., :3], image[..., 3:] = origin, across + down + direction
    out.flags.writeable = False
    return out


def project(camera: Camera, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (N,2: x right, y down) and depths (N,) of world points (N,3)."""
    x, y, z = camera.rotation @ np.asarray(points, float).T
    depth = camera.distance - z
    scale = camera.focal(size) * (np.ones_like(depth) if camera.fov is None else 1 / depth)
    return np.stack([size / 2 + scale * x, size / 2 - scale * y], -1), depth
