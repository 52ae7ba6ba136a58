import itertools

import numpy as np
import pytest

from lib.errors import BadInput
from lib.renderers.cameras import Camera, fitting_distance, judge_views, project, rays, turntable

CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))


@pytest.mark.parametrize(
    ("azimuth", "elevation", "eye"),
    [(0, 0, [0, -2, 0]), (90, 0, [2, 0, 0]), (180, 0, [0, 2, 0]), (270, 0, [-2, 0, 0]), (0, 90, [0, 0, 2])],
)
def test_azimuth_zero_is_the_front_and_grows_counter_clockwise_from_above(azimuth, elevation, eye):
    np.testing.assert_allclose(Camera(azimuth, elevation, distance=2.0).eye, eye, atol=1e-12)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (45, 20), (200, -70), (30, 90)])
def test_extrinsics_are_a_rigid_motion_with_z_up_and_the_origin_straight_ahead(azimuth, elevation):
    camera = Camera(azimuth, elevation, distance=3.0)
    matrix = camera.extrinsics
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(matrix @ [0, 0, 0, 1], [0, 0, -3, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [*camera.eye, 1], [0, 0, 0, 1], atol=1e-12)
    x, y, _ = matrix[:3, 2]
    assert x == pytest.approx(0, abs=1e-12)
    assert y >= -1e-12


def test_the_rigs_are_the_papers():
    assert [(c.azimuth, c.elevation) for c in judge_views()] == [(45, 20), (135, 20), (225, 20), (315, 20)]
    assert [c.azimuth for c in turntable()] == list(range(0, 360, 15))
    assert {c.elevation for c in turntable(5, elevation=10)} == {10}


@pytest.mark.parametrize("fov", [30.0, 50.0, None])
def test_a_unit_box_is_wholly_in_view_from_everywhere_and_reaches_the_border(fov):
    distance = fitting_distance(fov or 30.0)
    cameras = [Camera(a, e, distance, fov) for a in range(0, 360, 15) for e in [*range(-90, 91, 10), 35.26439]]
    margin = min(min(pixels.min(), 100 - pixels.max()) for pixels in (project(c, CORNERS, 100)[0] for c in cameras))
    assert 0 <= margin < 3


@pytest.mark.parametrize("camera", [Camera(70, 35), Camera(70, 35, distance=2.0, fov=None, extent=1.5)])
def test_the_ray_of_a_pixel_projects_back_to_its_center_at_the_depth_travelled(camera):
    size, travelled = 9, 1.7
    origin, direction = np.split(rays([camera], size)[0].astype(float), 2, axis=-1)
    pixels, depth = project(camera, (origin + travelled * direction).reshape(-1, 3), size)
    rows, columns = np.mgrid[:size, :size] + 0.5
    np.testing.assert_allclose(pixels, np.stack([columns, rows], -1).reshape(-1, 2), atol=1e-4)
    np.testing.assert_allclose(depth, travelled, atol=1e-6)


def test_the_image_is_as_high_as_the_field_of_view_and_the_extent_say():
    top, depth = np.array([[0, 0, 2 * np.tan(np.radians(20))]]), 2.0
    np.testing.assert_allclose(project(Camera(0, 0, depth, fov=40.0), top, 64)[0], [[32, 0]], atol=1e-9)
    np.testing.assert_allclose(
        project(Camera(0, 0, depth, fov=None, extent=1.5), [[0, 0, 0.75]], 64)[0], [[32, 0]], atol=1e-9
    )


def test_rays_of_the_same_rig_are_made_once_and_cannot_be_changed():
    first = rays(judge_views(), 16)
    assert rays(judge_views(), 16) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


@pytest.mark.parametrize(
    "values", [{"fov": 0}, {"fov": 180}, {"distance": -1}, {"extent": 0}, {"azimuth": np.nan}, {"distance": np.inf}]
)
def test_impossible_cameras_are_refused(values):
    with pytest.raises(BadInput, match=next(iter(values))):
        Camera(**values)


@pytest.mark.parametrize(("cameras", "size"), [([], 8), ([Camera()], 0)])
def test_an_image_needs_a_camera_and_a_pixel(cameras, size):
    with pytest.raises(BadInput):
        rays(cameras, size)
