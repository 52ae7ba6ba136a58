"""Photos: framed as the generator frames them, whatever file they come from, the object alone."""

import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageFilter

from lib.data.photos import crop_to_object, load_photo, object_box, render_photo
from lib.errors import BadInput

ASSETS = Path(os.environ.get("ASSETS", Path(__file__).parents[1] / "../shared/assets"))
ORANGE = (200, 100, 20)


def picture(background=(255, 255, 255), size=(120, 90), box=(20, 30, 100, 60)):
    """An orange rectangle, darker in its upper half, on a plain background."""
    image = Image.new("RGB", size, background)
    image.paste(ORANGE, box)
    image.paste((100, 50, 10), (*box[:3], (box[1] + box[3]) // 2))
    return image


def with_alpha(image, box=(20, 30, 100, 60)):
    alpha = Image.new("L", image.size, 0)
    alpha.paste(255, box)
    image.putalpha(alpha)
    return image


def save(image, path, **options):
    image.save(path, **options)
    return path


def test_a_cut_out_is_returned_as_it_is(tmp_path):
    image = with_alpha(picture())
    photo = load_photo(save(image, tmp_path / "a.png"))
    assert photo.mode == "RGBA"
    assert photo.tobytes() == image.tobytes()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its left side: turn clockwise to see it upright
    photo = load_photo(save(picture(), tmp_path / "a.jpg", exif=exif, quality=95))
    assert photo.size == (90, 120)
    left, top, right, bottom = object_box(photo)
    assert (left, top, right, bottom) == pytest.approx((30, 20, 60, 100), abs=1)
    assert photo.getpixel((53, 60))[0] < 150 < photo.getpixel((37, 60))[0]  # the darker half went from top to right


MODES = {
    "png": ["L", "RGB", "P", "1", "I;16"],
    "tif": ["L", "RGB", "P", "1", "I;16", "CMYK"],
    "jpg": ["L", "RGB", "CMYK"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_any_mode_is_brought_to_rgba(tmp_path, mode, suffix):
    image = picture().convert("L" if mode == "I;16" else mode, dither=Image.Dither.NONE)
    expected = image.convert("RGB").getpixel((60, 50))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    photo = load_photo(save(image, tmp_path / f"a.{suffix}", **{"quality": 95} if suffix == "jpg" else {}))
    assert photo.mode == "RGBA"
    assert object_box(photo) == pytest.approx((20, 30, 100, 60), abs=2)
    assert photo.getpixel((60, 50))[:3] == pytest.approx(expected, abs=8)


def test_transparency_of_any_kind_is_kept(tmp_path):
    la = with_alpha(picture()).convert("LA")
    assert load_photo(save(la, tmp_path / "la.png")).getpixel((0, 0))[3] == 0
    palette = with_alpha(picture()).quantize(8)
    assert load_photo(save(palette, tmp_path / "palette.png")).getpixel((0, 0))[3] == 0
    color_key = save(picture(), tmp_path / "key.png", transparency=(255, 255, 255))
    assert load_photo(color_key).getpixel((0, 0))[3] == 0


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (30, 90, 200)])
def test_uniform_background_becomes_transparent_without_fringes(tmp_path, background):
    truth = with_alpha(Image.new("RGB", (960, 720), ORANGE), (165, 245, 803, 483))
    truth = truth.convert("RGBa").filter(ImageFilter.GaussianBlur(6)).resize((120, 90), Image.Resampling.BOX)
    truth = truth.convert("RGBA")
    image = Image.new("RGBA", truth.size, background)
    image.alpha_composite(truth)
    noisy = np.asarray(image.convert("RGB")) + np.random.default_rng(0).normal(0, 2, (90, 120, 3))
    photo = load_photo(save(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), tmp_path / "a.png"))
    error = np.asarray(photo.convert("RGBa")).astype(int) - np.asarray(truth.convert("RGBa"))
    assert np.abs(error).max() < 25  # the half covered pixels at the edge would be off by 60 to 120 if all or nothing
    assert np.abs(error).mean() < 1


def test_gap_inside_the_object_is_background_but_a_highlight_is_not(tmp_path):
    image = picture()
    image.paste((255, 255, 255), (40, 40, 60, 50))  # a gap
    image.paste((250, 250, 250), (70, 40, 90, 50))  # a light part
    image.putpixel((30, 50), (255, 255, 255))  # a highlight
    photo = load_photo(save(image, tmp_path / "a.png"))
    assert photo.getpixel((50, 45))[3] == 0
    assert photo.getpixel((80, 45))[3] == photo.getpixel((30, 50))[3] == 255


def test_dots_around_the_object_do_not_count(tmp_path):
    image = picture()
    image.putpixel((5, 5), ORANGE)
    assert object_box(load_photo(save(image, tmp_path / "a.png"))) == pytest.approx((20, 30, 100, 60), abs=1)


def test_an_object_cut_off_by_the_frame_does_not_hide_the_background(tmp_path):
    photo = load_photo(save(picture(box=(20, 50, 70, 90)), tmp_path / "a.png"))
    assert object_box(photo) == pytest.approx((20, 50, 70, 90), abs=1)


def test_background_that_is_no_color_needs_a_cut_out(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 120).astype(np.uint8)[:, None], (90, 1, 3))
    path = save(Image.fromarray(ramp), tmp_path / "room.jpg")
    with pytest.raises(BadInput, match=r"room\.jpg.*not uniform.*rembg"):
        load_photo(path)
    assert load_photo(path, remove_background=False).getextrema()[3] == (255, 255)


BAD = {
    "prose.png": (b"not an image", "cannot be read as an image"),
    "empty.jpg": (b"", "cannot be read as an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_not_an_image(tmp_path, name):
    data, problem = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=problem) as error:
        load_photo(tmp_path / name)
    assert name in error.value.source
    assert error.value.remedy


def test_truncated_missing_tiny_and_invisible_photos_are_bad_input(tmp_path):
    path = save(Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)), tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="truncated"):
        load_photo(path)
    with pytest.raises(BadInput, match="is not a file"):
        load_photo(tmp_path / "none.png")
    with pytest.raises(BadInput, match="31 x 20 pixels"):
        load_photo(save(with_alpha(picture(), (0, 0, 31, 20)), tmp_path / "tiny.png"))
    assert load_photo(save(with_alpha(picture(), (0, 0, 32, 20)), tmp_path / "small.png"))
    with pytest.raises(BadInput, match="nothing is visible"):
        load_photo(save(with_alpha(picture(), (0, 0, 0, 0)), tmp_path / "glass.png"))
    with pytest.raises(BadInput, match="nothing is visible"):
        load_photo(save(Image.new("RGB", (64, 64), "white"), tmp_path / "blank.png"))


def test_large_photo_is_shrunk_before_its_background_goes(tmp_path):
    image = picture(size=(2000, 1500), box=(200, 200, 1800, 1300))
    assert load_photo(save(image, tmp_path / "a.png")).size == (1024, 768)


def test_crop_is_square_centered_and_transparent_beyond_the_photo():
    photo = crop_to_object(with_alpha(picture()))
    assert photo.size == (96, 96)
    assert object_box(photo) == (8, 33, 88, 63)
    photo = crop_to_object(with_alpha(picture(), (0, 0, 100, 20)), margin=1.5)
    assert photo.size == (150, 150)
    assert object_box(photo) == (25, 65, 125, 85)
    assert photo.getpixel((0, 0)) == (0, 0, 0, 0)


def sofa():
    """Long and low, red, with a green box on its front, at the right of who looks at it."""
    body = trimesh.creation.box((1.0, 0.4, 0.3))
    body.visual.vertex_colors = (200, 0, 0, 255)
    knob = trimesh.creation.box((0.1, 0.1, 0.1), trimesh.transformations.translation_matrix((0.4, -0.21, 0)))
    knob.visual.vertex_colors = (0, 200, 0, 255)
    return trimesh.util.concatenate([body, knob])


@pytest.mark.parametrize("azimuth", [0, 30, 90, 200])
@pytest.mark.parametrize("size", [64, 259])
def test_rendered_photo_is_framed_as_trellis_frames(size, azimuth):
    photo = render_photo(sofa(), size, azimuth, elevation=10)
    assert photo.size == (size, size)
    left, top, right, bottom = object_box(photo)
    assert max(right - left, bottom - top) == pytest.approx(size / 1.2, abs=2 + size / 100)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((size / 2, size / 2), abs=1.5)


@pytest.mark.parametrize("azimuth", [10, 80])  # from the side the sofa is less than half as wide
def test_rendered_photo_has_edges_one_pixel_smooth_without_dark_fringes(azimuth):
    photo = np.asarray(render_photo(sofa(), 128, azimuth)).astype(int)
    soft = photo[(photo[..., 3] > 10) & (photo[..., 3] < 245)]
    left, top, right, bottom = object_box(Image.fromarray(photo.astype(np.uint8)))
    outline = 2 * (right - left + bottom - top)
    assert 0.5 < len(soft) / outline < 1.1
    exact = np.asarray(render_photo(sofa(), 512, azimuth).resize((128, 128), Image.Resampling.BOX)).astype(int)
    assert np.abs(photo - exact)[..., 3].mean() < 1.6
    assert soft[:, :2].sum(axis=1).min() > 40  # the darkest side of the sofa has about 70
    assert (photo[photo[..., 3] == 255][:, 2] == 0).all()


def test_rendered_photo_shows_the_asked_side():
    front = np.asarray(render_photo(sofa(), 96, azimuth=0)).astype(int)
    green = (front[..., 1] > front[..., 0]) & (front[..., 3] > 0)
    assert np.argwhere(green)[:, 1].mean() > 70
    back = np.asarray(render_photo(sofa(), 96, azimuth=180)).astype(int)
    assert not ((back[..., 1] > back[..., 0]) & (back[..., 3] > 0)).any()


def test_rendered_photo_repeats_bit_for_bit():
    assert render_photo(sofa(), 80).tobytes() == render_photo(sofa(), 80).tobytes()


SCENES = {"armchair_watermelon.png", "lamp_desk_photo.jpg", "scene_living_room.jpg", "scene_lounge_chair_table.png"}
SCENES |= {"scene_office.jpg"}


@pytest.mark.skipif(not (ASSETS / "photos").is_dir(), reason="no real photos here: set ASSETS to their folder")
def test_real_photos_give_an_object_or_a_remedy():
    for path in sorted((ASSETS / "photos").iterdir()):
        if path.name in SCENES:
            with pytest.raises(BadInput, match="rembg"):
                load_photo(path)
        elif path.suffix != ".json":
            alpha = np.asarray(crop_to_object(load_photo(path)).getchannel("A"))
            assert 0.1 < (alpha > 127).mean() < 0.75, path.name
            assert alpha[0].max() == alpha[-1].max() == 0, path.name
