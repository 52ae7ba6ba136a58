import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lib.renderers import splats
from lib.renderers.cameras import Camera
from lib.renderers.splats import Gaussians, render_splats, splat

PERSPECTIVE, ORTHOGRAPHIC = Camera(30, 25, 2.5, 40.0), Camera(30, 25, 2.5, None, 1.6)


def cloud(n, seed=0, size=(0.01, 0.15)):
    rng = np.random.default_rng(seed)
    rotations = rng.normal(size=(n, 4))
    rotations /= np.linalg.norm(rotations, axis=1, keepdims=True)
    parts = rng.uniform(-0.4, 0.4, (n, 3)), rng.uniform(*size, (n, 3)), rotations, rng.random(n), rng.random((n, 3))
    return Gaussians(*map(torch.from_numpy, parts))


def one(mean=(0.0, 0.0, 0.0), scale=(0.1, 0.1, 0.1), opacity=0.8, color=(1.0, 0.0, 0.0)):
    parts = [mean], [scale], [[1.0, 0.0, 0.0, 0.0]], [opacity], [color]
    return Gaussians(*(torch.tensor(part, dtype=torch.float64) for part in parts))


def together(*gaussians):
    names = ("means", "scales", "rotations", "opacities", "colors")
    return Gaussians(*(torch.cat([getattr(g, name) for g in gaussians]) for name in names))


def brute_force(g, camera, size, low_pass, background):
    """Every splat at every pixel, one after the other; the Jacobian by finite differences."""
    means, scales, rotations, opacities, colors = (x.numpy() for x in vars(g).values())

    def pixel(points):
        x, y, z = camera.rotation @ points.T
        focal = size / 2 / (camera.extent / 2) if camera.fov is None else size / 2 / np.tan(np.radians(camera.fov) / 2)
        depth = camera.distance - z
        divisor = 1 if camera.fov is None else depth
        return np.stack([size / 2 + focal * x / divisor, size / 2 - focal * y / divisor], 1), depth

    centers, depth = pixel(means)
    step = 1e-5
    jacobian = np.stack([(pixel(means + d)[0] - pixel(means - d)[0]) / (2 * step) for d in step * np.eye(3)], -1)
    axes = Rotation.from_quat(rotations, scalar_first=True).as_matrix()
    covariance = jacobian @ axes @ (scales[:, :, None] ** 2 * axes.swapaxes(1, 2)) @ jacobian.swapaxes(1, 2)
    wide = covariance + low_pass * np.eye(2)
    peak = opacities * np.sqrt(np.linalg.det(covariance) / np.linalg.det(wide))
    rows, columns = np.mgrid[:size, :size] + 0.5
    image, passed = np.zeros((size, size, 3)), np.ones((size, size))
    for i in np.argsort(depth):
        offset = np.stack([columns, rows], -1) - centers[i]
        alpha = peak[i] * np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(wide[i]), offset))
        image += (passed * alpha)[..., None] * colors[i]
        passed *= 1 - alpha
    return image + passed[..., None] * background


@pytest.mark.parametrize("camera", [PERSPECTIVE, ORTHOGRAPHIC])
@pytest.mark.parametrize("size", [32, 37])
def test_the_tiled_renderer_equals_brute_force(camera, size, monkeypatch):
    g = cloud(80)
    expected = brute_force(g, camera, size, 0.3, background=0.5)
    image = render_splats(g, camera, size, background=0.5, low_pass=0.3).numpy()
    assert np.abs(image - expected).max() < 1 / 255
    monkeypatch.setattr(splats, "FAINTEST", 1e-12)
    image = render_splats(g, camera, size, background=0.5, low_pass=0.3).numpy()
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_the_image_does_not_depend_on_how_tiles_are_batched_or_splats_ordered(monkeypatch):
    g = cloud(300)
    shuffled = Gaussians(
        *(x[torch.randperm(300, generator=torch.Generator().manual_seed(0))] for x in vars(g).values())
    )
    image = render_splats(g, PERSPECTIVE, 40)
    torch.testing.assert_close(render_splats(shuffled, PERSPECTIVE, 40), image)
    monkeypatch.setattr(splats, "WEIGHTS_AT_ONCE", 1)
    torch.testing.assert_close(render_splats(g, PERSPECTIVE, 40), image)


def test_single_precision_is_enough_and_repeats_bit_for_bit():
    g = cloud(300)
    single = Gaussians(*(x.float() for x in vars(g).values()))
    image = render_splats(single, PERSPECTIVE, 64)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.double(), render_splats(g, PERSPECTIVE, 64), atol=2e-4, rtol=0)
    assert torch.equal(render_splats(single, PERSPECTIVE, 64), image)


@pytest.mark.parametrize("low_pass", [0.1, 0.3])
@pytest.mark.parametrize("scale", [0.005, 0.05])
def test_a_splat_keeps_its_integral_under_the_low_pass_filter(scale, low_pass):
    _, alpha = splat(one(scale=(2 * scale, 0.01, scale)), Camera(0, 0, fov=None, extent=2.0), 200, low_pass)
    assert alpha.sum().item() == pytest.approx(0.8 * 2 * np.pi * (100 * scale) ** 2 * 2, rel=0.02)


def test_the_nearer_splat_hides_the_farther():
    red, blue = one((0.0, -0.3, 0.0), opacity=0.99), one((0.0, 0.3, 0.0), opacity=0.99, color=(0.0, 0.0, 1.0))
    pair = together(blue, red)
    front, back = (render_splats(pair, Camera(azimuth, 0), 33)[16, 16] for azimuth in (0, 180))
    assert front.argmax() == 0
    assert back.argmax() == 2
    assert front.max() > 0.95


def test_background_shows_through_and_splats_behind_the_camera_do_not():
    nothing = one((0.0, -20.0, 0.0))
    assert (render_splats(nothing, Camera(0, 0), 20, background=0.25) == 0.25).all()
    center = render_splats(one(opacity=0.5), Camera(0, 0), 101, background=1.0)[50, 50]
    np.testing.assert_allclose(center, [1.0, 0.5, 0.5], atol=1e-2)


@pytest.mark.parametrize("camera", [PERSPECTIVE, ORTHOGRAPHIC])
def test_gradients_are_those_of_finite_differences(camera):
    inputs = [x.clone().requires_grad_() for x in vars(cloud(6, size=(0.05, 0.2))).values()]
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(10, 10, 3)))
    assert torch.autograd.gradcheck(
        lambda *parts: (render_splats(Gaussians(*parts), camera, 10) * weights).sum(), inputs
    )


def test_a_picture_can_be_fitted_by_descent():
    target = render_splats(one((0.1, 0.0, -0.1), (0.15, 0.1, 0.1)), Camera(0, 0), 32)
    start = one(color=(0.2, 0.6, 0.2), opacity=0.5)
    parts = [x.clone().requires_grad_() for x in vars(start).values()]
    optimizer = torch.optim.Adam(parts, lr=0.02)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = (render_splats(Gaussians(*parts), Camera(0, 0), 32) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 50


MEASURE = """
import resource, torch
from lib.renderers.cameras import Camera
from lib.renderers.splats import Gaussians, render_splats
torch.set_num_threads(1)
n, rng = 100_000, torch.Generator().manual_seed(0)
def random(*shape): return torch.rand(shape, generator=rng)
rotations = torch.nn.functional.normalize(random(n, 4) - 0.5, dim=1)
parts = [(random(n, 3) - 0.5) * 0.8, random(n, 3) * 0.02 + 0.002, rotations, random(n), random(n, 3)]
parts = [part.requires_grad_() for part in parts]
render_splats(Gaussians(*parts), Camera(45), 512).square().mean().backward()
assert all(part.grad.abs().sum() > 0 for part in parts)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if __import__("sys").platform == "darwin" else 2**20))
"""


def test_100_000_splats_at_512_pixels_fit_in_4_gigabytes_with_gradients():
    result = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert 0.1 < float(result.stdout) < 4
