"""Degraded photos: seeded, growing with severity, the same at any resolution."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lib.data.degrade import GREYS, KINDS, SEVERITIES, degrade
from lib.data.photos import object_box
from lib.errors import BadInput


def photo(size=112):
    """A chair-like figure in orange and blue on transparency, its hidden pixels black."""
    image = Image.new("RGBA", (448, 448), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((120, 50, 150, 390), (230, 140, 60, 255))
    draw.rectangle((300, 200, 330, 390), (230, 140, 60, 255))
    draw.rectangle((120, 200, 330, 240), (230, 140, 60, 255))
    draw.rectangle((150, 70, 180, 200), (60, 90, 230, 255))
    return image.resize((size, size), Image.Resampling.BOX)


def premultiplied(image):
    return np.asarray(image.convert("RGBa")).astype(float) / 255


def changed(image):
    return np.abs(premultiplied(image) - premultiplied(photo(image.width))).max(axis=-1) > 1e-6


def occluder(image):
    """left, top, right, bottom of the grey pixels, as shares of the image."""
    pixels = np.asarray(image)
    grey = (pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2]) & (pixels[..., 3] == 255)
    rows, columns = np.nonzero(grey & np.isin(pixels[..., 0], np.arange(*GREYS)))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / image.width


@pytest.mark.parametrize("kinds", [*KINDS, KINDS, ()])
def test_severity_zero_is_the_photo_bit_for_bit(kinds):
    image = photo()
    image.putpixel((0, 0), (1, 2, 3, 0))  # hidden color counts, too
    assert degrade(image, 0, seed=1, kinds=kinds).tobytes() == image.tobytes()


@pytest.mark.parametrize("kinds", [*KINDS, KINDS])
def test_same_seed_same_photo_and_the_input_stays(kinds):
    image = photo()
    results = [degrade(image, "medium", seed, kinds) for seed in (7, 7)]
    assert results[0].tobytes() == results[1].tobytes() != image.tobytes()
    assert results[0].mode == "RGBA"
    assert results[0].size == image.size
    assert image.tobytes() == photo().tobytes()


def test_seeds_draw_different_sides_places_and_greys():
    assert len({degrade(photo(), "medium", seed, "crop").tobytes() for seed in range(20)}) == 4
    images = [degrade(photo(), "medium", seed, "occlusion") for seed in range(20)]
    assert len({tuple(occluder(image)) for image in images}) > 12
    assert len({image.getpixel(tuple((occluder(image)[:2] * 112).round().astype(int))) for image in images}) > 12


@pytest.mark.parametrize("kind", KINDS)
def test_more_severity_degrades_more(kind):
    clean = premultiplied(photo(448))
    for seed in range(4):
        results = [premultiplied(degrade(photo(448), s, seed, kind)) for s in (0, 0.05, 0.2, 0.5, 0.8, 1)]
        if kind == "crop":  # the frame moves, so count what is left of the object
            amounts = [-image[..., 3].sum() for image in results]
        else:
            amounts = [np.abs(image - clean).sum() for image in results]
        assert (np.diff(amounts) > 0).all()


def test_named_levels_are_ordered_within_the_range():
    assert list(SEVERITIES) == ["mild", "medium", "severe"]
    values = list(SEVERITIES.values())
    assert 0 < values[0] < values[1] < values[2] <= 1
    for name, value in SEVERITIES.items():
        assert degrade(photo(), name, 3).tobytes() == degrade(photo(), value, 3).tobytes()


def frames(image, share):
    """The four frames of the image's size that cut off that share of the object's box."""
    (left, top, right, bottom), (w, h) = object_box(image), image.size
    x, y = share * (right - left), share * (bottom - top)
    corners = [(left + x, 0), (right - x - w, 0), (0, top + y), (0, bottom - y - h)]
    return [(x, y, x + w, y + h) for x, y in (map(round, corner) for corner in corners)]


def test_crop_moves_the_frame_to_cut_the_stated_share_at_any_side():
    expected = [photo().crop(frame).tobytes() for frame in frames(photo(), 0.2)]
    assert {degrade(photo(), 0.5, seed, "crop").tobytes() for seed in range(20)} == set(expected)


def test_crop_of_one_seed_is_at_one_side():
    for seed in range(6):
        sides = set()
        for severity in (0.2, 0.5, 1):
            cropped = degrade(photo(), severity, seed, "crop").tobytes()
            sides.add([photo().crop(frame).tobytes() for frame in frames(photo(), 0.4 * severity)].index(cropped))
        assert len(sides) == 1


def test_occluder_is_opaque_grey_of_the_stated_size_inside_the_box():
    left, top, right, bottom = np.array(object_box(photo(448))) / 448
    for seed in range(30):
        image = degrade(photo(448), 1, seed, "occlusion")
        x0, y0, x1, y1 = occluder(image)
        assert (x1 - x0) * (y1 - y0) == pytest.approx(0.35 * (right - left) * (bottom - top), rel=0.03)
        assert left - 1e-9 <= x0 < x1 <= right + 1e-9
        assert top - 1e-9 <= y0 < y1 <= bottom + 1e-9
        hidden = changed(image) & (np.asarray(photo(448))[..., 3] == 255)
        assert hidden.any()
        inside = np.zeros((448, 448), bool)
        inside[round(y0 * 448) : round(y1 * 448), round(x0 * 448) : round(x1 * 448)] = True
        assert (changed(image) == inside).all()


def test_occluder_hides_something_in_the_middle_half():
    left, top, right, bottom = np.array(object_box(photo(448))) / 448
    for seed in range(30):
        image = degrade(photo(448), 0.01, seed, "occlusion")
        x0, y0, x1, y1 = occluder(image)
        center = ((x0 + x1) / 2 - left) / (right - left), ((y0 + y1) / 2 - top) / (bottom - top)
        assert np.abs(np.array(center) - 0.5).max() < 0.26
        assert (changed(image) & (np.asarray(photo(448))[..., 3] == 255)).any()


def test_occluder_of_a_hollow_object_lies_on_its_rim():
    frame = Image.new("RGBA", (100, 100))
    ImageDraw.Draw(frame).rectangle((10, 10, 90, 90), outline=(200, 0, 0, 255), width=5)
    x0, y0, x1, y1 = occluder(degrade(frame, 0.01, 0, "occlusion")) * 100
    assert min(x0 - 10, y0 - 10, 91 - x1, 91 - y1) < 5


def test_occluders_of_one_seed_are_nested_and_alike():
    for seed in range(6):
        images = [degrade(photo(448), severity, seed, "occlusion") for severity in (0.1, 0.3, 0.6, 1)]
        boxes = [occluder(image) for image in images]
        for small, large in pairwise(boxes):
            assert (small[:2] >= large[:2]).all()
            assert (small[2:] <= large[2:]).all()
        x, y = ((boxes[0][:2] + boxes[0][2:]) / 2 * 448).astype(int).tolist()
        assert len({image.getpixel((x, y)) for image in images}) == 1


def test_one_kind_alone_draws_what_it_draws_among_all():
    for seed in range(6):
        cropped, occluded = (degrade(photo(), 0.5, seed, kind) for kind in ("crop", "occlusion"))
        frame = next(f for f in frames(photo(), 0.2) if photo().crop(f).tobytes() == cropped.tobytes())
        assert degrade(photo(), 0.5, seed, ("crop", "occlusion")).tobytes() == occluded.crop(frame).tobytes()
    assert degrade(photo(), 0.6, 1, KINDS[::-1]).tobytes() == degrade(photo(), 0.6, 1).tobytes()


@pytest.mark.parametrize("severity", ["mild", "medium", "severe"])
@pytest.mark.parametrize("kinds", [*KINDS, KINDS])
def test_a_severity_means_the_same_at_any_resolution(severity, kinds):
    for seed in range(3):
        large = degrade(photo(448), severity, seed, kinds).resize((112, 112), Image.Resampling.BOX)
        small = degrade(photo(112), severity, seed, kinds)
        assert np.abs(premultiplied(large) - premultiplied(small)).mean() < 0.012


@pytest.mark.parametrize("kind", ["downscale", "blur"])
def test_smoothing_leaves_no_dark_fringes(kind):
    plain = photo(224)
    pixels = np.array(plain)
    pixels[pixels[..., 3] > 0] = (230, 140, 60, 255)
    pixels[pixels[..., 3] == 0] = 0
    result = np.asarray(degrade(Image.fromarray(pixels), 0.8, 0, kind)).astype(int)
    partial = result[(result[..., 3] > 20) & (result[..., 3] < 235)]
    assert len(partial) > 500
    error = np.abs(partial[:, :3] - (230, 140, 60)) * partial[:, 3:] / 255
    assert error.max() <= 4  # rounding of 8 bits; blurred with its black background it would be 60 and more
    clear = np.asarray(degrade(Image.fromarray(pixels), 0.8, 0, kind))[..., 3]
    assert clear.mean() == pytest.approx(pixels[..., 3].mean(), rel=0.03)  # it spreads, it does not fade


def test_downscale_leaves_few_distinct_pixels():
    """At severity 1 the longer side of the box has 12 pixels: nothing finer than that comes back."""
    image = degrade(photo(448), 1, 0, "downscale")
    side = 448 * 12 / (object_box(photo(448))[3] - object_box(photo(448))[1])
    small = image.resize((round(side), round(side)), Image.Resampling.BOX).resize((448, 448), Image.Resampling.BICUBIC)
    assert np.abs(premultiplied(small) - premultiplied(image)).mean() < 0.02
    assert np.abs(premultiplied(photo(448)) - premultiplied(image)).mean() > 0.03


@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan"), "hard", "0.5"])
def test_bad_severity_lists_the_names(severity):
    with pytest.raises(BadInput, match="mild, medium, severe"):
        degrade(photo(), severity, 0)


def test_bad_kind_and_photo_are_bad_input():
    with pytest.raises(BadInput, match=r"smear.*crop, occlusion, downscale, blur"):
        degrade(photo(), 0.5, 0, ("blur", "smear"))
    with pytest.raises(BadInput, match=r"RGB.*load_photo"):
        degrade(photo().convert("RGB"), 0.5, 0)
    with pytest.raises(BadInput, match="nothing is visible"):
        degrade(Image.new("RGBA", (64, 64)), 0.5, 0)
