"""Training losses: flow matching for both flows, and the autoencoders' losses (paper Sec. 3.2, 3.3 and appendix)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.gaussian_decoder import Gaussians
from lib.trellis.layers import require
from lib.trellis.mesh_extraction import Mesh
from lib.trellis.samplers import SIGMA_MIN
from lib.trellis.sparse import SparseTensor


def sample_times(n: int, generator: torch.Generator, mean: float = 1.0, std: float = 1.0) -> Tensor:
    """Logit-normal training times [n] in (0, 1); the published mean 1 prefers the noisy end."""
    return torch.sigmoid(mean + std * torch.randn(n, generator=generator))


def drop_condition(cond: Tensor, drop: Tensor) -> Tensor:
    """Condition [B, L, C] with zeros for the items of the mask [B], so that the flow learns to go without."""
    return torch.where(drop[:, None, None], 0.0, cond)


def diffuse(x_0: Tensor | SparseTensor, noise: Tensor, t: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """x_t = (1 - t) x_0 + (sigma + (1 - sigma) t) noise, times t [B]; features only if x_0 is sparse."""
    if isinstance(x_0, SparseTensor):
        x_0, t = x_0.feats, t.index_select(0, x_0.batch)
    t = t.view(-1, *[1] * (noise.ndim - 1))
    return (1 - t) * x_0 + (sigma_min + (1 - sigma_min) * t) * noise


def velocity_target(x_0: Tensor | SparseTensor, noise: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """What the flow should answer at every time: (1 - sigma) noise - x_0."""
    return (1 - sigma_min) * noise - (x_0.feats if isinstance(x_0, SparseTensor) else x_0)


def predict_velocity(
    flow: nn.Module, x_0: Tensor | SparseTensor, noise: Tensor, t: Tensor, cond: Tensor, sigma_min: float = SIGMA_MIN
) -> Tensor:
    """The flow's answer at x_t, like `noise`."""
    x_t = diffuse(x_0, noise, t, sigma_min)
    if isinstance(x_0, SparseTensor):
        return flow(x_0.with_feats(x_t), 1000 * t, cond).feats
    return flow(x_t, 1000 * t, cond)


def flow_matching_loss(
    flow: nn.Module, x_0: Tensor | SparseTensor, noise: Tensor, t: Tensor, cond: Tensor, sigma_min: float = SIGMA_MIN
) -> Tensor:
    """Mean squared velocity error over every element, so that large sparse objects weigh more, as published."""
    prediction = predict_velocity(flow, x_0, noise, t, cond, sigma_min)
    return F.mse_loss(prediction, velocity_target(x_0, noise, sigma_min))


def posterior_sample(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z = mean + exp(logvar / 2) noise."""
    return mean + torch.exp(0.5 * logvar) * noise


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Mean divergence of the posterior from the standard normal distribution."""
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()


def reconstruction_loss(logits: Tensor, occupancy: Tensor, kind: str = "dice") -> Tensor:
    """Distance of occupancy logits to the truth in {0, 1}: dice over the whole batch (published), bce or l1."""
    require("kind", kind, ("dice", "bce", "l1"))
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, occupancy)
    p = torch.sigmoid(logits)
    if kind == "l1":
        return F.l1_loss(p, occupancy)
    return 1 - (2 * (p * occupancy).sum() + 1) / (p.sum() + occupancy.sum() + 1)


def structure_vae_loss(
    logits: Tensor, occupancy: Tensor, mean: Tensor, logvar: Tensor, kind: str = "dice", lambda_kl: float = 1e-3
) -> Tensor:
    """Loss of the structure autoencoder."""
    return reconstruction_loss(logits, occupancy, kind) + lambda_kl * kl_divergence(mean, logvar)


def render_loss(rendered: Tensor, target: Tensor, perceptual: Callable | None = None) -> Tensor:
    """L1 + 0.2 (1 - SSIM) + 0.2 perceptual distance (LPIPS, left out if not given) of images [B, 3, H, W]."""
    loss = F.l1_loss(rendered, target) + 0.2 * (1 - ssim(rendered, target))
    return loss if perceptual is None else loss + 0.2 * perceptual(rendered, target).mean()


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of images [B, C, H, W] in [0, 1] (Wang et al. 2004)."""
    x = torch.arange(window, dtype=a.dtype, device=a.device) - window // 2
    g = torch.exp(-x.square() / (2 * sigma**2))
    kernel = (g[:, None] * g / g.sum() ** 2).expand(a.shape[1], 1, -1, -1)

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, kernel, padding=window // 2, groups=image.shape[1])

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (
        ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    ).mean()


def gaussian_vae_loss(
    rendered: Tensor,
    target: Tensor,
    gaussians: Gaussians,
    mean: Tensor,
    logvar: Tensor,
    perceptual: Callable | None = None,
) -> Tensor:
    """Loss of latent encoder and Gaussian decoder: renders, KL, and a pull towards small and opaque Gaussians."""
    small = gaussians.scales.prod(dim=1).mean()
    opaque = (gaussians.opacities - 1).square().mean()
    kl = kl_divergence(mean, logvar)
    return render_loss(rendered, target, perceptual) + 1e-6 * kl + 1e4 * small + 1e-3 * opaque


def mesh_decoder_loss(mesh: Mesh, target_sdf: Tensor, resolution: int) -> Tensor:
    """The part of the mesh decoder's loss that needs no renderer, for a mesh extracted with training=True.

    Its regularizer, and 0.01 times the L1 distance to the true signed distance [P] at `mesh.corner_positions`, both
    clamped at three cells.
    """
    band = 3 / resolution
    truncated = F.l1_loss(mesh.corner_sdf.clamp(-band, band), target_sdf.clamp(-band, band))
    return mesh.regularizer + 0.01 * truncated
