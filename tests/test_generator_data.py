"""What the generator is trained on: fields around a surface, points on it, photos of it, and the files they are in."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lib.data.photos import render_photo
from lib.data.procedural import CATEGORIES, Furniture, furniture
from lib.generator import fields
from lib.generator.collection import Collection, write_collection
from lib.generator.recipe import RECIPE
from lib.renderers.cameras import Camera
from lib.shards import read_shards, write_shards
from lib.trellis.conditioning import prepare_photo

DATA = replace(RECIPE.data, objects=16, held=8, photos=2, points=400)
NODES = np.linspace(-0.5, 0.5, 65)


@pytest.fixture(scope="module")
def samples():
    return {index: fields.sample(index, DATA, 5) for index in (0, 3, 7)}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_collection(replace(RECIPE, data=DATA), tmp_path_factory.mktemp("generator") / "data", workers=1)


def test_the_cells_are_those_whose_nodes_lie_on_both_sides_of_the_surface(samples):
    item = furniture("train", 3)
    everywhere = item.sdf(np.stack(np.meshgrid(NODES, NODES, NODES, indexing="ij"), -1).reshape(-1, 3))
    everywhere = everywhere.reshape(65, 65, 65)
    inside = np.pad(everywhere[1:-1, 1:-1, 1:-1] < 0, 1)  # the border of the grid is outside
    expected = []
    for x, y, z in np.ndindex(16, 16, 16):
        block = inside[4 * x : 4 * x + 5, 4 * y : 4 * y + 5, 4 * z : 4 * z + 5]
        if block.any() and not block.all():
            expected.append([x, y, z])
    cells = samples[3]["cells"]
    assert cells.tolist() == expected
    x, y, z = cells[7]
    block = everywhere[4 * x : 4 * x + 5, 4 * y : 4 * y + 5, 4 * z : 4 * z + 5]
    assert np.allclose(samples[3]["sdf"][7], block, atol=1e-3)


def test_nodes_have_the_color_of_the_nearest_part_and_cells_that_of_their_middle(samples):
    one, item = samples[0], furniture("train", 0)
    where = (4 * one["cells"][:, None].astype(int) + [(0, 0, 0), (4, 1, 2), (2, 2, 2)]) / 64 - 0.5
    expected = np.round(255 * item.color(where.reshape(-1, 3))).reshape(-1, 3, 3)
    part = np.stack([one["part"][:, 0, 0, 0], one["part"][:, 4, 1, 2], one["part"][:, 2, 2, 2]], 1)
    assert (one["palette"][part] == expected).all()
    assert (one["color"] == expected[:, 2]).all()


def test_the_distance_is_that_at_the_centers_of_the_cells(samples):
    center = (np.array([[2, 9, 14]]) + 0.5) / 16 - 0.5
    assert samples[7]["distance"][2, 9, 14] == pytest.approx(furniture("train", 7).sdf(center)[0], abs=1e-3)


def test_points_are_on_the_outer_surface_with_its_normals_and_colors(samples):
    for index, one in samples.items():
        item, points = furniture("train", index), one["points"].astype(float)
        assert np.abs(item.sdf(points)).max() < 5e-3
        outward = item.sdf(points + 0.01 * one["normals"].astype(float)) - item.sdf(points)
        assert (outward > 0.005).mean() > 0.95
        assert (one["point_colors"] == np.round(255 * item.color(points))).all(1).mean() > 0.95


def test_photos_show_the_conditioner_what_the_pipeline_will_show_it(samples):
    one = samples[0]
    rgb = (one["photos"][..., :3].astype(float) * one["photos"][..., 3:] / 255).astype(np.uint8)
    for photo, view, other in zip(rgb, one["views"].tolist(), rgb[::-1], strict=True):
        given = np.asarray(prepare_photo(render_photo(furniture("train", 0).mesh, 256, *view), 112), float)
        assert np.abs(given - photo).mean() < 4
        assert np.abs(given - other).mean() > 8
    azimuth, elevation = np.concatenate([other["views"] for other in samples.values()]).T
    assert (np.abs(azimuth) <= 75).all()
    assert ((elevation >= 8) & (elevation <= 38)).all()


def test_seen_is_the_point_of_the_surface_in_the_middle_of_each_patch(samples):
    for index, one in samples.items():
        item = furniture("train", index)
        for photo, view, seen in zip(one["photos"], one["views"].tolist(), one["seen"].astype(float), strict=True):
            there = np.isfinite(seen[..., 0])
            assert (there == (photo[3::7, 3::7, 3] > 127)).mean() > 0.97
            assert np.abs(item.sdf(seen[there])).max() < 6e-3
            row, column = np.nonzero(there)
            camera = Camera(*view)
            right, up, back = camera.rotation @ seen[there].T
            depth = camera.distance - back
            assert np.corrcoef(column, right / depth)[0, 1] > 0.999
            assert np.corrcoef(row, -up / depth)[0, 1] > 0.999


def test_a_mirrored_object_has_the_flipped_fields_and_photos(samples):
    item, one = furniture("train", 0), samples[0]
    flip = np.diag([-1.0, 1, 1])
    twin = Furniture("twin", item.category, tuple(part.moved(rotation=flip) for part in item.primitives))
    assert {tuple(cell) for cell in fields.active_cells(twin)[0]} == {
        (15 - x, y, z) for x, y, z in one["cells"].astype(int)
    }
    mesh = item.mesh.copy()
    mesh.vertices *= [-1, 1, 1]
    azimuth, elevation = one["views"][0].tolist()
    alpha = np.asarray(render_photo(mesh, 112, -azimuth, elevation))[..., 3]
    assert np.abs(alpha.astype(int) - one["photos"][0, :, ::-1, 3]).mean() < 3
    assert np.abs(alpha.astype(int) - one["photos"][0, ..., 3]).mean() > 10


def test_a_training_object_is_a_function_of_its_number(samples, paths):
    alone, first = samples[3], {name: values[3] for name, values in read_shards(paths).items()}
    assert alone.keys() == first.keys()
    assert all(np.array_equal(alone[name], first[name].numpy(), equal_nan=name == "seen") for name in alone)
    assert not np.array_equal(alone["views"], fields.sample(3, DATA, 6)["views"])


def test_a_collection_knows_its_objects_and_holds_some_back(paths):
    data = Collection(DATA, paths)
    assert data["photos"].shape == (16, 2, 112, 112, 4)
    assert [CATEGORIES[number] for number in data["category"][:8]] == list(CATEGORIES)
    cells = data["cells"][5].long()
    assert data.occupancy[5].nonzero().tolist() == cells.tolist()
    assert (data.colors[5][tuple(cells.T)] == data["color"][5]).all()
    drawn = torch.cat([data.draw(4, np.random.default_rng(seed)) for seed in range(30)])
    assert set(drawn.tolist()) == set(range(8))
    assert data.held.tolist() == list(range(8, 16))


def numbers(index, ragged):
    return {"index": np.array(index), "rows": np.full((1 + index % 3 if ragged else 2, 2), index)}


@pytest.mark.parametrize("ragged", [False, True])
def test_shards_give_back_what_was_made_in_order(tmp_path, ragged):
    paths = write_shards(partial(numbers, ragged=ragged), tmp_path, 20, workers=1)
    data = read_shards(paths)
    assert len(paths) == 3
    assert torch.stack(data["index"]).tolist() == list(range(24))
    assert all((rows.numpy() == numbers(i, ragged)["rows"]).all() for i, rows in enumerate(data["rows"]))
    assert read_shards(paths, ["index"]).keys() == {"index"}


def test_only_missing_shards_are_made(tmp_path):
    paths = write_shards(partial(numbers, ragged=True), tmp_path, 16, workers=1)
    kept = paths[0].read_bytes()
    paths[1].unlink()

    assert write_shards(partial(numbers, ragged=False), tmp_path, 16, workers=1) == paths
    assert paths[0].read_bytes() == kept
    assert torch.stack(read_shards(paths[1:])["rows"]).shape == (8, 2, 2)
