"""Training losses vanish at the truth and grow away from it."""

import pytest
import torch

from lib.trellis.gaussian_decoder import Gaussians
from lib.trellis.layers import grid_coords
from lib.trellis.losses import (
    diffuse,
    flow_matching_loss,
    gaussian_vae_loss,
    kl_divergence,
    mesh_decoder_loss,
    reconstruction_loss,
    render_loss,
    sample_times,
    ssim,
    velocity_target,
)
from lib.trellis.mesh_extraction import Mesh
from lib.trellis.sparse import SparseTensor


def test_diffusion_runs_from_data_to_noise_item_by_item():
    coords = torch.cat([torch.tensor([[0]] * 3 + [[1]] * 2), grid_coords(2)[:5]], dim=1).int()
    x_0, noise = SparseTensor(torch.randn(5, 4), coords), torch.randn(5, 4)
    x_t = diffuse(x_0, noise, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(x_t[:3], x_0.feats[:3], atol=1e-4, rtol=0)
    torch.testing.assert_close(x_t[3:], noise[3:])
    dense, noise = torch.randn(2, 2, 8, 8, 8, 8)
    torch.testing.assert_close(diffuse(dense, noise, torch.tensor([0.5, 1.0]))[1], noise[1])


def test_flow_loss_is_zero_for_the_true_velocity_and_hands_the_model_its_time():
    x_0, noise, t = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([0.2, 0.7])
    truth = velocity_target(x_0, noise)
    given = []

    def flow(x, t, cond):
        given.append(t)
        return truth

    assert flow_matching_loss(flow, x_0, noise, t, torch.zeros(2, 1, 1)) == 0
    torch.testing.assert_close(given[0], torch.tensor([200.0, 700.0]))
    wrong = flow_matching_loss(lambda x, t, c: truth + 2, x_0, noise, t, torch.zeros(2, 1, 1))
    assert wrong.item() == pytest.approx(4)


def test_times_are_logit_normal():
    times = sample_times(20_000, torch.Generator().manual_seed(0))
    assert torch.logit(times).mean().item() == pytest.approx(1, abs=0.03)
    assert torch.logit(times).std().item() == pytest.approx(1, abs=0.03)


def test_autoencoder_losses_know_the_truth():
    occupancy = (torch.rand(1, 1, 8, 8, 8) > 0.7).float()
    for kind in ("dice", "bce", "l1"):
        right, wrong = (reconstruction_loss(sign * 40 * (occupancy - 0.5), occupancy, kind) for sign in (1, -1))
        assert right < 1e-3 < 0.5 < wrong
    assert kl_divergence(torch.zeros(4), torch.zeros(4)) == 0
    assert kl_divergence(torch.ones(4), torch.zeros(4)) == 0.5


def test_render_loss_compares_images():
    image = torch.rand(2, 3, 24, 24)
    assert ssim(image, image).item() == pytest.approx(1)
    assert ssim(image, image.flip(-1)) < 0.3
    assert render_loss(image, image).item() == pytest.approx(0, abs=1e-6)
    extra = render_loss(image, image, lambda a, b: torch.full((2,), 0.5))
    assert extra.item() == pytest.approx(0.1, abs=1e-6)


def test_gaussian_loss_pulls_to_small_and_opaque():
    def loss(scaling: float, opacity: float):
        n = 4
        shapes = torch.zeros(n, 3), torch.zeros(n, 1, 3), torch.full((n, 3), scaling), torch.zeros(n, 4)
        gaussians = Gaussians(*shapes, torch.full((n, 1), opacity))
        image = torch.zeros(1, 3, 16, 16)
        return gaussian_vae_loss(image, image, gaussians, torch.zeros(1), torch.zeros(1))

    assert loss(0, 5) < loss(0, 0)
    assert loss(0, 0) < loss(4, 0)


def test_mesh_loss_sees_distances_within_three_cells():
    corner_sdf = torch.tensor([0.01, 0.5])
    mesh = Mesh(*[torch.zeros(0, 3)] * 3, torch.tensor(0.25), torch.zeros(2, 3), corner_sdf)
    assert mesh_decoder_loss(mesh, torch.tensor([0.01, 0.9]), 30) == 0.25
    assert mesh_decoder_loss(mesh, torch.tensor([0.05, 0.9]), 30).item() == pytest.approx(0.25 + 0.01 * 0.04 / 2)
