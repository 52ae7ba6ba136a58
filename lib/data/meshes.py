"""Reading meshes of any origin into the house convention: z up, front to -y, in the unit box, one color a vertex."""

import warnings
from os import PathLike
from pathlib import Path

import numpy as np
import open3d as o3d
import trimesh
from trimesh.resolvers import FilePathResolver
from trimesh.visual.color import linear_to_srgb, srgb_to_linear

from lib.data.textures import Surface, bake
from lib.errors import BadInput

# Up axis of a format, unless the caller knows better.
UP_AXES = {".glb": "y", ".gltf": "y", ".obj": "y", ".ply": "z", ".stl": "z", ".off": "z"}
TO_Z_UP = {"x": (1, 2, 0), "y": (0, 2, 1), "z": (0, 1, 2)}  # which coordinate becomes x, y, z

# Above this many faces vertices are merged on a grid: an error of a pixel of a 512 px view at most, and quick.
MAX_FACES = 1_000_000
GRID = 512


def load_mesh(path: str | PathLike, up_axis: str | None = None) -> trimesh.Trimesh:
    """Reads GLB, glTF, OBJ, PLY, STL or OFF: the scene flattened, polygons triangulated, textures baked.

    up_axis "x", "y" or "z" says how the file was modelled; by default y for GLB, glTF and OBJ, z for PLY, STL and OFF.
    An object that lies on its side needs the other one: no file says so itself. Nothing is repaired: open, doubled and
    degenerate faces stay. Colors are the base color (glTF: texture x factor; OBJ: map_Kd, else Kd; vertex or face
    colors as stored), always opaque; grey without any.
    Raises BadInput for a file that is missing, of another kind, broken, without faces, not finite or of no size.
    """
    path = Path(path)
    if path.suffix.lower() not in UP_AXES:
        raise BadInput(path, f"{path.suffix or 'no suffix'} is no mesh format known here", f"Use {', '.join(UP_AXES)}.")
    if not path.is_file():
        raise BadInput(path, "is not a file", "Check the path.")
    check_up_axis(up_axis)
    up_axis = up_axis or UP_AXES[path.suffix.lower()]
    surfaces = _surfaces(path)
    if not all(np.isfinite(surface.vertices[surface.faces]).all() for surface in surfaces):
        raise BadInput(path, "some vertices are not finite numbers", "Export the mesh again.")
    parts = bake(surfaces)
    vertices = np.concatenate([part.vertices for part in parts])
    colors = np.concatenate([part.colors for part in parts])
    first = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, first, strict=False)])
    vertices = vertices[:, TO_Z_UP[up_axis]] * ((1, -1, 1) if up_axis == "y" else (1, 1, 1))
    if len(faces) > MAX_FACES:
        merged = _merge(vertices, faces, colors)
        warnings.warn(f"{path}: {len(faces)} faces, merged on a grid of {GRID} to {len(merged[1])}", stacklevel=2)
        vertices, faces, colors = merged
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.visual.vertex_colors = np.column_stack([colors, np.ones(len(colors))])
    mesh.remove_unreferenced_vertices()
    if mesh.extents.max() == 0:
        raise BadInput(path, "all vertices are at one point", "Export the mesh again.")
    return to_unit_box(mesh)


def check_up_axis(up_axis: str | None) -> None:
    """Raises BadInput for anything but "x", "y", "z" and None."""
    if up_axis not in (None, *TO_Z_UP):
        raise BadInput("up_axis", f"{up_axis!r} is no axis", f"Use one of {', '.join(TO_Z_UP)}.")


def to_unit_box(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A copy centered in [-0.5, 0.5]^3 with its longest side 1."""
    mesh = mesh.copy()
    mesh.vertices = (mesh.vertices - mesh.bounds.mean(axis=0)) / mesh.extents.max()
    return mesh


class _Resolver(FilePathResolver):
    """Finds materials and textures beside an OBJ, and where Google Scanned Objects keep them."""

    def __init__(self, path: Path):
        super().__init__(path, allow_anywhere=True)

    def get(self, name: str) -> bytes:
        name = name.replace("\\", "/").strip()
        other = Path(self.parent).parent / "materials/textures" / Path(name).name
        try:
            return super().get(name)
        except FileNotFoundError:
            return other.read_bytes()


def _surfaces(path: Path) -> list[Surface]:
    """The triangle meshes of a scene in world coordinates, with their materials."""
    if path.stat().st_size == 0:
        raise BadInput(path, "the file is empty", "Download or export it again.")
    textures = {}
    try:
        scene = trimesh.load_scene(path, resolver=_Resolver(path), process=False)
        nodes = [(scene.geometry[name], matrix) for matrix, name in map(scene.graph.get, scene.graph.nodes_geometry)]
        nodes = [(g, matrix) for g, matrix in nodes if isinstance(g, trimesh.Trimesh) and len(g.faces)]
        surfaces = [_surface(geometry, matrix, textures) for geometry, matrix in nodes]
    except Exception as error:  # readers raise whatever a broken file makes them stumble over
        problem = f"cannot be read as {path.suffix[1:].upper()} ({type(error).__name__}: {error})"
        raise BadInput(path, problem, "Download or export it again.") from error
    if not surfaces:
        raise BadInput(path, "holds no faces", "Export a triangle mesh (not points, splats or curves).")
    return surfaces


def _surface(geometry: trimesh.Trimesh, matrix: np.ndarray, textures: dict) -> Surface:
    vertices = trimesh.transform_points(geometry.vertices, matrix)
    faces = np.asarray(geometry.faces if np.linalg.det(matrix[:3, :3]) > 0 else geometry.faces[:, ::-1])
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise IndexError("faces name vertices that are not there")
    visual = geometry.visual
    if visual.kind == "face":
        corners = np.arange(faces.size).reshape(-1, 3)
        return Surface(vertices[faces.ravel()], corners, np.repeat(visual.face_colors[:, :3] / 255, 3, axis=0))
    if visual.kind != "texture":
        return Surface(vertices, faces, visual.vertex_colors[:, :3] / 255)
    image, color, factor = _material(visual.material)
    if image is None or np.shape(visual.uv) != (len(vertices), 2):
        stored = visual.vertex_attributes.get("color", np.ones((len(vertices), 3)))
        return Surface(vertices, faces, color * _unit_range(stored)[:, :3])
    if (key := (id(image), *factor)) not in textures:
        pixels = np.asarray(image.convert("RGB"))
        textures[key] = pixels if np.all(factor == 1) else _times(pixels, factor)
    texture = textures[key]
    if (texture == texture[0, 0]).all():
        return Surface(vertices, faces, np.tile(texture[0, 0] / 255, (len(vertices), 1)))
    return Surface(vertices, faces, texture=texture, uv=np.asarray(visual.uv))


def _material(material) -> tuple:
    """Texture or None, the color to use without it (3,) in [0, 1], and the linear factor of the texture (3,)."""
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        factor = np.ones(3) if material.baseColorFactor is None else material.baseColorFactor[:3] / 255
        return material.baseColorTexture, linear_to_srgb(factor), factor
    return material.image, material.diffuse[:3] / 255, np.ones(3)


def _times(pixels: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """sRGB pixels times a linear factor, sRGB again."""
    table = linear_to_srgb(srgb_to_linear(np.arange(256)[:, None] / 255) * factor)  # (256, 3)
    return (table[pixels, np.arange(3)] * 255 + 0.5).astype(np.uint8)


def _unit_range(values: np.ndarray) -> np.ndarray:
    return values / np.iinfo(values.dtype).max if values.dtype.kind in "iu" else np.asarray(values, float)


def _merge(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces.astype(np.int32))
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(colors)
    mesh = mesh.simplify_vertex_clustering(np.ptp(vertices, axis=0).max() / GRID)
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles), np.asarray(mesh.vertex_colors)
