"""What can go wrong with a mesh: one function a kind, `(mesh, amount, rng) -> (damaged mesh, what was done)`.

The random draws do not depend on the amount, so that with one seed a larger amount does more of the same. Displacements
are functions of the position alone: vertices that coincide (seams, parts that touch) stay together.
"""

import itertools

import numpy as np
import open3d as o3d
import trimesh
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, map_coordinates, maximum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from trimesh.sample import sample_surface

from lib.data.compare import surface_distance
from lib.data.refine import mesh_of, refine
from lib.renderers.raycast import scene


def face_drop(mesh, amount, rng):
    """Drop a share of the faces at random (the companion study's damage)."""
    mesh = refine(mesh, 0.04)
    gone = dropped(mesh, amount, rng)
    return _without(mesh, gone), f"dropped {gone.mean():.0%} of the faces"


def holes(mesh, amount, rng):
    """Cut balls around random surface points out of the surface until a share of it is gone."""
    mesh = refine(mesh, 0.03)
    gone, ball = cut(mesh, amount, rng)
    return _without(mesh, gone), f"cut {len(np.unique(ball[gone]))} holes, {_share(mesh, gone):.0%} of the surface"


def missing_part(mesh, amount, rng):
    """Remove what lies furthest in a random direction: part after part (connected components), or as one slab."""
    mesh = refine(mesh, 0.03)
    part = _parts(mesh)
    gone, by_part = severed(mesh, part, amount, rng)
    what = f"removed {len(np.unique(part[gone]))} of {part.max() + 1} parts" if by_part else "cut off a slab"
    return _without(mesh, gone), f"{what}, {_share(mesh, gone):.0%} of the surface"


def dropped(mesh, amount, rng):
    """(F,) bool: a share of the faces at random."""
    return rng.permutation(len(mesh.faces)) < amount * len(mesh.faces)


def cut(mesh, amount, rng, size=1, radii=(0.06, 0.16), most=1000):
    """(F,) bool: the faces in balls around random surface points, a share of the area; (F,) number of each one's ball.

    size: scales the radii.
    """
    faces, area, target = mesh.triangles_center, mesh.area_faces, amount * mesh.area
    balls = zip(sample_surface(mesh, most, seed=rng)[0], size * rng.uniform(*radii, most), strict=True)
    turn = np.full(len(faces), np.inf)  # when a face goes: ball after ball, each from its center outwards
    for number, (center, radius) in enumerate(balls):
        if area[turn < np.inf].sum() >= target:
            break
        depth = np.linalg.norm(faces - center, axis=1) / radius
        turn = np.where(depth < 1, np.minimum(turn, number + depth), turn)
    return first_faces(mesh, np.argsort(turn, kind="stable"), amount), np.floor(turn)


def severed(mesh, part, amount, rng):
    """(F,) bool: what lies furthest in a random direction, a share of the area; whether it went by the numbers `part`.

    part: (F,) int, 0 and up. Otherwise, and where there is one part only, it is a slab.
    """
    direction = rng.choice([-1, 1], 3) * rng.uniform(0.5, 1, 3)  # slanted: a level cut may only shorten the object
    height = mesh.triangles_center @ direction
    if by_part := bool(rng.random() < 0.5 and part.max() > 0):
        middle = np.bincount(part, height) / np.bincount(part)
        order = np.lexsort((-height, -middle[part]))
    else:
        order = np.argsort(-height, kind="stable")
    return first_faces(mesh, order, amount), by_part


def noise(mesh, amount, rng):
    """Displace every point by a smooth random field of `amount` rms."""
    mesh = refine(mesh, 0.03)
    vertices = mesh.vertices + amount * random_field(mesh.vertices, rng, 0.08, 0.2)
    return _moved(mesh, vertices), f"displaced the surface by {amount:.1%} of the box (rms)"


def floaters(mesh, amount, rng, tries=600):
    """Add blobs in its colors near the surface but off it, seen from outside and within the box where possible."""
    near = sample_surface(mesh, tries, seed=rng)[0]
    away = rng.normal(size=(tries, 3))
    radius, gap = rng.uniform(0.035, 0.08, tries), rng.uniform(0.03, 0.1, tries)
    center = near + away / np.linalg.norm(away, axis=1, keepdims=True) * (1.3 * radius + gap)[:, None]
    free = (surface_distance(mesh, center) > 1.3 * radius + 0.02) & (_openness(mesh, center) > 0.5)
    beyond = np.maximum(np.abs(center).max(axis=1) + radius - 0.65, 0)
    count = int(np.ceil(amount))
    chosen = np.argsort(np.where(free, beyond, np.inf), kind="stable")[:count]
    nearest = cKDTree(mesh.vertices).query(center[chosen])[1]
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces, colors = [mesh.vertices], [mesh.faces], [mesh.visual.vertex_colors]
    for i, source in zip(chosen, nearest, strict=True):
        faces.append(ball.faces + sum(map(len, vertices)))
        vertices.append(center[i] + radius[i] * (ball.vertices * rng.uniform(0.7, 1.3, 3)))
        colors.append(np.tile(mesh.visual.vertex_colors[source], (len(ball.vertices), 1)))
    return mesh_of(*map(np.concatenate, (vertices, faces, colors))), f"added {count} floating blobs"


def smooth(mesh, amount, rng, sigma=0.07, steps=4):
    """Move every point towards the mean of the surface within about `sigma`, repeatedly: details go, edges round.

    Where the solid is thinner it moves less, so that legs and panels get thin but neither vanish nor come off.
    """
    mesh, cell = refine(mesh, 0.03), sigma / 3
    solid, corner = _solid(mesh, cell, margin=12)
    depth = maximum_filter(distance_transform_edt(solid) * cell, 13)  # of the solid within 2 sigma of a point
    pull = amount * gaussian_filter(np.clip((depth / (2 * sigma)) ** 2, 0.2, 1), sigma / cell)
    for _ in range(steps):
        centers = mesh.triangles_center
        place = np.ravel_multi_index(((centers - corner) / cell).astype(int).T, solid.shape)
        at = (mesh.vertices - corner).T / cell - 0.5
        sums = (np.bincount(place, m * mesh.area_faces, solid.size) for m in np.insert(centers, 0, 1, axis=1).T)
        fields = (gaussian_filter(m.reshape(solid.shape).astype(np.float32), sigma / cell) for m in sums)
        weight, *mean = (map_coordinates(field, at, order=1, output=float) for field in fields)
        move = np.stack(mean / weight, axis=1) - mesh.vertices
        mesh = _moved(mesh, mesh.vertices + map_coordinates(pull, at, order=1)[:, None] * move)
    return mesh, f"smoothed over {sigma:.0%} of the box, {amount:.0%} of the way"


def voxel(mesh, amount, rng):
    """Rebuild the surface from cubes of side `amount`; it is roughened first, or else flat sides would stay flat."""
    mesh = refine(mesh, 0.04)
    mesh = _moved(mesh, mesh.vertices + 0.45 * amount * random_field(mesh.vertices, rng, 0.1, 0.4))
    solid, corner = _solid(mesh, amount)
    quads = []
    for axis, side in itertools.product(range(3), (0, 1)):
        bare = np.argwhere(solid & ~np.roll(solid, 1 - 2 * side, axis))
        square = np.roll([[side, 0, 0], [side, 1, 0], [side, 1, 1], [side, 0, 1]], axis, axis=1)
        quads.append(bare[:, None] + square[:: 2 * side - 1])  # wound to face outwards
    corners = np.concatenate(quads) * amount + corner
    nearest = cKDTree(mesh.vertices).query(corners.mean(axis=1))[1]
    faces = np.arange(len(corners))[:, None, None] * 4 + [[0, 1, 2], [0, 2, 3]]
    colors = np.repeat(mesh.visual.vertex_colors[nearest], 4, axis=0)
    blocks = mesh_of(corners.reshape(-1, 3), faces.reshape(-1, 3), colors)
    return blocks, f"voxelised into cubes of {amount:.1%} of the box"


def proportion(mesh, amount, rng):
    """Squash one axis, stretch another and bend the object over; shrunk where it would leave the unit box."""
    mesh = refine(mesh, 0.05)
    scale = np.exp(amount * rng.permutation([-0.5, 0, 0.25]))
    angle = rng.uniform(0, 2 * np.pi)
    low, high = mesh.bounds
    height = (mesh.vertices[:, 2] - low[2]) / max(high[2] - low[2], 1e-9)
    vertices = mesh.vertices * scale + amount * 0.3 * height[:, None] ** 2 * [np.cos(angle), np.sin(angle), 0]
    vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices /= max(1, np.ptp(vertices, axis=0).max())
    x, y, z = scale
    return _moved(mesh, vertices), f"scaled the axes by {x:.2f}, {y:.2f}, {z:.2f} and bent it by {0.3 * amount:.2f}"


def first_faces(mesh, order, share):
    """(F,) bool: the first faces in `order` that make up a share of the area."""
    gone = np.zeros(len(mesh.faces), bool)
    gone[order] = np.cumsum(mesh.area_faces[order]) <= share * mesh.area
    return gone


def _share(mesh, gone):
    return mesh.area_faces[gone].sum() / mesh.area


def _without(mesh, gone):
    used, faces = np.unique(mesh.faces[~gone], return_inverse=True)
    return mesh_of(mesh.vertices[used], faces.reshape(-1, 3), mesh.visual.vertex_colors[used])


def _moved(mesh, vertices):
    return mesh_of(vertices, mesh.faces, mesh.visual.vertex_colors)


def _parts(mesh):
    """(F,) number of each face's connected component; vertices at one place count as one."""
    _, place = np.unique(mesh.vertices.round(6), axis=0, return_inverse=True)
    faces = place.reshape(-1)[mesh.faces]
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    n = faces.max() + 1
    _, label = connected_components(coo_array((np.ones(len(edges)), edges.T), (n, n)), directed=False)
    return label[faces[:, 0]]


def _solid(mesh, cell, margin=1):
    """(X, Y, Z) bool: cells of side `cell` that the surface crosses or encloses, and the grid's lowest corner (3,)."""
    vertices, faces = o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces)
    grid = o3d.geometry.VoxelGrid.create_from_triangle_mesh(o3d.geometry.TriangleMesh(vertices, faces), cell)
    cells = np.array([voxel.grid_index for voxel in grid.get_voxels()]) + margin
    solid = np.zeros(cells.max(axis=0) + 1 + margin, bool)
    solid[tuple(cells.T)] = True
    return binary_fill_holes(solid), grid.origin - margin * cell


def random_field(points, rng, shortest, longest, waves=64):
    """(N, 3) Gaussian random field of unit rms length at (N, 3) points: a sum of waves with lengths in that range."""
    direction = rng.normal(size=(3, waves))
    wave = 2 * np.pi * direction / np.linalg.norm(direction, axis=0) / rng.uniform(shortest, longest, waves)
    phase, amplitude = rng.uniform(0, 2 * np.pi, waves), rng.normal(size=(waves, 3))
    return np.cos(points @ wave + phase) @ amplitude * np.sqrt(2 / (3 * waves))


def _openness(mesh, points):
    """(N,) share of the 26 grid directions in which a ray from a point misses the mesh."""
    directions = np.array([d for d in itertools.product((-1, 0, 1), repeat=3) if any(d)])
    rays = np.concatenate(np.broadcast_arrays(points[:, None], directions), axis=-1).astype(np.float32)
    return 1 - scene(mesh).test_occlusions(rays).numpy().mean(axis=1)
