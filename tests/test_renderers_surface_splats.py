import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from lib.errors import BadInput
from lib.renderers.cameras import Camera
from lib.renderers.montage import judge_montage, splat_montage
from lib.renderers.raycast import render
from lib.renderers.splats import splat, surface_splats


def box(center, extents, color, subdivisions=4):
    mesh = trimesh.creation.box(extents, trimesh.transformations.translation_matrix(center))
    for _ in range(subdivisions):
        mesh = mesh.subdivide()
    mesh.visual.vertex_colors = (*color, 255)
    return mesh


def box_chair():
    legs = [box([x, y, -0.27], [0.05, 0.05, 0.46], (150, 90, 50), 3) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
    seat, back = (
        box([0, 0, -0.03], [0.5, 0.5, 0.06], (190, 60, 60)),
        box([0, 0.22, 0.25], [0.5, 0.06, 0.5], (60, 90, 190)),
    )
    return trimesh.util.concatenate([*legs, seat, back])


def test_surface_splats_lie_evenly_on_the_surface_flat_along_it():
    coarse, fine = box([-0.25, 0, 0], [0.4] * 3, (255, 0, 0), 0), box([0.3, 0, 0], [0.2] * 3, (0, 0, 255), 2)
    g = surface_splats(trimesh.util.concatenate([coarse, fine]), 5000, seed=1)
    means, red = g.means.numpy(), g.means[:, 0] < 0.1
    assert red.double().mean() == pytest.approx(0.8, abs=1e-3)
    local = np.where(red[:, None], (means - [-0.25, 0, 0]) / 0.2, (means - [0.3, 0, 0]) / 0.1)
    np.testing.assert_allclose(np.abs(local).max(1), 1, atol=1e-5)  # on the boxes
    on_top = red.numpy() & (local[:, 2] > 0.9999)
    cells = np.histogram2d(*local[on_top, :2].T, bins=4, range=[[-1, 1]] * 2)[0]
    assert cells.min() > 0.7 * cells.mean()
    axis = Rotation.from_quat(g.rotations.numpy(), scalar_first=True).as_matrix()[:, :, 2]
    np.testing.assert_allclose((np.abs(axis) * (np.abs(local) > 0.9999)).sum(1), 1, atol=1e-2)
    spacing = np.sqrt(6 * (0.4**2 + 0.2**2) / 5000)
    assert (g.scales[:, 2] < 0.2 * spacing).all()
    assert (g.scales[:, :2] > 0.5 * spacing).all()
    assert (g.scales[:, :2] < 1.5 * spacing).all()
    assert (g.colors[red][:, [1, 2]] == 0).all()
    assert (g.colors[~red][:, [0, 1]] == 0).all()
    assert g.colors.max() <= 1
    assert g.colors[red, 0].std() > 0.05  # the light that is baked in


@pytest.mark.parametrize("winding", [[0, 1, 2], [0, 2, 1]])
def test_surface_splats_lie_along_a_slanted_triangle(winding):
    corners = np.array([[0.1, 0.2, 0.0], [0.5, 0.0, 0.3], [0.0, 0.4, 0.45]])
    g = surface_splats(trimesh.Trimesh(corners, [winding], process=False), 20, seed=0)
    axis = Rotation.from_quat(g.rotations.numpy(), scalar_first=True).as_matrix()[:, :, 2]
    np.testing.assert_allclose(axis @ (corners[1:] - corners[0]).T, 0, atol=1e-6)


def test_surface_splats_are_a_function_of_the_seed():
    mesh = box_chair()
    first, again, other = (surface_splats(mesh, 500, seed) for seed in (3, 3, 4))
    assert torch.equal(first.means, again.means)
    assert torch.equal(first.colors, again.colors)
    assert not torch.equal(first.means, other.means)


def test_a_mesh_looks_like_itself_as_splats():
    mesh, camera = box_chair(), Camera(45)
    color, alpha = splat(surface_splats(mesh, 50_000, 0), camera, 160)
    views = render(mesh, [camera], 160)
    mask, solid = views.mask[0], alpha.numpy() > 0.5
    assert (mask & solid).sum() / (mask | solid).sum() > 0.9
    hue = lambda rgb: rgb / np.linalg.norm(rgb, axis=-1, keepdims=True)  # noqa: E731
    likeness = (hue(color.numpy()[mask & solid]) * hue(views.color[0][mask & solid])).sum(-1)
    assert np.quantile(likeness, 0.05) > 0.97


def test_a_broken_mesh_looks_clean_as_splats_but_not_as_normals():
    """The paper's second failure mode: splats blur and fill what normal maps show."""
    mesh, broken = box_chair(), box_chair()
    rng = np.random.default_rng(0)
    broken.update_faces(rng.random(len(broken.faces)) > 0.3)
    noisy = box_chair()
    noisy.vertices += rng.normal(0, 0.004, noisy.vertices.shape)
    silhouette = (judge_montage(mesh, 112) != 255).any(-1)

    def harm(montage, damaged):
        return np.abs(montage(damaged).astype(float) - montage(mesh))[silhouette].mean() / 255

    for damaged in (broken, noisy):
        normals = harm(lambda m: judge_montage(m, 112), damaged)
        splatted = harm(lambda m: splat_montage(surface_splats(m, 12_000, 0), 112), damaged)
        assert normals > 0.05
        assert splatted < normals / 4


@pytest.mark.parametrize(("vertices", "n"), [(np.zeros((3, 3)), 10), (np.eye(3), 0)])
def test_splats_need_a_surface(vertices, n):
    with pytest.raises(BadInput, match="splats on a surface"):
        surface_splats(trimesh.Trimesh(vertices, [[0, 1, 2]], process=False), n, 0)


def test_fewer_splats_than_neighbors_will_do():
    assert surface_splats(box_chair(), 1, 0).means.shape == (1, 3)
