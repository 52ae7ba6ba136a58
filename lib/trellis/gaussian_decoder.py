"""Structured latents to 3D Gaussians: a fixed number of them in each occupied voxel (paper Sec. 3.2)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.trellis.layers import require
from lib.trellis.slat_vae import SparseTransformerBase
from lib.trellis.sparse import SparseTensor

SH_DEGREE_0 = 0.28209479177387814  # value of the constant spherical harmonic


@dataclass(frozen=True)
class Gaussians:
    """Raw parameters of N Gaussians, and as properties what they stand for in object space [-0.5, 0.5]^3, z up."""

    xyz: Tensor  # [N, 3] in [0, 1]
    features_dc: Tensor  # [N, 1, 3]
    scaling: Tensor  # [N, 3]
    rotation: Tensor  # [N, 4]
    opacity: Tensor  # [N, 1]
    scaling_bias: float = 4e-3
    opacity_bias: float = 0.1
    filter_3d: float = 9e-4

    @property
    def means(self) -> Tensor:
        """Centres [N, 3]."""
        return self.xyz - 0.5

    @property
    def scales(self) -> Tensor:
        """Standard deviations along the principal axes [N, 3], never below the anti-aliasing filter."""
        start = self.scaling_bias + math.log(-math.expm1(-self.scaling_bias))
        return (F.softplus(self.scaling + start).square() + self.filter_3d**2).sqrt()

    @property
    def rotations(self) -> Tensor:
        """Unit quaternions (w, x, y, z) [N, 4]."""
        return F.normalize(self.rotation + self.rotation.new_tensor([1, 0, 0, 0]), dim=-1)

    @property
    def opacities(self) -> Tensor:
        """Opacities [N] in [0, 1]."""
        return torch.sigmoid(self.opacity[:, 0] + math.log(self.opacity_bias / (1 - self.opacity_bias)))

    @property
    def colors(self) -> Tensor:
        """RGB [N, 3], about [0, 1]."""
        return 0.5 + SH_DEGREE_0 * self.features_dc[:, 0]


class SLatGaussianDecoder(SparseTransformerBase):
    """Structured latents [T, latent] to `num_gaussians` Gaussians a voxel, moved at most about a voxel away."""

    def __init__(
        self,
        resolution: int,
        model_channels: int,
        latent_channels: int,
        num_blocks: int,
        representation_config: dict,
        use_fp16: bool = False,
        **transformer,
    ):
        super().__init__(latent_channels, model_channels, num_blocks, **transformer)
        config = self.config = representation_config
        require("scaling_activation", config["scaling_activation"], ("softplus",))
        self.resolution = resolution
        n = config["num_gaussians"]
        self.layout = {"_xyz": (n, 3), "_features_dc": (n, 1, 3), "_scaling": (n, 3), "_rotation": (n, 4)}
        self.layout["_opacity"] = (n, 1)
        self.register_buffer("offset_perturbation", torch.atanh((2 * hammersley(n) - 1) / config["voxel_size"]))
        self.out_layer = nn.Linear(model_channels, sum(math.prod(shape) for shape in self.layout.values()))
        self.finish(use_fp16)

    def raw(self, x: SparseTensor) -> Tensor:
        """Network output [T, 14 * num_gaussians]."""
        h = self.transform(x).feats.to(x.feats.dtype)
        return self.out_layer(F.layer_norm(h, h.shape[-1:]))

    def forward(self, x: SparseTensor) -> list[Gaussians]:
        """Gaussians of each item, voxel after voxel."""
        config = self.config
        widths = [math.prod(shape) for shape in self.layout.values()]
        parts = {
            name: part.unflatten(1, shape) * config["lr"][name]
            for (name, shape), part in zip(self.layout.items(), self.raw(x).split(widths, dim=1), strict=True)
        }
        offset = parts["_xyz"] + (self.offset_perturbation if config["perturb_offset"] else 0)
        center = (x.coords[:, None, 1:] + 0.5) / self.resolution
        parts["_xyz"] = center + torch.tanh(offset) * 0.5 * config["voxel_size"] / self.resolution
        constants = config["scaling_bias"], config["opacity_bias"], config["3d_filter_kernel_size"]
        return [Gaussians(*[part[item].flatten(0, 1) for part in parts.values()], *constants) for item in x.slices()]


def hammersley(n: int) -> Tensor:
    """n well-spread points of the unit cube: (i / n, radical inverse of i in base 2, in base 3), float32 [n, 3]."""
    return torch.tensor([[i / n, radical_inverse(i, 2), radical_inverse(i, 3)] for i in range(n)])


def radical_inverse(i: int, base: int) -> float:
    """The digits of i mirrored behind the point."""
    value, digit = 0.0, 1.0
    while i:
        digit /= base
        i, remainder = divmod(i, base)
        value += digit * remainder
    return value
