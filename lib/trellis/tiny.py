"""A complete pipeline of a few hundred kilobytes with random weights: for tests, and to see every stage in seconds."""

import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from lib.trellis.checkpoints import build_model
from lib.trellis.conditioning import ImageConditioner
from lib.trellis.pipeline import Pipeline

WIDTH, HEADS = 32, 2
FLOW = {"in_channels": 8, "out_channels": 8, "model_channels": WIDTH, "cond_channels": WIDTH, "num_blocks": 2}
FLOW |= {"num_heads": HEADS, "mlp_ratio": 2, "qk_rms_norm": True}
DECODER = {"resolution": 16, "model_channels": WIDTH, "latent_channels": 8, "num_blocks": 2, "num_heads": HEADS}
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 4,
    "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 9e-4,
    "scaling_bias": 4e-3,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}
MODELS = {
    "sparse_structure_flow_model": ("SparseStructureFlowModel", FLOW | {"resolution": 8, "patch_size": 2}),
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        {"out_channels": 1, "latent_channels": 8, "num_res_blocks": 1, "channels": [16, 8]},
    ),
    "slat_flow_model": ("SLatFlowModel", FLOW | {"resolution": 16, "patch_size": 2, "io_block_channels": [16]}),
    "slat_decoder_mesh": (
        "SLatMeshDecoder",
        DECODER | {"num_groups": 4, "representation_config": {"use_color": True}},
    ),
    "slat_decoder_gs": ("SLatGaussianDecoder", DECODER | {"representation_config": GAUSSIANS}),
}


def sampler_args(steps: int, cfg_strength: float) -> dict:
    """A sampler entry of pipeline.json."""
    params = {"steps": steps, "cfg_strength": cfg_strength, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}
    return {"name": "FlowEulerGuidanceIntervalSampler", "args": {"sigma_min": 1e-5}, "params": params}


def tiny_args() -> dict:
    """The args of the tiny pipeline.json."""
    return {
        "models": {role: f"ckpts/{role}" for role in MODELS},
        "sparse_structure_sampler": sampler_args(4, 5.0),
        "slat_sampler": sampler_args(4, 3.0),
        "slat_normalization": {"mean": [0.0] * 8, "std": [1.0] * 8},
        "image_cond_model": "ckpts/dinov2",
    }


def tiny_conditioner() -> ImageConditioner:
    """A DINOv2 with registers for 56 px photos: 21 tokens."""
    config = Dinov2WithRegistersConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS, image_size=56, patch_size=14
    )
    return ImageConditioner(Dinov2WithRegistersModel(config).eval())


def tiny_pipeline(seed: int = 0) -> Pipeline:
    """All networks with random weights, those that start at zero included: samples are noise, but of the right kind."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        models = {role: build_model(name, args).eval() for role, (name, args) in MODELS.items()}
        conditioner = tiny_conditioner()
        for model in models.values():
            for parameter in model.requires_grad_(False).parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
    models["sparse_structure_decoder"].out_layer[-1].bias -= 0.5  # a few hundred of the 4,096 voxels
    return Pipeline(models, tiny_args(), conditioner.requires_grad_(False))
