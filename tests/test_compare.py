"""The error of a mesh against the true one, on cases whose answer is known."""

import dataclasses

import numpy as np
import pytest
import trimesh

from lib.data.compare import mesh_error
from lib.errors import BadInput


def box(*extents, at=(0, 0, 0)):
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(at)
    return mesh


def sheet(side=0.8, tilt=0.0, at=(0, 0, 0), share=1.0):
    """A level square, tilted about x by degrees; `share` keeps that much of its width."""
    half = side / 2
    right = -half + side * share
    corners = [[-half, -half, 0], [right, -half, 0], [right, half, 0], [-half, half, 0]]
    mesh = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.radians(tilt), [1, 0, 0]))
    mesh.apply_translation(at)
    return mesh


def test_identical_meshes_have_no_error_whatever_the_seed():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    for seed in (0, 7):
        error = mesh_error(mesh, mesh.copy(), seed)
        assert (error.mask, error.normal, error.view, error.f_score) == (0, 0, 0, 1)
        assert error.chamfer < 1e-6


def test_how_a_surface_is_triangulated_does_not_count():
    error = mesh_error(box(1, 0.5, 0.7), box(1, 0.5, 0.7).subdivide().subdivide())
    assert error.chamfer < 1e-6
    assert error.f_score == 1
    assert error.view < 1e-3  # a ray may slip between triangles at an edge


@pytest.mark.parametrize(("shift", "f_score"), [(0.015, 1), (0.03, 0)])
def test_parallel_sheets_are_their_distance_apart(shift, f_score):
    reference, candidate = sheet(), sheet(at=(0, 0, shift))
    error = mesh_error(reference, candidate)
    diagonal = 0.8 * np.sqrt(2)
    assert error.chamfer == pytest.approx(shift / diagonal, rel=1e-4)
    assert error.f_score == f_score  # the threshold is 2% of the diagonal, here 0.0226
    assert error.normal == 0


def test_shifted_sphere_has_half_the_shift_as_mean_distance():
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.4)
    moved = ball.copy()
    moved.apply_translation([0.02, 0, 0])
    error = mesh_error(ball, moved)  # |cos| of the angle to the shift is 1/2 on average over a sphere
    assert error.chamfer * np.linalg.norm(ball.extents) == pytest.approx(0.01, rel=0.03)


def test_scaled_cube_is_not_normalized_again():
    error = mesh_error(box(1, 1, 1), box(0.5, 0.5, 0.5))
    y, z = np.meshgrid(*[(np.arange(400) + 0.5) / 400 - 0.5] * 2)
    outwards = np.sqrt(0.25**2 + np.maximum(abs(y) - 0.25, 0) ** 2 + np.maximum(abs(z) - 0.25, 0) ** 2).mean()
    assert error.chamfer == pytest.approx((0.25 + outwards) / 2 / np.sqrt(3), rel=0.01)
    assert error.f_score == 0
    assert error.mask == pytest.approx(0.75, abs=0.08)  # exact without perspective


def test_tilt_is_the_normal_error_in_right_angles():
    error = mesh_error(sheet(), sheet(tilt=9))
    assert error.normal == pytest.approx(9 / 90, abs=1e-4)


def test_view_error_charges_one_outside_the_overlap_and_the_angle_inside():
    error = mesh_error(sheet(), sheet(tilt=9, at=(0.1, 0, 0)))
    assert 0.1 < error.mask < 0.5
    assert error.view == pytest.approx(error.mask + (1 - error.mask) * error.normal, abs=1e-6)


def test_meshes_apart_have_full_error():
    error = mesh_error(box(0.2, 0.2, 0.2, at=(0, 0, 0.35)), box(0.2, 0.2, 0.2, at=(0, 0, -0.35)))
    assert (error.mask, error.normal, error.view, error.f_score) == (1, 1, 1, 0)


def test_neither_a_fragment_nor_a_heap_scores_well():
    whole, half = sheet(), sheet(share=0.5)
    assert mesh_error(whole, half).f_score == pytest.approx(0.69, abs=0.02)  # precision 1, recall .5 and the 2% rim
    heap = trimesh.util.concatenate([whole, *(sheet(at=(0, 0, z)) for z in (0.1, 0.2, 0.3))])
    assert mesh_error(whole, heap).f_score == pytest.approx(0.4, abs=0.02)  # recall 1, precision 1/4


def test_swapping_two_meshes_of_one_size_changes_nothing():
    a, b = sheet(), sheet(at=(0.1, 0, 0.05))
    forward, backward = mesh_error(a, b), mesh_error(b, a)
    assert dataclasses.astuple(forward) == pytest.approx(dataclasses.astuple(backward))


def test_distances_are_in_diagonals_of_the_reference():
    small, large = box(0.5, 0.5, 0.5), box(1, 1, 1)
    assert mesh_error(small, large).chamfer == pytest.approx(2 * mesh_error(large, small).chamfer)


def test_only_the_seed_decides_the_samples():
    a, b = box(1, 0.5, 0.7), trimesh.creation.icosphere(radius=0.4)
    np.random.seed(1)  # noqa: NPY002
    first = mesh_error(a, b, seed=3)
    np.random.seed(2)  # noqa: NPY002
    assert mesh_error(a, b, seed=3) == first
    other = mesh_error(a, b, seed=4)
    assert other.chamfer != first.chamfer
    assert other.chamfer == pytest.approx(first.chamfer, rel=0.03)
    assert (other.mask, other.normal, other.view) == (first.mask, first.normal, first.view)


@pytest.mark.parametrize("vertices", [[], [[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 0, 0], [1, 0, 0], [0, np.nan, 0]]])
def test_a_mesh_without_surface_is_refused_by_name(vertices):
    faces = [[0, 1, 2]] if vertices else np.zeros((0, 3), int)
    bad = trimesh.Trimesh(vertices, faces, process=False)
    with pytest.raises(BadInput, match="candidate"):
        mesh_error(sheet(), bad)
    with pytest.raises(BadInput, match="reference"):
        mesh_error(bad, sheet())


def test_a_reference_that_is_changed_in_place_is_not_taken_for_what_it_was():
    reference, candidate = box(1, 0.5, 0.5), box(1, 0.5, 0.5)
    assert mesh_error(reference, candidate).view == 0
    reference.apply_translation([0, 0, 0.2])
    assert mesh_error(reference, candidate) == mesh_error(box(1, 0.5, 0.5, at=(0, 0, 0.2)), candidate)
    assert mesh_error(reference, candidate).view > 0.1
