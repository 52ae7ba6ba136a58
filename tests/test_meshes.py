"""Meshes of any origin arrive upright, in the unit box, with the colors that their file shows."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

from lib.data import meshes, textures
from lib.data.meshes import load_mesh, to_unit_box
from lib.errors import BadInput

ASSETS = Path(os.environ.get("ASSETS", Path(__file__).parents[1] / "../shared/assets"))
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
SQUARE = "v -1 0 0\nv 1 0 0\nv 1 2 0\nv -1 2 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def colored_box(size, center, color):
    box = trimesh.creation.box(size, trimesh.transformations.translation_matrix(center))
    box.visual.vertex_colors = (*color, 255)
    return box


def colors_at(mesh, axis, side):
    """Colors of the vertices in the outermost fifth of an axis, on side -1 or 1."""
    return mesh.visual.vertex_colors[mesh.vertices[:, axis] * side > 0.6 * mesh.extents[axis] / 2][:, :3]


def write_obj(folder, faces, mtl=None, texture=None):
    """A square of side 2 in the xy plane; texture is a nested list of RGB rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.obj").write_text(f"mtllib model.mtl\n{SQUARE}usemtl paint\n{faces}\n")
    if mtl:
        (folder / "model.mtl").write_text(f"newmtl paint\n{mtl}\n")
    if texture is not None:
        Image.fromarray(np.array(texture, np.uint8)).save(folder / "texture.png")
    return folder / "model.obj"


QUAD = "f 1/1 2/2 3/3 4/4"
HALVES = [[RED, BLUE]]


@pytest.mark.parametrize(
    ("suffix", "up_axis", "top"),
    [("glb", None, 1), ("obj", None, 1), ("ply", None, 2), ("stl", None, 2), ("ply", "y", 1), ("glb", "x", 0)],
)
def test_up_axis_is_the_formats_unless_given(tmp_path, suffix, up_axis, top):
    size = np.roll([1.0, 2.0, 4.0], top - 2)  # 4 along the axis that is up
    trimesh.creation.box(size).export(tmp_path / f"box.{suffix}")
    mesh = load_mesh(tmp_path / f"box.{suffix}", up_axis)
    assert mesh.extents[2] == pytest.approx(1)
    assert sorted(mesh.extents) == pytest.approx([0.25, 0.5, 1])
    assert mesh.volume > 0


def test_scene_is_flattened_turned_upright_and_put_into_the_unit_box(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(colored_box((2, 1, 1), (0, 0, 0), WHITE))
    part, turn = colored_box((1, 1, 1), (0, 0, 0), RED), trimesh.transformations.rotation_matrix(1, (0, 1, 0))
    scene.add_geometry(part, node_name="lamp", transform=trimesh.transformations.translation_matrix((0, 5, 0)) @ turn)
    front = trimesh.transformations.translation_matrix((0, 0, 3)) @ np.diag([-1.0, 1, 1, 1])  # a mirrored instance
    scene.add_geometry(colored_box((1, 1, 1), (0, 0, 0), BLUE), transform=front)
    scene.export(tmp_path / "scene.glb")
    mesh = load_mesh(tmp_path / "scene.glb")
    assert mesh.bounds == pytest.approx(np.array([mesh.extents / -2, mesh.extents / 2]))
    assert mesh.extents.max() == pytest.approx(1)
    assert mesh.volume * 6**3 == pytest.approx(
        2 + 1 + 1
    )  # 6 high, from -.5 to 5.5; a part turned inside out would subtract
    assert (colors_at(mesh, 2, 1) == RED).all()  # +y of the file is up
    assert (colors_at(mesh, 1, -1) == BLUE).all()  # +z of the file is the front, -y here


def test_texture_is_baked_the_right_way_round(tmp_path):
    mesh = load_mesh(write_obj(tmp_path, QUAD, "map_Kd texture.png", [[RED, GREEN], [BLUE, WHITE]]))
    x, z = mesh.vertices[:, 0], mesh.vertices[:, 2]
    for (left, low), color in {(1, 0): RED, (0, 0): GREEN, (1, 1): BLUE, (0, 1): WHITE}.items():
        inside = ((x < -0.02) if left else (x > 0.02)) & ((z < -0.02) if low else (z > 0.02))
        assert inside.sum() > 100
        assert (mesh.visual.vertex_colors[inside] == (*color, 255)).all()


def test_texture_repeats_outside_its_square(tmp_path):
    path = write_obj(tmp_path, QUAD, "map_Kd texture.png", HALVES)
    path.write_text(path.read_text().replace("vt 1", "vt 2").replace("vt 0 0", "vt 0 -1"))
    mesh = load_mesh(path)
    quarters = [
        mesh.visual.vertex_colors[np.abs(mesh.vertices[:, 0] - x) < 0.1, :3].mean(axis=0)
        for x in (-0.375, -0.125, 0.125, 0.375)
    ]
    assert np.array(quarters) == pytest.approx(np.array([RED, BLUE, RED, BLUE]), abs=1)


def test_fine_texture_is_averaged_not_aliased(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (1024, 1024, 1)).repeat(3, axis=2) * 255
    mesh = load_mesh(write_obj(tmp_path, QUAD, "map_Kd texture.png", noise))
    assert mesh.visual.vertex_colors[:, 0].mean() == pytest.approx(127.5, abs=2)
    assert mesh.visual.vertex_colors[:, 0].std() < 40  # one texel a vertex would have 127


def test_subdivision_is_fine_bounded_and_only_where_a_texture_is(tmp_path, monkeypatch):
    path = write_obj(tmp_path / "textured", QUAD, "map_Kd texture.png", HALVES)
    mesh = load_mesh(path)
    assert mesh.edges_unique_length.max() <= 1 / 64  # 1 / 128 would take 65,536 faces
    assert len(mesh.faces) <= textures.MAX_FACES
    assert mesh.area == pytest.approx(1)
    monkeypatch.setattr(textures, "MAX_FACES", 500)
    assert 100 < len(load_mesh(path).faces) <= 500
    assert len(load_mesh(write_obj(tmp_path / "plain", QUAD, "Kd 1 0 0")).faces) == 2


def test_gltf_texture_is_multiplied_by_its_linear_factor(tmp_path):
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    image = Image.fromarray(np.array([[(200, 100, 0), (0, 0, 200)]], np.uint8))
    material = PBRMaterial(baseColorTexture=image, baseColorFactor=[0.2, 1.0, 0.0, 1.0])
    square.visual = trimesh.visual.TextureVisuals([[0, 0], [1, 0], [1, 1], [0, 1]], material)
    square.export(tmp_path / "square.glb")
    # 200 is 0.5776 linear; times 0.2 it is 0.1155, or 95.4 in sRGB
    assert colors_at(load_mesh(tmp_path / "square.glb"), 0, -1).mean(axis=0) == pytest.approx([95.4, 100, 0], abs=1)


def test_gltf_texture_ignores_left_over_vertex_colors(tmp_path):
    """Exporters leave masks in COLOR_0; taken literally they paint a model black (one of our assets)."""
    triangle = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 1, 2]], process=False)
    image = Image.fromarray(np.array([[RED, BLUE]], np.uint8))
    triangle.visual = trimesh.visual.TextureVisuals([[0, 0], [1, 0], [1, 1]], PBRMaterial(baseColorTexture=image))
    triangle.vertex_attributes["_COLOR_0"] = np.zeros((3, 4), np.float32)  # trimesh writes no COLOR_0 beside a texture
    (tmp_path / "a.glb").write_bytes(triangle.export(file_type="glb").replace(b'"_COLOR_0"', b'"COLOR_0" '))
    assert (colors_at(load_mesh(tmp_path / "a.glb"), 0, -1) == RED).all()


def test_gltf_factor_without_texture_is_linear(tmp_path):
    box = trimesh.creation.box()
    box.visual = trimesh.visual.TextureVisuals(material=PBRMaterial(baseColorFactor=[0.2, 1.0, 0.0, 1.0]))
    box.export(tmp_path / "box.glb")
    assert load_mesh(tmp_path / "box.glb").visual.vertex_colors[0].tolist() == [124, 255, 0, 255]  # sRGB of 0.2: 123.5


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_vertex_colors_are_kept(tmp_path, suffix):
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (8, 4))
    box.export(tmp_path / f"box.{suffix}")
    assert (
        load_mesh(tmp_path / f"box.{suffix}", "z").visual.vertex_colors[:, :3].tolist()
        == box.visual.vertex_colors[:, :3].tolist()
    )


def test_face_colors_do_not_bleed_into_neighbors(tmp_path):
    box = trimesh.creation.box()
    box.visual.face_colors = np.random.default_rng(0).integers(0, 256, (12, 4))
    box.export(tmp_path / "box.ply")
    mesh = load_mesh(tmp_path / "box.ply")
    corners = mesh.visual.vertex_colors[mesh.faces][..., :3]
    assert (corners == box.visual.face_colors[:, None, :3]).all()


def test_obj_colors_by_material(tmp_path):
    path = write_obj(tmp_path, "f 1 2 3\nusemtl other\nf 1 3 4", "Kd 1 0 0\nnewmtl other\nKd 0 0 1")
    mesh = load_mesh(path)
    assert sorted(mesh.visual.vertex_colors[face].tolist() for face in mesh.faces) == [
        [[0, 0, 255, 255]] * 3,
        [[255, 0, 0, 255]] * 3,
    ]


def test_obj_texture_replaces_a_black_diffuse_color(tmp_path):
    mesh = load_mesh(write_obj(tmp_path, QUAD, "Kd 0 0 0\nmap_Kd texture.png", HALVES))
    assert (colors_at(mesh, 0, -1) == RED).all()


def test_obj_without_its_material_or_texture_is_plain(tmp_path):
    grey = load_mesh(write_obj(tmp_path / "no_mtl", QUAD)).visual.vertex_colors
    assert len(np.unique(grey[:, :3])) == 1
    orange = load_mesh(write_obj(tmp_path / "no_texture", QUAD, "Kd 1 .6 0\nmap_Kd texture.png")).visual.vertex_colors
    assert (orange == (255, 153, 0, 255)).all()


@pytest.mark.parametrize("where", ["meshes", "materials/textures"])
def test_google_scanned_objects_texture_is_found(tmp_path, where):
    path = write_obj(tmp_path / "meshes", QUAD, "map_Kd texture.png")
    (tmp_path / where).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(HALVES, np.uint8)).save(tmp_path / where / "texture.png")
    assert (colors_at(load_mesh(path), 0, -1) == RED).all()


def test_texture_path_of_another_folder_or_system_is_found(tmp_path):
    write_obj(tmp_path / "maps", QUAD, texture=HALVES)
    assert (colors_at(load_mesh(write_obj(tmp_path / "a", QUAD, "map_Kd ../maps/texture.png")), 0, -1) == RED).all()
    path = write_obj(tmp_path / "b", QUAD, "map_Kd C:\\models\\texture.png", HALVES)
    assert (colors_at(load_mesh(path), 0, -1) == RED).all()


def test_polygons_are_triangulated(tmp_path):
    (tmp_path / "mixed.obj").write_text("v 0 0 0\nv 2 0 0\nv 2 1 0\nv 1 2 0\nv 0 1 0\nv 0 0 2\nf 1 2 3 4 5\nf 1 2 6\n")
    mesh = load_mesh(tmp_path / "mixed.obj")
    assert mesh.faces.shape == (4, 3)
    assert mesh.area * 2**2 == pytest.approx(2 + 1 + 2)


def test_doubled_faces_are_kept(tmp_path):
    box = trimesh.creation.box()
    trimesh.Trimesh(box.vertices, np.concatenate([box.faces, box.faces]), process=False).export(tmp_path / "twice.ply")
    assert len(load_mesh(tmp_path / "twice.ply").faces) == 24


def test_unused_vertices_are_dropped(tmp_path):
    vertices = [[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0], [np.nan, 0, 0]]
    trimesh.Trimesh(vertices, [[1, 2, 3]], process=False).export(tmp_path / "a.ply")
    mesh = load_mesh(tmp_path / "a.ply")
    assert len(mesh.vertices) == 3
    assert mesh.extents == pytest.approx([1, 1, 0])


def test_a_huge_mesh_is_merged_with_a_warning(tmp_path, monkeypatch):
    ball = trimesh.creation.icosphere(subdivisions=5)
    ball.visual.vertex_colors = np.where(ball.vertices[:, [0]] < 0, [(*RED, 255)], [(*BLUE, 255)])
    ball.export(tmp_path / "ball.ply")
    monkeypatch.setattr(meshes, "MAX_FACES", 1000)
    monkeypatch.setattr(meshes, "GRID", 16)
    with pytest.warns(UserWarning, match="20480 faces, merged on a grid of 16"):
        mesh = load_mesh(tmp_path / "ball.ply")
    assert 500 < len(mesh.faces) < 5000
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(0.5, abs=1 / 16)
    assert (colors_at(mesh, 0, -1) == RED).all()


def test_to_unit_box_scales_evenly_and_leaves_its_input_alone():
    box = colored_box((1, 2, 4), (3, 3, 3), RED)
    before = box.vertices.copy()
    assert to_unit_box(box).bounds == pytest.approx(np.array([[-0.125, -0.25, -0.5], [0.125, 0.25, 0.5]]))
    assert (to_unit_box(box).visual.vertex_colors == box.visual.vertex_colors).all()
    assert (box.vertices == before).all()


def glb():
    return trimesh.creation.box().export(file_type="glb")


TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
BAD_FILES = {
    "chair.fbx": (b"Kaydara", "no mesh format"),
    "chair": (b"", "no suffix"),
    "empty.glb": (b"", "file is empty"),
    "empty.obj": (b"", "file is empty"),
    "cut.glb": (glb()[:-200], "cannot be read as GLB"),
    "header.glb": (glb()[:10], "cannot be read as GLB"),
    "prose.glb": (b"this is not a mesh, whatever its name says", "cannot be read as GLB"),
    "prose.ply": (b"this is not a mesh", "cannot be read as PLY"),
    "prose.obj": (b"this is not a mesh\n", "no faces"),
    "prose.stl": (b"this is not a mesh\n", "no faces"),
    "prose.gltf": (b"{not json", "cannot be read as GLTF"),
    "points.obj": (TRIANGLE.encode(), "no faces"),
    "index.obj": (f"{TRIANGLE}f 1 2 9\n".encode(), "cannot be read as OBJ"),
    "nan.obj": (f"{TRIANGLE}f 1 2 3\n".replace("v 1 0", "v nan 0").encode(), "not finite"),
    "infinite.obj": (f"{TRIANGLE}f 1 2 3\n".replace("v 1 0", "v inf 0").encode(), "not finite"),
    "point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "at one point"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_named_with_problem_and_remedy(tmp_path, name):
    data, problem = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=problem) as error:
        load_mesh(tmp_path / name)
    assert name in error.value.source
    assert error.value.remedy


def test_face_that_names_no_vertex_is_bad_input(tmp_path):
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    faces = "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"
    (tmp_path / "index.ply").write_text(header + faces)
    with pytest.raises(BadInput, match="not there"):
        load_mesh(tmp_path / "index.ply")


def test_broken_texture_is_bad_input(tmp_path):
    path = write_obj(tmp_path, QUAD, "map_Kd texture.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3)))
    (tmp_path / "texture.png").write_bytes((tmp_path / "texture.png").read_bytes()[:2000])
    with pytest.raises(BadInput, match="truncated"):
        load_mesh(path)


def test_missing_file_and_wrong_axis_are_bad_input(tmp_path):
    with pytest.raises(BadInput, match="is not a file"):
        load_mesh(tmp_path / "none.glb")
    trimesh.creation.box().export(tmp_path / "box.glb")
    with pytest.raises(BadInput, match=r"'Z' is no axis.*x, y, z"):
        load_mesh(tmp_path / "box.glb", up_axis="Z")


def furniture():
    manifest = ASSETS / "furniture/manifest.json"
    return json.loads(manifest.read_text())["models"] if manifest.is_file() else []


@pytest.mark.skipif(not furniture(), reason="no real meshes here: set ASSETS to their folder")
def test_real_furniture_is_upright_and_colored():
    for model in furniture():
        mesh = load_mesh(ASSETS / "furniture" / model["file"])
        x, y, z = np.array(model["extents_xyz"]) / max(model["extents_xyz"])
        assert mesh.extents == pytest.approx([x, z, y], abs=2e-3), model["file"]
        colors = mesh.visual.vertex_colors[:, :3]
        assert colors.max() > 60, model["file"]
        if model["textured"]:
            assert len(np.unique(colors, axis=0)) > 100, model["file"]
        else:
            assert len(mesh.faces) == model["faces"], model["file"]
