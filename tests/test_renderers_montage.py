import numpy as np
import pytest
import trimesh
from PIL import Image

from lib.errors import BadInput
from lib.renderers.cameras import judge_views, turntable
from lib.renderers.montage import grid, judge_montage, seven_images, splat_montage
from lib.renderers.raycast import normal_images, render
from lib.renderers.splats import surface_splats


def wedge(size=1.0):
    """A shape with no symmetry about the vertical, so that no two views are alike."""
    corners = size * np.array([[-0.5, -0.5, -0.5], [0.5, -0.5, -0.5], [-0.2, 0.5, -0.5], [-0.4, -0.3, 0.5]])
    return trimesh.convex.convex_hull(corners)


def solid(value):
    return np.full((4, 6, 3), value, np.uint8)


def test_a_grid_is_filled_row_by_row_and_its_rest_is_white():
    image = grid([solid(10), solid(20), solid(30)], columns=2)
    assert image.shape == (8, 12, 3)
    assert image.dtype == np.uint8
    assert [image[0, 0, 0], image[0, 6, 0], image[4, 0, 0], image[4, 6, 0]] == [10, 20, 30, 255]
    assert (image[4:, :6] == 30).all()
    assert grid([solid(1)] * 3, columns=3).shape == (4, 18, 3)


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([solid(1)], 0), ([solid(1), solid(1)[:2]], 2)])
def test_a_grid_needs_equal_images_and_a_column(images, columns):
    with pytest.raises(BadInput):
        grid(images, columns)


@pytest.mark.parametrize("tile", [56, 31])
def test_the_judge_sees_45_and_135_above_225_and_315(tile):
    image = judge_montage(wedge(), tile)
    assert image.shape == (2 * tile, 2 * tile, 3)
    tiles = [image[:tile, :tile], image[:tile, tile:], image[tile:, :tile], image[tile:, tile:]]
    for seen, camera in zip(tiles, judge_views(), strict=True):
        np.testing.assert_array_equal(seen, normal_images(render(wedge(), [camera], tile))[0])
    assert len({seen.tobytes() for seen in tiles}) == 4


def test_the_splat_montage_shows_the_same_views():
    normals, splats = judge_montage(wedge(), 64), splat_montage(surface_splats(wedge(), 20_000, 0), 64)
    assert splats.dtype == np.uint8
    assert splats.shape == normals.shape
    there, here = (normals != 255).any(-1), splats.mean(-1) < 190
    assert (there & here).sum() / (there | here).sum() > 0.85


def test_seven_images_are_the_photo_then_three_views_of_each_candidate():
    photo = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    photo.paste((0, 0, 255, 0), (0, 0, 20, 20))
    images = seven_images(photo, wedge(), wedge(0.6), 48)
    assert len(images) == 7
    assert {image.shape for image in images} == {(48, 48, 3)}
    for image, (mesh, camera) in zip(
        images[1:], [(mesh, camera) for mesh in (wedge(), wedge(0.6)) for camera in turntable(3)], strict=True
    ):
        np.testing.assert_array_equal(image, normal_images(render(mesh, [camera], 48))[0])
    assert images[0][24, 40].tolist() == [255, 0, 0]
    assert images[0][24, 8].tolist() == [255, 255, 255]  # transparent
    assert images[0][4, 40].tolist() == [255, 255, 255]  # above a wide photo
