"""What the renderers take from a mesh, checked before anything is built of it."""

import numpy as np
import trimesh

from lib.errors import BadInput


def triangles(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N,3) float64 and faces (F,3) of a mesh.

    Raises BadInput for a mesh that is empty, has no triangles, NaN or infinite vertices, or faces of missing vertices.
    """
    source = mesh.metadata.get("file_name", "mesh")
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    if not len(vertices):
        raise BadInput(source, "it has no vertices", "Give a mesh with a surface.")
    if not len(faces) or faces.shape[1:] != (3,):
        raise BadInput(source, "it has no triangles", "Give a triangulated mesh; a point cloud cannot be rendered.")
    if not np.isfinite(vertices).all():
        raise BadInput(source, "vertices hold NaN or infinite values", "Repair or re-export the mesh.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise BadInput(source, f"faces refer to vertices beyond its {len(vertices)}", "Repair or re-export the mesh.")
    return vertices, faces


def vertex_colors(mesh: trimesh.Trimesh) -> np.ndarray:
    """(N,3) float32 in [0,1]: the mesh's vertex colors, trimesh's default grey where it has none.

    Raises BadInput for a mesh whose colors are still a texture.
    """
    if mesh.visual.kind == "texture":
        source = mesh.metadata.get("file_name", "mesh")
        raise BadInput(source, "its colors are a texture", "Bake them to vertex colors (mesh.visual.to_color()).")
    colors = np.broadcast_to(mesh.visual.vertex_colors, (len(mesh.vertices), 4))  # trimesh may hold one for all
    return colors[:, :3].astype(np.float32) / 255
