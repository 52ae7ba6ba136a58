"""Meshes from arrays, and the refinement that makes damage independent of how coarse a mesh is."""

import numpy as np
import trimesh

MAX_FACES = 200_000  # keeps an operation within about a second


def mesh_of(vertices, faces, colors) -> trimesh.Trimesh:
    """Mesh of (V, 3) vertices, (F, 3) faces and (V, 3 or 4) vertex colors in 0..255, nothing merged."""
    return trimesh.Trimesh(vertices, faces, vertex_colors=np.asarray(colors).round().astype(np.uint8), process=False)


def refine(mesh: trimesh.Trimesh, max_edge: float, max_faces: int = MAX_FACES) -> trimesh.Trimesh:
    """Split edges longer than `max_edge` at their middle until none is left or `max_faces` would be passed.

    Whether and where an edge is split depends on its two end points only, so faces that meet along it keep meeting,
    also across seams (trimesh's subdivide_to_size splits faces instead, and cracks open once vertices move).
    """
    vertices, faces, colors = mesh.vertices, mesh.faces, mesh.visual.vertex_colors
    while True:
        edges = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1))  # (F, 3, 2): ab, bc, ca
        long = np.linalg.norm(vertices[edges[..., 0]] - vertices[edges[..., 1]], axis=-1) > max_edge
        if not long.any() or len(faces) + long.sum() > max_faces:  # every long side adds one face
            return mesh_of(vertices, faces, colors)
        split, which = np.unique(edges[long] @ [len(vertices), 1], return_inverse=True)
        ends = np.stack(np.divmod(split, len(vertices)))
        middle = np.full(long.shape, -1)
        middle[long] = len(vertices) + which
        vertices = np.concatenate([vertices, vertices[ends].mean(axis=0)])
        colors = np.concatenate([colors, colors[ends].mean(axis=0)])
        faces = _split_faces(faces, middle)


def _split_faces(faces, middle):
    """Replace each face by one to four; `middle` (F, 3) is the new vertex on sides ab, bc, ca or -1."""
    count = (middle >= 0).sum(axis=1)
    # Turn each face so that its one split side comes first, or its one whole side last.
    turn = np.where(count == 1, middle.argmax(axis=1), (middle.argmin(axis=1) + 1) % 3)
    order = (turn[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(faces, order, axis=1).T
    ab, bc, ca = np.take_along_axis(middle, order, axis=1).T
    pieces = [
        (count == 0, [(a, b, c)]),
        (count == 1, [(a, ab, c), (ab, b, c)]),
        (count == 2, [(ab, b, bc), (a, ab, bc), (a, bc, c)]),
        (count == 3, [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]),
    ]
    return np.concatenate([np.stack(piece, axis=1)[rows] for rows, group in pieces for piece in group])
