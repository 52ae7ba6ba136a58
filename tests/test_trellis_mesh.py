"""FlexiCubes and sparse extraction on shapes whose surface is known."""

import math

import pytest
import torch
import trimesh

from lib.trellis.export import to_trimesh
from lib.trellis.flexicubes import corner_steps, flexicubes
from lib.trellis.layers import grid_coords
from lib.trellis.mesh_extraction import cell_channels, extract_mesh

RADIUS = 0.37


def grid(resolution: int):
    """Cubes of a full grid, rows of their corners, and positions of all corners."""
    cubes = grid_coords(resolution)
    linear = torch.tensor([(resolution + 1) ** 2, resolution + 1, 1])
    return cubes, ((cubes[:, None] + corner_steps()) * linear).sum(-1), grid_coords(resolution + 1) / resolution - 0.5


def sphere_cells(resolution: int, band: float, radius: float = RADIUS):
    """Cells within `band` of a sphere, with its distance at their corners and RGB = position + 1/2 as logits."""
    cells = grid_coords(resolution)
    center = (cells + 0.5) / resolution - 0.5
    cells = cells[(center.norm(dim=1) - radius).abs() < band]
    corners = (cells[:, None] + corner_steps()) / resolution - 0.5
    feats = torch.zeros(len(cells), cell_channels(True))
    feats[:, :8] = corners.norm(dim=2) - radius + 1 / resolution  # the decoder's bias is taken off again
    feats[:, 53:] = torch.cat([torch.logit(corners + 0.5), torch.zeros_like(corners)], dim=2).flatten(1)
    return cells, feats


def assert_is_sphere(mesh, radius: float = RADIUS):
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.01)  # positive: faces look outward
    assert mesh.area == pytest.approx(4 * math.pi * radius**2, rel=0.01)


@pytest.mark.parametrize("training", [False, True])
def test_sphere_is_closed_outward_and_of_the_right_size(training):
    cubes, corners, positions = grid(32)
    surface = flexicubes(cubes, corners, positions, positions.norm(dim=1) - RADIUS, 32, positions, training=training)
    assert_is_sphere(trimesh.Trimesh(surface.vertices.numpy(), surface.faces.numpy(), process=False))
    torch.testing.assert_close(surface.attributes, surface.vertices)  # attributes move like positions


def test_no_crossing_gives_an_empty_surface():
    cubes, corners, positions = grid(4)
    surface = flexicubes(cubes, corners, positions, torch.ones(len(positions)), 4)
    assert surface.vertices.shape == (0, 3)
    assert surface.faces.shape == (0, 3)


def test_random_signs_leave_no_edge_with_three_faces():
    """The ambiguity rule: without it neighboring cubes close a shared face in opposite ways."""
    cubes, corners, positions = grid(12)
    sdf = torch.rand(len(positions), generator=torch.Generator().manual_seed(0)) - 0.5
    border = ((positions.abs() - 0.5).abs() < 1e-6).any(1)
    surface = flexicubes(cubes, corners, positions, torch.where(border, 1.0, sdf), 12)
    edges = torch.cat([surface.faces[:, [0, 1]], surface.faces[:, [1, 2]], surface.faces[:, [2, 0]]])
    _, count = torch.unique(edges.sort(dim=1).values, dim=0, return_counts=True)
    assert (count % 2 == 0).all()  # closed everywhere
    directed = torch.unique(edges, dim=0, return_counts=True)[1]
    assert (directed == 1).all()  # and oriented consistently


def test_vertices_have_the_gradient_of_finite_differences():
    cubes, corners, positions = grid(4)
    positions = positions.double().requires_grad_()
    sdf = (positions.detach().norm(dim=1) - RADIUS).requires_grad_()
    n = len(cubes)
    weights = [torch.randn(n, k, dtype=torch.float64).mul(0.3).requires_grad_() for k in (12, 8)]
    gamma = torch.randn(n, dtype=torch.float64).requires_grad_()

    def outputs(positions, sdf, beta, alpha, gamma):
        surface = flexicubes(cubes, corners, positions, sdf, 4, positions, (beta, alpha, gamma), training=True)
        return surface.vertices, surface.attributes, surface.deviation

    assert torch.autograd.gradcheck(outputs, (positions, sdf, *weights, gamma), fast_mode=True)


def test_extraction_from_a_solid_band_gives_the_sphere_with_its_colors():
    cells, feats = sphere_cells(32, band=1.0)  # all cells: there is no inner border
    mesh = extract_mesh(cells, feats, 32)
    assert_is_sphere(to_trimesh(mesh))
    assert (mesh.attributes[:, :3] - 0.5 - mesh.vertices).abs().max() < 0.02
    assert (mesh.attributes[:, 3:] == 0.5).all()


def test_thin_shell_has_an_inner_surface_that_filling_removes():
    cells, feats = sphere_cells(32, band=3 / 32)
    double, filled = extract_mesh(cells, feats, 32), extract_mesh(cells, feats, 32, fill_interior=True)
    assert to_trimesh(double).body_count == 2
    assert to_trimesh(filled).body_count == 1
    assert_is_sphere(to_trimesh(filled))


def test_filling_keeps_a_cavity_whose_border_is_outside():
    """A hollow ball: the sheet around the cavity is a true surface and must stay."""
    cells = grid_coords(32)
    distance = ((cells + 0.5) / 32 - 0.5).norm(dim=1)
    cells = cells[(distance > 0.14) & (distance < 0.45)]
    corners = ((cells[:, None] + corner_steps()) / 32 - 0.5).norm(dim=2)
    feats = torch.zeros(len(cells), cell_channels(False))
    feats[:, :8] = torch.maximum(corners - 0.4, 0.25 - corners) + 1 / 32
    mesh = to_trimesh(extract_mesh(cells, feats, 32, fill_interior=True))
    assert mesh.body_count == 2
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * (0.4**3 - 0.25**3), rel=0.01)


def test_what_reaches_the_border_of_the_grid_is_never_filled():
    cells, feats = sphere_cells(32, band=3 / 32)
    feats[:, :8] = -0.01  # distances say that both sides of the shell are inside
    mesh = to_trimesh(extract_mesh(cells, feats, 32, fill_interior=True))
    assert mesh.body_count == 1
    assert mesh.volume > 4 / 3 * math.pi * RADIUS**3


def test_filling_in_blocks_agrees_with_filling_by_cell():
    cells = grid_coords(32).view(8, 4, 8, 4, 8, 4, 3).permute(0, 2, 4, 1, 3, 5, 6).reshape(512, 64, 3)
    center = (cells.float().mean(1) + 0.5) / 32 - 0.5
    cells = cells[(center.norm(dim=1) - RADIUS).abs() < 0.11].flatten(0, 1)
    feats = torch.zeros(len(cells), cell_channels(False))
    feats[:, :8] = ((cells[:, None] + corner_steps()) / 32 - 0.5).norm(dim=2) - RADIUS + 1 / 32
    meshes = [extract_mesh(cells, feats, 32, fill_interior=True, block=block) for block in (1, 4)]
    assert torch.equal(meshes[0].vertices, meshes[1].vertices)
    assert_is_sphere(to_trimesh(meshes[1]))


def test_training_extras_are_the_distances_at_the_corners_of_active_cells():
    cells, feats = sphere_cells(16, band=2 / 16)
    mesh = extract_mesh(cells, feats, 16, training=True)
    assert len(mesh.corner_sdf) == len(torch.unique((cells[:, None] + corner_steps()).flatten(0, 1), dim=0))
    torch.testing.assert_close(mesh.corner_sdf, mesh.corner_positions.norm(dim=1) - RADIUS, atol=1e-5, rtol=0)
