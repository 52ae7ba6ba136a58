"""Curved and detailed training objects, and samples of the generator among the candidates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from lib.data.compare import mesh_error, surface_distance
from lib.data.procedural import CATEGORIES, furniture
from lib.errors import BadInput
from lib.judges.training import samples, variety
from lib.judges.training.recipes import GENERATED, KINDS, RECIPES
from lib.judges.training.truth import charges

CHEAP = replace(RECIPES["judge_x"], mix=(1, 0, 0, 0, 0, 0, 0, 0))
CURVED, SAMPLED = 0, len(CATEGORIES)  # objects of the first and second shard after the plain ones


def curved(index, seed=0):
    parts = samples.fine_parts(furniture("train", index))
    return parts, variety.bent(parts, np.random.default_rng(seed))


def test_a_bent_object_is_the_same_object_with_other_sides_in_the_unit_box():
    parts, bent = curved(0)
    whole = samples.joined(bent)
    assert np.isclose(whole.extents.max(), 1)
    assert np.abs(whole.bounds).max() <= 0.5 + 1e-9
    assert [len(part.faces) for part in bent[: len(parts)]] == [len(part.faces) for part in parts]
    assert (bent[0].visual.vertex_colors == parts[0].visual.vertex_colors).all()
    error = mesh_error(samples.joined(parts), samples.joined(bent[: len(parts)]))
    assert 0.002 < error.chamfer < 0.08
    assert error.normal > 0.02


def test_bending_depends_on_the_generator_of_random_numbers_alone():
    (_, first), (_, again), (_, other) = curved(1), curved(1), curved(1, seed=1)
    assert all((a.vertices == b.vertices).all() for a, b in zip(first, again, strict=True))
    assert not np.allclose(first[0].vertices, other[0].vertices)


def test_ornaments_are_parts_of_their_own_that_touch_the_object():
    added = 0
    for index in range(4):
        parts, bent = curved(index, seed=index)
        object_ = samples.joined(bent[: len(parts)])
        for ornament in bent[len(parts) :]:
            added += 1
            assert surface_distance(object_, ornament.vertices).min() < 0.02  # it is half sunk in
    assert added > 4


def test_rounding_takes_the_corners_of_a_cube_and_leaves_the_middles_of_its_sides():
    cube = trimesh.creation.box((1, 1, 1)).subdivide().subdivide()
    rounded = variety._rounded(cube, 1.0)
    assert np.allclose(np.linalg.norm(rounded.vertices, axis=1), 0.5)
    assert np.allclose(variety._rounded(cube, 0.0).vertices, cube.vertices)


def test_the_generators_samples_are_of_the_object(monkeypatch):
    item = furniture("train", 1)
    meshes = variety.generated(item, 2, np.random.default_rng(0))
    errors = [mesh_error(item.mesh, mesh).f_score for mesh in meshes]
    assert min(errors) > 0.2
    assert errors[0] != errors[1]
    monkeypatch.setattr(variety, "GENERATOR", "weights/none")
    with pytest.raises(BadInput, match="none"):
        variety.generated(item, 1, np.random.default_rng(0))


def test_of_the_later_objects_every_other_shard_is_bent_and_in_the_others_most_candidates_are_samples(monkeypatch):
    monkeypatch.setattr(samples, "PLAIN", 0)
    monkeypatch.setattr(samples, "SPLATS", 500)
    stand_in = trimesh.creation.icosphere(radius=0.3)
    stand_in.visual.vertex_colors = [90, 90, 90, 255]
    monkeypatch.setattr(samples, "generated", lambda item, count, rng: [stand_in] * count)
    curved, sampled = (samples.sample(CHEAP, index) for index in (CURVED, SAMPLED))
    monkeypatch.setattr(samples, "PLAIN", 100)
    plain = samples.sample(CHEAP, CURVED)
    place = KINDS.index(GENERATED)
    assert place not in curved["kinds"]
    assert (curved["normals"][0] != plain["normals"][0]).any()
    assert (curved["photo"] != plain["photo"]).any()
    made = sampled["kinds"] == place
    assert made.sum() == samples.SAMPLES
    assert not made[0]
    first = np.flatnonzero(made)[0]
    assert all((sampled["normals"][row] == sampled["normals"][first]).all() for row in np.flatnonzero(made))
    assert (sampled["severity"][made] == 0).all()


def test_a_sample_has_no_charge_of_its_own():
    kinds = torch.tensor([KINDS.index(GENERATED), KINDS.index("holes")])
    free, charged = charges(RECIPES["judge_x"], kinds, torch.tensor([0.5, 0.5])).tolist()
    assert free == 0
    assert charged > 0
