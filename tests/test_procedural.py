"""Procedural furniture: exact fields, sound meshes, reproducible and disjoint splits, parts no front view shows."""

import hashlib
import pickle
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import trimesh

from lib.data import primitives
from lib.data.furniture_draws import SPLITS, STRIPES, Draw
from lib.data.primitives import Box, Cone, Tube
from lib.data.procedural import CATEGORIES, Furniture, furniture
from lib.errors import BadInput

SOLIDS = {
    "box": (Box, (0.3, 0.2, 0.1), 0.0),
    "rounded box": (Box, (0.25, 0.1, 0.05), 0.08),
    "cylinder": (Cone, (0.2, 0.2, 0.3), 0.0),
    "wide flat cone": (Cone, (0.1, 0.4, 0.05), 0.0),
    "narrowing cone": (Cone, (0.3, 0.1, 0.25), 0.0),
    "rounded cone": (Cone, (0.1, 0.25, 0.15), 0.06),
    "ball": (Cone, (0.01, 0.01, 0.01), 0.3),
    "shade": (Tube, (0.35, 0.15, 0.2), 0.03),
    "ring": (Tube, (0.3, 0.3, 0.001), 0.05),
}
# sha256 of the geometry and colors of train 0 to 7: weights and records rest on these objects staying as they are.
PINNED = (
    "7f9cb53e6077b688",
    "c943b8381cf056e8",
    "e0db75117692d1a9",
    "f59914800355a61e",
    "fdc59b1c1a958836",
    "d04ee3d716670f6c",
    "045e030458e1c939",
    "c0a825222a115d15",
)


def solid(name):
    """One of SOLIDS, turned and shifted."""
    kind, size, rounding = SOLIDS[name]
    rotation = trimesh.transformations.euler_matrix(0.4, -0.7, 1.1)[:3, :3]
    return kind(np.array(size), rounding, rotation, np.array([0.05, -0.1, 0.02]), np.ones(3))


def scene(meshes):
    """An open3d scene with one geometry per (vertices, faces)."""
    result = o3d.t.geometry.RaycastingScene()
    for vertices, faces in meshes:
        result.add_triangles(o3d.core.Tensor(np.float32(vertices)), o3d.core.Tensor(np.uint32(faces)))
    return result


def measured_distance(meshes, points, signed=False):
    """Distance (N,) of points to triangle meshes, by brute force."""
    measure = scene(meshes).compute_signed_distance if signed else scene(meshes).compute_distance
    return measure(o3d.core.Tensor(np.float32(points))).numpy()


def cast(parts, azimuth, elevation=20, size=112):
    """Orthographic view: the number of the part seen (-1: none) and the distance, each (size, size)."""
    azimuth, elevation = np.radians([azimuth, elevation])
    sight = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    right = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    u, v = np.meshgrid(*[np.linspace(-0.8, 0.8, size)] * 2)
    origins = u[..., None] * right - v[..., None] * np.cross(sight, right) + 3 * sight
    rays = np.concatenate([origins, np.broadcast_to(-sight, origins.shape)], axis=-1)
    seen = scene([part.mesh() for part in parts]).cast_rays(o3d.core.Tensor(np.float32(rays)))
    return np.where(np.isfinite(seen["t_hit"].numpy()), seen["geometry_ids"].numpy().astype(int), -1), seen[
        "t_hit"
    ].numpy()


def hidden_parts(item):
    """Numbers of the parts that cannot be seen from the front and can from behind."""
    front, back = cast(item.primitives, 0)[0], cast(item.primitives, 180)[0]
    return [i for i in range(len(item.primitives)) if not (front == i).any() and (back == i).sum() > 20]


def digest(item):
    values = [
        np.concatenate([p.size, [p.rounding], p.rotation.ravel(), p.center, p.color]).round(4) + 0.0
        for p in item.primitives
    ]
    kinds = " ".join(type(p).__name__ for p in item.primitives)
    return hashlib.sha256(kinds.encode() + np.array(values).tobytes()).hexdigest()[:16]


@cache
def sample():
    return [furniture("train", i) for i in range(160)]


def thickness(part):
    if isinstance(part, Tube):
        return 2 * part.rounding
    if isinstance(part, Cone):
        return 2 * (min(part.size[2], part.size[:2].max()) + part.rounding)
    return 2 * (part.size.min() + part.rounding)


@pytest.mark.parametrize("name", SOLIDS)
def test_signed_distance_of_a_primitive_is_exact(name, monkeypatch):
    monkeypatch.setattr(primitives, "SEGMENTS", 400)
    monkeypatch.setattr(primitives, "ARC", 60)
    part, rng = solid(name), np.random.default_rng(0)
    near = trimesh.sample.sample_surface(trimesh.Trimesh(*part.mesh()), 1000, seed=0)[0]
    points = np.concatenate([rng.uniform(-0.7, 0.7, (2000, 3)), near + rng.normal(0, 0.03, (1000, 3))])
    expected = measured_distance([part.mesh()], points, signed=True)
    assert (expected < 0).sum() > 200
    np.testing.assert_allclose(part.sdf(points), expected, atol=5e-5)


@pytest.mark.parametrize("name", SOLIDS)
def test_gradient_of_the_distance_has_length_one(name):
    part, step = solid(name), 1e-6
    points = np.random.default_rng(1).uniform(-0.7, 0.7, (2000, 3))
    differences = [part.sdf(points + step * axis) - part.sdf(points - step * axis) for axis in np.eye(3)]
    length = np.linalg.norm(differences, axis=0) / (2 * step)
    assert (np.abs(length - 1) < 1e-4).mean() > 0.99  # all but those that straddle the medial axis
    assert length.max() < 1 + 1e-4


@pytest.mark.parametrize("name", SOLIDS)
def test_mesh_of_a_primitive_is_watertight_outward_and_on_the_surface(name):
    part = solid(name)
    mesh = trimesh.Trimesh(*part.mesh(), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    assert mesh.area_faces.min() > 0
    np.testing.assert_allclose(part.sdf(mesh.vertices), 0, atol=1e-12)
    np.testing.assert_allclose(part.sdf(mesh.triangles_center), 0, atol=0.02)


def test_moving_a_primitive_moves_its_distance_and_its_mesh_alike():
    part, rotation, offset = (
        solid("rounded cone"),
        trimesh.transformations.euler_matrix(1, 2, 3)[:3, :3],
        [0.1, 0.2, 0.3],
    )
    moved, points = part.moved(rotation, offset, scale=0.5), np.random.default_rng(2).uniform(-0.7, 0.7, (200, 3))
    np.testing.assert_allclose(moved.sdf(0.5 * points @ rotation.T + offset), 0.5 * part.sdf(points), atol=1e-12)
    np.testing.assert_allclose(moved.mesh()[0], 0.5 * part.mesh()[0] @ rotation.T + offset, atol=1e-12)


@pytest.mark.parametrize("index", range(8))
def test_signed_distance_of_an_object_is_exact_outside_and_negative_inside(index, monkeypatch):
    monkeypatch.setattr(primitives, "SEGMENTS", 200)
    monkeypatch.setattr(primitives, "ARC", 30)
    item = furniture("validation", index)
    meshes, points = [part.mesh() for part in item.primitives], np.random.default_rng(3).uniform(-0.6, 0.6, (3000, 3))
    depths = [measured_distance([mesh], points, signed=True) for mesh in meshes]
    inside, distance = np.min(depths, axis=0) < 0, measured_distance(meshes, points)
    sdf = item.sdf(points)
    clear = distance > 3e-4  # facets instead of curves do not matter there
    assert ((sdf < 0) == inside)[clear].all()
    np.testing.assert_allclose(sdf[~inside], distance[~inside], atol=3e-4)
    assert (np.abs(sdf[inside]) <= np.abs(np.min(depths, axis=0)[inside]) + 3e-4).all()


def test_mesh_lies_on_or_in_the_zero_set_and_has_the_colors_of_the_field():
    for item in sample()[:40]:
        vertices = item.mesh.vertices
        assert item.sdf(vertices).max() < 1e-9
        distances = np.sort([part.sdf(vertices) for part in item.primitives], axis=0)
        alone = (np.abs(distances[0]) < 1e-9) & (distances[1] > 1e-6)  # on one surface, off all the others
        assert alone.sum() > 10
        colors = item.mesh.visual.vertex_colors[alone]
        np.testing.assert_array_equal(np.round(255 * item.color(vertices[alone])), colors[:, :3])
        assert (colors[:, 3] == 255).all()


def test_color_inside_is_of_the_part_that_is_entered_deepest_and_of_the_first_of_equals():
    red, blue, green = (replace(solid("box"), color=np.array(color)) for color in np.eye(3)[[0, 2, 1]])
    big = replace(green, size=2 * green.size)
    assert Furniture("", "", (red, blue)).color(red.center[None]).tolist() == [[1, 0, 0]]
    assert Furniture("", "", (red, blue, big)).color(red.center[None]).tolist() == [[0, 1, 0]]


def test_fields_do_not_depend_on_how_points_are_batched():
    item, points = sample()[6], np.random.default_rng(4).uniform(-0.5, 0.5, (20000, 3))
    np.testing.assert_array_equal(item.sdf(points)[9000:9010], item.sdf(points[9000:9010]))
    np.testing.assert_array_equal(item.color(points)[9000:9010], item.color(points[9000:9010]))


def test_objects_fill_the_unit_box_with_their_front_to_minus_y():
    for item in sample():
        low, high = item.mesh.bounds
        np.testing.assert_allclose(low + high, 0, atol=1e-9)
        assert (high - low).max() == pytest.approx(1)
        if item.category in ("chair", "sofa"):  # the highest part is the back
            vertices = item.mesh.vertices
            assert vertices[vertices[:, 2] > high[2] - 0.05, 1].mean() > 0, item.id


def test_any_eight_objects_in_a_row_have_all_categories():
    assert len(CATEGORIES) == 8
    for start in (0, 3, 1001):
        assert Counter(furniture("test", i).category for i in range(start, start + 8)) == Counter(CATEGORIES)


def test_objects_are_sound_furniture():
    """3 to 25 connected parts, thick enough for a grid of 64, in 2 to 4 colors; faces of two colors do not coincide."""
    coincident = 0
    for item in sample():
        parts = item.primitives
        assert 3 <= len(parts) <= 25, item.id
        assert 2 <= len({tuple(part.color) for part in parts}) <= 4, item.id
        assert min(map(thickness, parts)) > 0.023, item.id
        points = [
            np.concatenate([mesh.vertices, trimesh.sample.sample_surface(mesh, 300, seed=0)[0]])
            for mesh in (trimesh.Trimesh(*part.mesh(), process=False) for part in parts)
        ]
        distances = [np.array([part.sdf(p) for part in parts]) for p in points]
        touching = np.array([d.min(axis=1) < -0.003 for d in distances]) | np.eye(len(parts), dtype=bool)
        reach = np.linalg.matrix_power((touching | touching.T).astype(float), len(parts))
        assert (reach > 0).all(), item.id
        for i, d in enumerate(distances):
            same = np.array([(part.color == parts[i].color).all() for part in parts])
            flush = (np.abs(d[~same]) < 1e-3) & (d.min(axis=0) > -1e-3)
            coincident += (flush[:, -300:].mean(axis=1) > 0.2).any() if len(flush) else 0
    assert coincident <= 1


def test_colors_span_both_chroma_axes():
    colors = np.array([part.color for item in sample() for part in item.primitives])
    red_green = colors[:, 0] - colors[:, 1]
    blue_yellow = colors[:, 2] - colors[:, :2].mean(axis=1)
    for axis in (red_green, blue_yellow):
        assert np.quantile(axis, 0.05) < -0.3
        assert np.quantile(axis, 0.95) > 0.3


def test_an_object_is_a_pure_function_of_split_and_index():
    first = [digest(furniture("train", i)) for i in range(16)]
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert [digest(furniture("train", i)) for i in reversed(range(16))] == first[::-1]
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    code = "import pickle, sys; from lib.data.procedural import furniture; sys.stdout.buffer.write(pickle.dumps("
    code += "[furniture('train', i) for i in range(16)]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[1])
    assert [digest(item) for item in pickle.loads(run.stdout)] == first


@pytest.mark.parametrize("index", range(8))
def test_objects_stay_what_they_were(index):
    assert digest(furniture("train", index)) == PINNED[index]


def test_splits_are_disjoint():
    splits = {split: {digest(furniture(split, i)) for i in range(1000)} for split in SPLITS}
    assert all(len(found) == 1000 for found in splits.values())
    assert len(set.union(*splits.values())) == 3000


def test_an_index_means_another_object_in_every_split():
    kinds = {split: [[type(p) for p in furniture(split, i).primitives] for i in range(64)] for split in SPLITS}
    for a, b in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert np.mean([x == y for x, y in zip(kinds[a], kinds[b], strict=True)]) < 0.3


def test_no_continuous_draw_is_shared_between_splits():
    draws = {split: np.array([Draw(split, i).uniform(2, 5) for i in range(3000)]) for split in SPLITS}
    for a, b in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert np.abs(draws[a][:, None] - draws[b]).min() > 0.999 * (5 - 2) / (2 * 3 * STRIPES)
    levels = np.array([0.01, 0.25, 0.5, 0.75, 0.99])
    for values in draws.values():  # yet each covers the whole range evenly
        np.testing.assert_allclose(np.quantile(values, levels), 2 + 3 * levels, atol=0.1)


def test_many_objects_have_parts_that_the_front_hides():
    """Removing these parts leaves every pixel from the front as it is, and changes the view from behind."""
    share = {category: [] for category in CATEGORIES}
    for item in sample():
        hidden = hidden_parts(item)
        share[item.category].append(bool(hidden))
        if hidden:
            less = [part for i, part in enumerate(item.primitives) if i not in hidden]
            np.testing.assert_array_equal(cast(less, 0)[1], cast(item.primitives, 0)[1])
            assert (cast(less, 180)[1] != cast(item.primitives, 180)[1]).sum() > 20
    assert np.mean([found for category in share.values() for found in category]) > 0.5
    assert all(np.mean(found) > 0.25 for found in share.values()), share


def test_objects_of_a_category_differ_in_shape():
    grid = np.stack(np.meshgrid(*[(np.arange(16) + 0.5) / 16 - 0.5] * 3), axis=-1).reshape(-1, 3)
    for category in range(8):
        filled = np.array([furniture("train", i).sdf(grid) < 0.03 for i in range(category, 160, 8)])
        overlap = (filled[:, None] & filled).sum(axis=-1) / (filled[:, None] | filled).sum(axis=-1)
        assert np.median(overlap[~np.eye(len(filled), dtype=bool)]) < 0.8, CATEGORIES[category]


@pytest.mark.parametrize(("split", "index", "named"), [("holdout", 0, "split"), ("train", -1, "index")])
def test_bad_arguments_are_named(split, index, named):
    with pytest.raises(BadInput) as error:
        furniture(split, index)
    assert error.value.source == named


def test_generation_is_fast():
    start = time.process_time()
    items = [furniture("validation", i) for i in range(64)]
    assert all(len(item.mesh.faces) for item in items)
    assert (time.process_time() - start) / 64 < 0.03
    nodes = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 65)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    start = time.process_time()
    for item in items[:8]:
        item.nearest(nodes)
    assert (time.process_time() - start) / 8 < 0.6
