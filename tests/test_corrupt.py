"""Damage that is known: what each kind does, that more of it is worse, and that nothing else changes."""

from collections import namedtuple

import numpy as np
import pytest
import trimesh
from scipy.stats import spearmanr

from lib.data.compare import mesh_error, surface_distance
from lib.data.corrupt import CORRUPTIONS, corrupt, wrong_category, wrong_instance
from lib.errors import BadInput

BROWN, RED = (120, 80, 40, 255), (200, 30, 30, 255)
Thing = namedtuple("Thing", "id category mesh")


def painted(mesh, color=BROWN):
    mesh.visual.vertex_colors = np.tile(np.uint8(color), (len(mesh.vertices), 1))
    return mesh


def block(extents, at=(0, 0, 0), color=BROWN):
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(at)
    return painted(mesh, color)


def chair():
    """Six parts of 12 faces each that run into one another, in the unit box."""
    legs = [block((0.06, 0.06, 0.45), (x, y, -0.275)) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
    seat, back = block((0.5, 0.5, 0.05), (0, 0, -0.03), RED), block((0.5, 0.05, 0.5), (0, 0.22, 0.24))
    return trimesh.util.concatenate([*legs, seat, back])


def ball():
    return painted(trimesh.creation.icosphere(subdivisions=4, radius=0.5))


def bookcase():
    boards = [block((0.5, 0.3, 0.04), (0, 0, z)) for z in (-0.48, -0.16, 0.16, 0.48)]
    return trimesh.util.concatenate([*boards, *(block((0.04, 0.3, 1), (x, 0, 0), RED) for x in (-0.23, 0.23))])


def contents(mesh):
    return mesh.vertices.tobytes(), mesh.faces.tobytes(), mesh.visual.vertex_colors.tobytes()


def bodies(mesh):
    """Connected parts, counting vertices at one place as one."""
    merged = mesh.copy()
    merged.merge_vertices()
    return merged.split(only_watertight=False)


# ---- for every kind -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severity_zero_is_the_mesh_itself_in_a_copy(kind):
    mesh = chair()
    nothing = corrupt(mesh, kind, 0, seed=1)
    assert contents(nothing.mesh) == contents(mesh)
    assert nothing.mesh is not mesh
    assert nothing.error.view == 0


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_arguments_alone_decide_and_the_input_stays(kind):
    mesh = chair()
    before = contents(mesh)
    np.random.seed(1)  # noqa: NPY002
    first = corrupt(mesh, kind, 0.5, seed=1)
    np.random.seed(2)  # noqa: NPY002
    again = corrupt(mesh, kind, 0.5, seed=1)
    assert contents(first.mesh) == contents(again.mesh)
    assert first.did == again.did
    assert contents(mesh) == before
    if kind != "smooth":  # nothing in it is random
        assert contents(corrupt(mesh, kind, 0.5, seed=2).mesh) != contents(first.mesh)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_more_severe_is_worse_and_full_severity_is_plain_to_see(kind):
    severities = (0.1, 0.4, 1)
    for mesh, seed in ((chair(), 0), (bookcase(), 1)):
        damaged = [corrupt(mesh, kind, severity, seed).mesh for severity in severities]
        errors = [mesh_error(mesh, other, n_points=2000, size=64) for other in damaged]
        assert spearmanr(severities, [error.view for error in errors]).statistic == 1
        assert spearmanr(severities, [error.chamfer for error in errors]).statistic == 1
        assert errors[0].view < 0.3
        assert errors[-1].view > 0.12


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_colors_come_from_the_mesh_and_the_frame_is_kept(kind):
    result = corrupt(chair(), kind, 0.8, seed=3).mesh
    assert set(map(tuple, np.asarray(result.visual.vertex_colors))) == {BROWN, RED}
    assert np.isfinite(result.vertices).all()
    assert abs(result.bounds).max() < 0.68


@pytest.mark.parametrize("kind", ["face_drop", "noise"])
def test_coarse_and_fine_triangulations_are_damaged_alike(kind):
    coarse, fine = block((1, 0.6, 0.8)), painted(block((1, 0.6, 0.8)).subdivide_to_size(0.05))
    expected = corrupt(fine, kind, 0.5, seed=0).error.view
    for seed in range(4):
        assert corrupt(coarse, kind, 0.5, seed).error.view == pytest.approx(expected, abs=0.04)


def test_error_is_against_the_intact_mesh():
    mesh = chair()
    result = corrupt(mesh, "holes", 0.5, seed=0)
    assert result.error == mesh_error(mesh, result.mesh)
    assert (result.kind, result.severity, result.seed) == ("holes", 0.5, 0)


def test_bad_arguments_are_named_before_any_work():
    mesh = chair()
    with pytest.raises(BadInput, match="floaters"):
        corrupt(mesh, "rust", 0.5, 0)
    for severity in (-0.1, 1.1, np.nan):
        with pytest.raises(BadInput, match="severity"):
            corrupt(mesh, "noise", severity, 0)
    with pytest.raises(BadInput, match="surface"):
        corrupt(trimesh.Trimesh(), "noise", 0.5, 0)
    with pytest.raises(BadInput, match="unit box"):
        corrupt(block((100, 50, 70)), "noise", 0.5, 0)


# ---- kind by kind -------------------------------------------------------------------------------------------------


def test_face_drop_drops_the_share_it_says():
    result = corrupt(ball(), "face_drop", 0.375, seed=0)
    assert "30%" in result.did
    assert result.mesh.area / ball().area == pytest.approx(0.7, abs=0.02)


def test_holes_are_few_and_coherent():
    mesh = ball()
    result = corrupt(mesh, "holes", 0.5, seed=0)
    kept = surface_distance(result.mesh, mesh.triangles_center) < 1e-4
    removed = mesh.submesh([~kept], append=True)
    count = int(result.did.split()[1])
    assert 1 <= len(bodies(removed)) <= count <= 40
    assert removed.area / mesh.area == pytest.approx(0.225, abs=0.03)
    assert "22%" in result.did


def test_a_slab_is_cut_off_slanted_along_a_plane():
    mesh = ball()  # one part, so always a slab
    for seed in range(3):
        result = corrupt(mesh, "missing_part", 0.5, seed)
        assert "slab" in result.did
        kept = surface_distance(result.mesh, mesh.triangles_center) < 1e-4
        gone = mesh.triangles_center[~kept]
        direction = gone.mean(axis=0) / np.linalg.norm(gone.mean(axis=0))
        assert (gone @ direction).min() > (mesh.triangles_center[kept] @ direction).max() - 0.05
        assert abs(direction).min() > 0.2
        assert 1 - result.mesh.area / mesh.area == pytest.approx(0.3, abs=0.02)


def test_whole_parts_go_missing():
    mesh = chair()
    lost = [corrupt(mesh, "missing_part", 0.6, seed) for seed in range(8)]
    by_part = [result for result in lost if "parts" in result.did]
    assert 0 < len(by_part) < len(lost)  # else a slab
    for result in by_part:
        shares = [share_left(part, result.mesh) for part in mesh.split()]
        count = int(result.did.split()[1])
        assert sum(share < 1 for share in shares) == count
        assert sum(share == 0 for share in shares) >= count - 1  # the last may be gone in part only


def share_left(part, mesh):
    return np.mean(surface_distance(mesh, part.subdivide_to_size(0.05).triangles_center) < 1e-4)


@pytest.mark.parametrize("kind", ["noise", "smooth", "proportion"])
def test_displacement_opens_no_seam(kind):
    soup = painted(trimesh.creation.icosphere(subdivisions=2, radius=0.5).apply_scale([1, 0.3, 0.7]))
    soup.unmerge_vertices()  # every face has vertices of its own, and sides of all lengths are split
    result = corrupt(soup, kind, 1, seed=0).mesh
    result.merge_vertices()
    assert result.is_watertight


def test_noise_has_the_size_it_says_and_does_not_explode():
    mesh = painted(block((1, 0.6, 0.8)).subdivide_to_size(0.02))  # fine enough to keep its vertices
    moved = [np.linalg.norm(corrupt(mesh, "noise", 1, seed).mesh.vertices - mesh.vertices, axis=1) for seed in range(6)]
    assert "3.0%" in corrupt(mesh, "noise", 1, 0).did
    assert np.sqrt(np.mean(np.square(moved))) == pytest.approx(0.03, rel=0.1)
    assert np.max(moved) < 0.12


def test_floaters_hang_free_near_the_surface_where_they_are_seen():
    mesh = bookcase()
    result = corrupt(mesh, "floaters", 0.5, seed=0)
    blobs = result.mesh.vertices[len(mesh.vertices) :].reshape(8, -1, 3)
    assert "8 floating" in result.did
    for blob in blobs:
        distance = surface_distance(mesh, blob)
        assert 0.01 < distance.min() < 0.15
        assert np.ptp(blob, axis=0).max() < 0.25
    for seed in range(3):  # there is room beside it, so none needs to leave the box
        assert abs(corrupt(mesh, "floaters", 1, seed).mesh.bounds).max() < 0.68
    shut = block((0.9, 0.9, 0.9))
    for seed in range(3):
        outer = corrupt(shut, "floaters", 1, seed).mesh.vertices[len(shut.vertices) :]
        assert (abs(outer).max(axis=1) > 0.45).all()  # none inside a closed body


def test_smoothing_rounds_edges_and_thins_legs_but_keeps_them_on():
    cube = block((0.9, 0.9, 0.9))
    rounded = corrupt(cube, "smooth", 1, seed=0).mesh
    corner, side = [0.45, 0.45, 0.45], [0.45, 0, 0]
    at_corner, at_side = surface_distance(rounded, [corner, side])
    assert at_corner > 0.1
    assert at_side < at_corner / 2
    thin = corrupt(chair(), "smooth", 1, seed=0).mesh
    section = thin.section(plane_origin=[0, 0, -0.25], plane_normal=[0, 0, 1])
    widths = [np.ptp(leg[:, :2], axis=0).max() for leg in section.discrete]
    assert len(widths) == 4
    assert all(0.01 < width < 0.04 for width in widths)  # 0.06 before


def test_voxels_are_axis_aligned_cubes_that_stay_in_one_piece():
    for mesh in (chair(), bookcase()):
        result = corrupt(mesh, "voxel", 0.5, seed=0)
        assert np.allclose(np.sort(abs(result.mesh.face_normals), axis=1), [0, 0, 1])
        side = float(result.did.split()[-4].rstrip("%")) / 100
        edges = np.linalg.norm(np.diff(result.mesh.triangles, axis=1), axis=2)
        assert edges.min() == pytest.approx(side, rel=0.02)
        assert len(bodies(result.mesh)) == 1
        assert result.mesh.volume > mesh.volume  # wound outwards, and no cube that the surface crosses is missing
    globe = corrupt(ball(), "voxel", 1, seed=0).mesh
    assert np.linalg.norm(globe.center_mass) < 0.03  # in place


def test_proportion_scales_and_bends_within_the_box():
    cube = block((0.9, 0.9, 0.9))
    for seed in range(4):
        result = corrupt(cube, "proportion", 1, seed)
        vertices, (low, high) = result.mesh.vertices, result.mesh.bounds
        assert abs(result.mesh.bounds).max() <= 0.5 + 1e-9
        heights = low[2], (low[2] + high[2]) / 2, high[2]
        bottom, middle, top = (vertices[abs(vertices[:, 2] - z) < 0.02] for z in heights)
        x, y, z = (float(word.rstrip(",")) for word in result.did.split()[4:7])
        assert sorted([x, y, z]) == pytest.approx(sorted(np.exp([-0.5, 0, 0.25])), abs=0.01)
        assert np.ptp(bottom[:, 0]) / np.ptp(bottom[:, 1]) == pytest.approx(x / y, rel=0.02)
        assert np.ptp(bottom[:, 0]) / (high[2] - low[2]) == pytest.approx(x / z, rel=0.02)
        lower, upper = middle.mean(axis=0) - bottom.mean(axis=0), top.mean(axis=0) - middle.mean(axis=0)
        assert np.linalg.norm(upper[:2]) > 2 * np.linalg.norm(lower[:2]) > 0.05  # bent over, not only sheared


# ---- clean but wrong ----------------------------------------------------------------------------------------------


def shop():
    return [Thing("a", "chair", chair()), Thing("b", "shelf", bookcase()), Thing("c", "chair", ball())]


def test_wrong_instance_is_another_of_the_category():
    objects = shop()
    for seed in range(5):
        wrong = wrong_instance(objects, 0, seed)
        assert wrong.mesh is objects[2].mesh
    assert wrong.kind == "wrong_instance"
    assert "c" in wrong.did
    assert wrong.error == mesh_error(objects[0].mesh, objects[2].mesh)


def test_wrong_category_is_of_another_and_seeded():
    objects = shop()
    picks = [wrong_category(objects, 1, seed).did for seed in range(20)]
    assert len(set(picks)) == 2  # both chairs come up
    assert picks == [wrong_category(objects, 1, seed).did for seed in range(20)]
    assert wrong_category(objects, 0, 0).mesh is objects[1].mesh


def test_no_wrong_candidate_is_an_error_that_names_the_object():
    with pytest.raises(BadInput, match="b"):
        wrong_instance(shop(), 1, 0)
    with pytest.raises(BadInput, match="wrong_category"):
        wrong_category(shop()[:1], 0, 0)
