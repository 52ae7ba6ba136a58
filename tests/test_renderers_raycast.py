import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.ndimage import binary_dilation
from trimesh.ray.ray_pyembree import RayMeshIntersector

from lib.errors import BadInput
from lib.profiles import ROOT
from lib.renderers.cameras import Camera, judge_views, project, rays
from lib.renderers.raycast import normal_images, render, shaded_images

ASSETS = sorted((Path(__file__).resolve().parents[2] / "shared/assets/furniture").glob("ph_*.glb"))[::4]
FRONT = Camera(0, 0, distance=3.0)
FRONT_ORTHOGRAPHIC = Camera(0, 0, distance=3.0, fov=None)


def box(center, extents, color=(150, 90, 50, 255)):
    mesh = trimesh.creation.box(extents, trimesh.transformations.translation_matrix(center))
    mesh.visual.vertex_colors = color
    return mesh


def chair():
    legs = [trimesh.creation.cylinder(0.03, 0.45) for _ in range(4)]
    for leg, (x, y) in zip(legs, [(-0.2, -0.2), (0.2, -0.2), (-0.2, 0.2), (0.2, 0.2)], strict=True):
        leg.apply_translation([x, y, -0.275])
        leg.visual.vertex_colors = (90, 60, 40, 255)
    slats = [box([x, 0.22, 0.25], [0.06, 0.04, 0.5]) for x in (-0.2, 0, 0.2)]
    ball = trimesh.creation.icosphere(3, 0.08)
    ball.apply_translation([0, 0, 0.08])
    return trimesh.util.concatenate([*legs, *slats, box([0, 0, -0.02], [0.5, 0.5, 0.06], (200, 40, 40, 255)), ball])


def asset(path):
    mesh = trimesh.load(path).to_mesh()
    mesh.visual = mesh.visual.to_color()
    mesh.apply_translation(-mesh.bounds.mean(0))
    mesh.apply_scale(1 / mesh.extents.max())
    mesh.vertices = mesh.vertices[:, [0, 2, 1]] * [1, -1, 1]
    return mesh


@pytest.mark.parametrize("fov", [30.0, None])
@pytest.mark.parametrize(
    ("azimuth", "elevation", "rows", "columns"),
    [
        (0, 0, "top", "right"),
        (90, 0, "top", "left"),
        (180, 0, "top", "left"),
        (270, 0, "top", "right"),
        (0, 90, "bottom", "right"),
        (0, -90, "top", "right"),
    ],
)
def test_a_marked_corner_appears_where_the_camera_convention_says(azimuth, elevation, rows, columns, fov):
    mark = box([0.4, -0.4, 0.4], [0.2, 0.2, 0.2], (255, 0, 0, 255))  # right, front, top
    views = render(
        trimesh.util.concatenate([mark, box([0, 0, 0], [0.01] * 3)]), [Camera(azimuth, elevation, 4.0, fov)], 40
    )
    row, column = np.argwhere(views.color[0, ..., 0] > 0.9).mean(0)
    assert (row < 20) == (rows == "top")
    assert (column < 20) == (columns == "left")


@pytest.mark.parametrize("camera", [FRONT, FRONT_ORTHOGRAPHIC])
def test_a_face_toward_the_camera_has_normal_z_and_its_distance_as_depth(camera):
    views = render(box([0, 0, 0], [1, 1, 1]), [camera], 64)
    assert views.mask[0, 32, 32]
    assert (views.normal[views.mask] == [0, 0, 1]).all()
    assert (normal_images(views)[views.mask] == [128, 128, 255]).all()
    np.testing.assert_allclose(views.depth[views.mask], 2.5, rtol=1e-6)
    assert np.isinf(views.depth[~views.mask]).all()
    assert (normal_images(views)[~views.mask] == 255).all()


def test_the_silhouette_has_the_projected_size():
    box_views = render(box([0, 0, 0], [1, 1, 1]), [FRONT, FRONT_ORTHOGRAPHIC], 200)
    for mask, camera in zip(box_views.mask, [FRONT, FRONT_ORTHOGRAPHIC], strict=True):
        (left, bottom), (right, top) = project(camera, [[-0.5, -0.5, -0.5], [0.5, -0.5, 0.5]], 200)[0]
        rows, columns = np.argwhere(mask).T
        np.testing.assert_allclose([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1],
                                   [left, right, top, bottom], atol=0.5)  # fmt: skip


def test_side_faces_of_a_cube_point_sideways_and_up_in_camera_space():
    views = render(box([0, 0, 0], [1, 1, 1]), [Camera(45, 20)], 64)
    slant, rise = np.sqrt(0.5), np.radians(20)
    expected = [
        [0, np.cos(rise), np.sin(rise)],  # top
        [-slant, -slant * np.sin(rise), slant * np.cos(rise)],  # front, seen on the left
        [slant, -slant * np.sin(rise), slant * np.cos(rise)],  # right side
    ]
    seen = np.unique(views.normal[views.mask].round(5), axis=0)
    np.testing.assert_allclose(seen, sorted(expected), atol=1e-4)
    assert views.normal[0, 40, 20, 0] < 0 < views.normal[0, 40, 44, 0]


@pytest.mark.parametrize("camera", [Camera(120, 40, 3.0), Camera(120, 40, 3.0, None)])
def test_depth_and_normals_of_a_ball_are_analytic(camera):
    views = render(trimesh.creation.icosphere(6, 0.5), [camera], 96)
    ray = rays([camera], 96)[0].astype(float)
    origin, direction = ray[..., :3], ray[..., 3:]
    a, b, c = (direction**2).sum(-1), (origin * direction).sum(-1), (origin**2).sum(-1) - 0.25
    inside = b * b - a * c > 0.02 * a
    depth = (-b - np.sqrt(np.where(inside, b * b - a * c, 0))) / a
    np.testing.assert_allclose(views.depth[0][inside], depth[inside], atol=1e-3)
    normal = (origin + depth[..., None] * direction)[inside] * 2 @ camera.rotation.T
    assert np.degrees(np.arccos((views.normal[0][inside] * normal).sum(-1).clip(max=1))).max() < 2


def test_normals_face_the_viewer_whatever_the_winding():
    mesh, turned = chair(), chair()
    turned.faces[::3] = turned.faces[::3, ::-1]
    views = render(mesh, judge_views(), 64)
    np.testing.assert_allclose(render(turned, judge_views(), 64).normal, views.normal, atol=1e-4)
    direction = rays(judge_views(), 64)[..., 3:]
    for normal, mask, ray, camera in zip(views.normal, views.mask, direction, judge_views(), strict=True):
        assert ((normal @ camera.rotation * ray).sum(-1)[mask] <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(views.normal[views.mask], axis=1), 1, atol=1e-5)
    assert not views.normal[~views.mask].any()


def test_colors_are_interpolated_between_vertices_and_unshaded():
    corners = [[-0.5, 0, -0.5], [0.5, 0.3, -0.5], [-0.5, -0.2, 0.5]]
    mesh = trimesh.Trimesh(corners, [[0, 1, 2]], process=False)
    mesh.visual.vertex_colors = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]], np.uint8)
    views = render(mesh, [FRONT_ORTHOGRAPHIC], 50)
    rows, columns = np.argwhere(views.mask[0]).T
    scale = FRONT_ORTHOGRAPHIC.extent / 50
    green, blue = (columns + 0.5 - 25) * scale + 0.5, (25 - rows - 0.5) * scale + 0.5
    expected = np.stack([1 - green - blue, green, blue], 1)
    np.testing.assert_allclose(views.color[views.mask], expected, atol=1e-4)
    assert not views.color[~views.mask].any()


def test_a_mesh_may_hold_one_color_for_all_vertices():
    mesh = box([0, 0, 0], [1, 1, 1])
    red = trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 0, 255])
    mesh.visual = trimesh.visual.TextureVisuals(material=red).to_color()
    assert mesh.visual.vertex_colors.shape == (4,)
    views = render(mesh, [FRONT], 16)
    np.testing.assert_allclose(views.color[views.mask], [[1, 0, 0]] * views.mask.sum(), atol=1e-6)


def test_shading_is_full_toward_the_light_and_never_black():
    mesh = box([0, 0, 0], [1, 1, 1], (200, 100, 50, 255))
    image = shaded_images(render(mesh, [Camera(45, 20)], 64))[0]
    seen = np.unique(image[image[..., 3] > 0], axis=0)
    assert len(seen) == 3  # top, left and right side can be told apart
    assert seen[:, 0].max() > 170
    assert seen[:, 0].min() > 90
    np.testing.assert_allclose(seen[:, 0] / seen[:, 1], 2, atol=0.05)
    assert (image[image[..., 3] == 0] == 0).all()


def test_views_are_bit_identical_on_repeat_even_where_faces_coincide():
    twin = chair()
    twin.visual.vertex_colors = (0, 0, 255, 255)
    mesh = trimesh.util.concatenate([chair(), twin]).subdivide().subdivide()
    first, again = render(mesh, judge_views(), 128), render(mesh.copy(), judge_views(), 128)
    for name in ("normal", "depth", "mask", "color"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    alone = render(mesh, judge_views()[2:3], 128)
    assert alone.normal.tobytes() == first.normal[2].tobytes()


def test_a_face_has_one_normal_and_one_color_in_all_its_pixels_to_the_last_bit():
    """So that rounding, which differs between processors, moves no pixel of it over the edge of a level."""
    mesh = chair().apply_transform(trimesh.transformations.rotation_matrix(0.3, [1, 2, 3]))
    views = render(mesh, [Camera(33, 7)], 128)
    faces = views.face[views.mask]
    assert len(np.unique(faces)) > 50
    for values in (views.normal[views.mask], views.color[views.mask]):
        assert len(np.unique(np.column_stack([faces, values]), axis=0)) == len(np.unique(faces))
    assert (views.color[views.mask] == views.corner_colors[faces, 0]).all()


def test_a_program_that_keeps_views_to_its_end_ends_well():
    """Open3d ends a program with status 1 when memory of its own is still in use."""
    program = """
import ctypes, trimesh
from lib.renderers.cameras import Camera
from lib.renderers.raycast import render
views = render(trimesh.creation.box(), [Camera()], 16)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(views))  # as a cache that outlives the interpreter
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("path", [None, *ASSETS], ids=lambda path: path.stem if path else "built here")
def test_silhouettes_and_normals_agree_with_trimesh_and_embreex(path):
    mesh, size = asset(path) if path else chair(), 160
    cameras = [Camera(45, 20), Camera(225, 20), Camera(100, -30, fov=None)]
    views, all_rays = render(mesh, cameras, size), rays(cameras, size)
    intersector = RayMeshIntersector(mesh)
    for camera, ray, normal, mask in zip(cameras, all_rays, views.normal, views.mask, strict=True):
        origins, directions = ray.reshape(-1, 6)[:, :3], ray.reshape(-1, 6)[:, 3:]
        triangle = intersector.intersects_first(origins, directions)
        theirs = mesh.face_normals[triangle]
        theirs = theirs * -np.sign((theirs * directions).sum(-1, keepdims=True)) @ camera.rotation.T
        theirs, their_mask = theirs.reshape(size, size, 3), (triangle >= 0).reshape(size, size)
        around = np.ones((3, 3), bool)
        assert not (mask & ~binary_dilation(their_mask, around)).any()
        assert not (their_mask & ~binary_dilation(mask, around)).any()
        both = mask & their_mask
        assert both.sum() > 300
        same = (normal * theirs).sum(-1)[both] > np.cos(np.radians(1))
        assert same.mean() > 0.998
        padded = np.pad(np.where(their_mask[..., None], theirs, 0), ((1, 1), (1, 1), (0, 0)))
        nearby = np.stack([padded[i : i + size, j : j + size] for i in range(3) for j in range(3)])
        within = (nearby * normal).sum(-1).max(0)[both] > np.cos(np.radians(1))
        assert within.mean() > 0.9995  # real meshes hold surfaces that cross at equal depth


def textured():
    visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)))
    return trimesh.Trimesh(*(getattr(trimesh.creation.box(), name) for name in ("vertices", "faces")), visual=visual)


@pytest.mark.parametrize(
    ("mesh", "problem"),
    [
        (trimesh.Trimesh(), "no vertices"),
        (trimesh.Trimesh(vertices=np.eye(3)), "no triangles"),
        (trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [np.nan, 1, 0]], [[0, 1, 2]], process=False), "NaN"),
        (trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, np.inf, 0]], [[0, 1, 2]], process=False), "infinite"),
        (trimesh.Trimesh(np.eye(3), [[0, 1, 3]], process=False, validate=False), "beyond its 3"),
        (textured(), "texture"),
    ],
    ids=["empty", "point cloud", "nan", "infinite", "face of a missing vertex", "textured"],
)
def test_meshes_without_a_proper_surface_are_refused_by_name(mesh, problem):
    mesh.metadata["file_name"] = "broken.glb"
    with pytest.raises(BadInput, match=f"broken.glb.*{problem}"):
        render(mesh, judge_views(), 8)


def test_faces_without_area_are_not_seen_and_break_nothing():
    mesh = trimesh.util.concatenate(
        [box([0, 0, 0], [1, 1, 1]), trimesh.Trimesh([[0, -2, 0]] * 3, [[0, 1, 2]], process=False)]
    )
    assert (render(mesh, [FRONT], 16).normal[0, 8, 8] == [0, 0, 1]).all()
