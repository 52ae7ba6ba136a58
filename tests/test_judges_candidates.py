import numpy as np
import pytest
import trimesh
from PIL import Image

from lib.errors import BadInput
from lib.judges.candidates import Candidate, Pair, Picture, Question, render_candidate
from lib.judges.prompts import LAYOUTS
from lib.renderers.montage import judge_montage
from lib.renderers.splats import surface_splats

TILE = 28


@pytest.fixture(scope="module")
def mesh():
    mesh = trimesh.util.concatenate([trimesh.creation.box((1, 0.5, 0.2)), trimesh.creation.cone(0.2, 0.5, sections=12)])
    mesh.visual.vertex_colors = [200, 60, 30, 255]
    return mesh


def plain(value, layout="montage", count=1):
    return Candidate("chair", {layout: [np.full((8, 8, 3), value + place, np.uint8) for place in range(count)]})


def test_a_mesh_is_rendered_for_every_layout(mesh):
    candidate = render_candidate("chair", mesh, TILE, tuple(LAYOUTS), surface_splats(mesh, 500, seed=0))
    pictures = {name: candidate.pictures(layout) for name, layout in LAYOUTS.items()}
    assert {name: len(shown) for name, shown in pictures.items()} == {
        "montage": 1,
        "montage_ref": 1,
        "seven_images": 3,
        "splat": 1,
        "turntable24": 1,
    }
    for shown in pictures.values():
        for picture in shown:
            assert picture.pixels.shape[0] == picture.pixels.shape[1] == pytest.approx(2 * TILE, abs=4)
            assert 0.02 < (picture.pixels < 255).any(-1).mean() < 0.9
    assert np.array_equal(pictures["montage"][0].pixels, judge_montage(mesh, TILE))
    assert pictures["montage"][0].digest == pictures["montage_ref"][0].digest
    assert len({picture.digest for shown in pictures.values() for picture in shown}) == 6


def test_the_turntable_sheet_shows_24_views_and_an_empty_cell(mesh):
    (sheet,) = render_candidate("chair", mesh, TILE, ["turntable24"]).pictures(LAYOUTS["turntable24"])
    cell = 2 * TILE // 5
    cells = sheet.pixels.reshape(5, cell, 5, cell, 3).swapaxes(1, 2).reshape(25, -1)
    assert (cells[:24] < 255).any(1).all()
    assert (cells[24] == 255).all()


def test_splats_are_never_made_up(mesh):
    with pytest.raises(BadInput, match="splat"):
        render_candidate("chair", mesh, TILE, ["splat"])
    with pytest.raises(BadInput, match="montage_ref"):
        render_candidate("chair", mesh, TILE, ["montages"])


def test_the_second_order_shows_the_candidates_the_other_way_round_and_the_photo_first_in_both():
    photo = np.full((8, 8, 3), 200, np.uint8)
    pair = Pair(plain(0, "seven_images", 3), plain(100, "seven_images", 3), photo)
    shown = {
        order: [int(p.pixels[0, 0, 0]) for p in Question(pair, LAYOUTS["seven_images"], order).pictures]
        for order in ("ab", "ba")
    }
    assert shown == {"ab": [200, 0, 1, 2, 100, 101, 102], "ba": [200, 100, 101, 102, 0, 1, 2]}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "CMYK", "P"])
def test_photos_of_any_mode_become_a_white_square_with_the_photo_in_it(mode):
    photo = Image.new("RGBA", (20, 10), (0, 0, 0, 255)).convert(mode)
    pixels = Picture(photo).pixels
    assert pixels.shape == (20, 20, 3)
    assert (pixels[8:12] < 40).all()
    assert (pixels[:4] == 255).all()
    assert (pixels[-4:] == 255).all()


def test_alpha_is_straight_and_lies_on_white():
    half = np.zeros((4, 4, 4), np.uint8)
    half[..., 3] = 128
    assert Picture(half).pixels == pytest.approx(127, abs=1)


def test_one_pixel_changes_the_digest():
    other = plain(7)
    other.images["montage"][0][3, 3, 0] += 1
    assert plain(7).describe(LAYOUTS["montage"]) == plain(7).describe(LAYOUTS["montage"])
    assert other.describe(LAYOUTS["montage"]) != plain(7).describe(LAYOUTS["montage"])


def test_what_is_missing_is_named():
    with pytest.raises(BadInput, match=r"chair.*seven_images"):
        plain(0).pictures(LAYOUTS["seven_images"])
    with pytest.raises(BadInput, match=r"chair.*photo"):
        _ = Question(Pair(plain(0), plain(1)), LAYOUTS["montage_ref"], "ab").pair.reference
    with pytest.raises(BadInput, match="chair and table"):
        Pair(plain(0), Candidate("table", {}))
