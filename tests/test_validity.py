"""The validity features: each on meshes whose answer is known, and all against trimesh and open3d."""

import numpy as np
import open3d as o3d
import pytest
import trimesh

from lib.data.corrupt import corrupt
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.study.validity import Validity, validity, weld

VALID = Validity(1.0, 1.0, 1.0, 1.0)


def mesh_of(vertices, faces):
    return trimesh.Trimesh(np.asarray(vertices, float), np.asarray(faces), process=False)


def box(extents=(1, 1, 1), offset=(0, 0, 0)):
    made = trimesh.creation.box(extents)
    return mesh_of(made.vertices + offset, made.faces)


def joined(*meshes):
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return mesh_of(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


@pytest.mark.parametrize("mesh", [box(), trimesh.creation.icosphere(subdivisions=2), trimesh.creation.torus(0.4, 0.1)])
def test_a_closed_surface_has_every_feature(mesh):
    assert validity(mesh) == VALID


def test_a_box_without_a_face_is_open_and_otherwise_fine():
    assert validity(mesh_of(box().vertices, box().faces[1:])) == Validity(0.0, 1.0, 1.0, 1.0)


def test_two_boxes_that_cross_intersect_and_are_otherwise_fine():
    assert validity(joined(box(), box((0.3, 0.4, 2), (0.07, 0.03, 0.1)))) == Validity(1.0, 1.0, 0.0, 1.0)


def test_a_turned_face_makes_the_normals_of_its_three_edges_inconsistent():
    faces = box().faces.copy()
    faces[5] = faces[5, ::-1]
    assert validity(mesh_of(box().vertices, faces)) == Validity(1.0, 1.0, 1.0, 1 - 3 / 18)


def test_a_surface_turned_inside_out_as_a_whole_is_consistent():
    assert validity(mesh_of(box().vertices, box().faces[:, ::-1])) == VALID


def test_an_edge_with_three_faces_is_not_manifold():
    fin = mesh_of([[0, 0, 0], [0, 0, 1], [1, 0, 0], [-1, 1, 0], [-1, -1, 0]], [[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    assert validity(fin) == Validity(0.0, 0.0, 1.0, 1.0)


def test_an_edge_with_four_faces_is_neither_watertight_nor_manifold():
    assert validity(joined(box(), box(offset=(1, 1, 0)))) == Validity(0.0, 0.0, 1.0, 1.0)


def test_two_cones_that_share_their_tip_are_not_manifold_though_every_edge_is():
    top = trimesh.creation.cone(0.5, 0.5, sections=8)  # its tip is at z = .5
    top.vertices -= [0, 0, 0.5]
    hourglass = joined(top, mesh_of(-top.vertices, top.faces[:, ::-1]))
    assert validity(hourglass) == Validity(1.0, 0.0, 1.0, 1.0)


def test_vertices_repeated_along_seams_are_welded():
    seams = mesh_of(box().vertices[box().faces].reshape(-1, 3), np.arange(36).reshape(-1, 3))
    assert validity(seams) == VALID


def test_faces_that_welding_leaves_without_area_are_dropped():
    sliver = mesh_of([*box().vertices, box().vertices[0]], [*box().faces, [0, 8, 1]])
    assert len(weld(sliver)[1]) == 12
    assert validity(sliver) == VALID


@pytest.mark.parametrize("offset", [(0, 0, 1), (0.3, 0.2, 1), (1, 1, 0.5), (1, 0.25, 0.25)])
def test_boxes_that_only_touch_do_not_intersect(offset):
    assert validity(joined(box(), box(offset=offset))).non_self_intersecting == 1


@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize(("reach", "free"), [(0.4999, 1), (0.5001, 0), (0.7, 0)])
def test_a_spike_inside_a_box_crosses_it_only_where_it_comes_through(reach, free, turn):
    spike = np.roll([[0.03, 0.1, 0], [0.04, 0.1, 0], [0.03, 0.1, reach]], turn, axis=0)
    assert validity(joined(box(), mesh_of(spike, [[0, 1, 2]]))).non_self_intersecting == free


def test_a_crossing_among_the_last_of_many_edges_is_found():
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.4)  # 30,720 edges
    through = mesh_of([[0.3, 0, 0], [0.301, 0, 0], [0.45, 0.01, 0.01]], [[0, 1, 2]])
    within = mesh_of(through.vertices * 0.5, through.faces)
    assert validity(joined(sphere, through)).non_self_intersecting == 0
    assert validity(joined(sphere, within)).non_self_intersecting == 1


@pytest.mark.parametrize("kind", ["intact", "face_drop", "holes", "noise", "voxel", "floaters"])
def test_furniture_agrees_with_trimesh_and_open3d(kind):
    mesh = furniture("test", 3).mesh
    mesh = mesh if kind == "intact" else corrupt(mesh, kind, 0.5, 3).mesh
    vertices, faces = weld(mesh)
    known = trimesh.Trimesh(vertices, faces, process=False)
    peer = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
    found = validity(mesh)
    assert found.watertight == known.is_watertight
    assert found.manifold == (peer.is_edge_manifold(True) and peer.is_vertex_manifold())
    assert (found.normal_consistency == 1) == known.is_winding_consistent
    if len(faces) < 4000:  # the peer compares all pairs
        assert found.non_self_intersecting == (not peer.is_self_intersecting())


def test_random_triangles_agree_with_open3d_on_crossing():
    """Twelve small triangles at a time: about half of the draws cross."""
    rng, answers = np.random.default_rng(5), []
    for _ in range(60):
        vertices = (rng.uniform(-0.5, 0.5, (12, 1, 3)) + rng.uniform(-0.17, 0.17, (12, 3, 3))).reshape(-1, 3)
        faces = np.arange(36).reshape(-1, 3)
        peer = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
        answers.append(not peer.is_self_intersecting())
        assert validity(mesh_of(vertices, faces)).non_self_intersecting == answers[-1]
    assert 10 < sum(answers) < 50


def test_a_mesh_without_faces_is_refused():
    with pytest.raises(BadInput, match="triangles"):
        validity(trimesh.Trimesh([[0, 0, 0]], process=False))
