"""What the miniature generator is: every size, seed, loss weight and training time, in one place.

Networks are given as their published configuration (`lib.trellis.checkpoints.build_model`): class and arguments.
"""

from dataclasses import dataclass, field, replace

from lib.training import Budget

RESOLUTION = 16  # cells a side of the structure; the mesh has four times as many
LATENT = 8  # cells a side of the structure's latent
WIDTH = 160  # of the conditioner, and so of the condition
GRID = {"latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1}  # of the structure's autoencoder

Network = tuple[str, dict]  # class and arguments


@dataclass(frozen=True)
class Data:
    """What is sampled of the procedural training split (see `fields`)."""

    objects: int = 12_000
    held: int = 96  # the last of them are not trained on: they show whether the others are learned by heart
    photos: int = 2  # of an object
    photo_size: int = 112
    azimuth: float = 75.0  # degrees to either side
    elevation: tuple[float, float] = (8.0, 38.0)
    points: int = 2048  # on the surface


@dataclass(frozen=True)
class Conditioner:
    """The photo's encoder: 129 tokens. Trained with throw-away heads, then frozen."""

    arguments: dict = field(  # of Dinov2WithRegistersConfig
        default_factory=lambda: {
            "hidden_size": WIDTH,
            "num_hidden_layers": 5,
            "num_attention_heads": 5,
            "mlp_ratio": 4,
            "image_size": 112,
            "patch_size": 14,
            "num_register_tokens": 64,  # see `conditioner`
            "initializer_range": 0.07,
        }
    )
    batch: int = 32  # photos, each of another object
    rate: float = 1e-3
    weights: dict[str, float] = field(
        default_factory=lambda: {"occupancy": 4, "distance": 1, "color": 1, "seen": 2, "view": 0.5, "category": 0.1}
    )
    budget: Budget = field(default_factory=lambda: Budget(minutes=85))


@dataclass(frozen=True)
class Structure:
    """Stage 1: autoencoder of the occupancy, and the flow of its latents."""

    networks: dict[str, Network] = field(  # by role
        default_factory=lambda: {
            "sparse_structure_encoder": (
                "SparseStructureEncoder",
                GRID | {"in_channels": 1, "channels": [16, 64]},
            ),
            "sparse_structure_decoder": (
                "SparseStructureDecoder",
                GRID | {"out_channels": 1, "channels": [64, 16]},
            ),
            "sparse_structure_flow_model": (
                "SparseStructureFlowModel",
                {
                    "resolution": LATENT,
                    "in_channels": GRID["latent_channels"],
                    "out_channels": GRID["latent_channels"],
                    "model_channels": WIDTH,
                    "cond_channels": WIDTH,
                    "num_blocks": 5,
                    "num_heads": 5,
                    "patch_size": 2,
                    "share_mod": True,
                    "qk_rms_norm": True,
                },
            ),
        }
    )
    vae_batch: int = 16
    vae_rate: float = 1e-3
    kl: float = 0.03  # far above the published 1e-3: a latent that bears noise is easier for the flow
    vae_budget: Budget = field(default_factory=lambda: Budget(minutes=8))
    flow_batch: int = 48
    flow_rate: float = 1e-3
    drop: float = 0.1  # of the conditions, for guidance
    mismatch: float = 0.55  # of the conditions are of another object, see `structure`
    flow_budget: Budget = field(default_factory=lambda: Budget(minutes=63))


@dataclass(frozen=True)
class Slat:
    """Stage 2: autoencoder of the structured latents, their flow, and the Gaussian decoder on frozen latents."""

    networks: dict[str, Network] = field(  # by role
        default_factory=lambda: {
            "slat_encoder": (  # its input: signed distance and RGB at the 5^3 nodes of a cell
                "SLatEncoder",
                {
                    "resolution": RESOLUTION,
                    "in_channels": 4 * 125,
                    "model_channels": 128,
                    "latent_channels": 8,
                    "num_blocks": 2,
                    "num_heads": 2,
                },
            ),
            "slat_decoder_mesh": (
                "SLatMeshDecoder",
                {
                    "resolution": RESOLUTION,
                    "model_channels": 128,
                    "latent_channels": 8,
                    "num_blocks": 4,
                    "num_heads": 2,
                    "num_groups": 8,
                    "representation_config": {"use_color": True},
                },
            ),
            "slat_flow_model": (
                "SLatFlowModel",
                {
                    "resolution": RESOLUTION,
                    "in_channels": 8,
                    "out_channels": 8,
                    "model_channels": WIDTH,
                    "cond_channels": WIDTH,
                    "num_blocks": 5,
                    "num_heads": 5,
                    "io_block_channels": [48],
                    "share_mod": True,
                    "qk_rms_norm": True,
                },
            ),
            "slat_decoder_gs": (
                "SLatGaussianDecoder",
                {
                    "resolution": RESOLUTION,
                    "model_channels": 96,
                    "latent_channels": 8,
                    "num_blocks": 3,
                    "num_heads": 2,
                    "representation_config": {
                        "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 1.0},
                        "perturb_offset": True,
                        "voxel_size": 1.5,
                        "num_gaussians": 32,
                        "2d_filter_kernel_size": 0.1,
                        "3d_filter_kernel_size": 9e-4,
                        "scaling_bias": 8e-3,  # about their spacing, where 32 share the surface in a cell
                        "opacity_bias": 0.9,
                        "scaling_activation": "softplus",
                    },
                },
            ),
        }
    )
    vae_cells: int = 2500  # in a batch
    vae_rate: float = 1.5e-3
    kl: float = 5e-3  # five times that of the prototype, whose meshes bore noise: it eases the flow
    color: tuple[float, float] = (2.0, 8.0)  # weight at first and later: heavy from the start it slows the geometry
    color_steps: int = 1000  # over which it rises
    vae_budget: Budget = field(default_factory=lambda: Budget(minutes=30))
    decoder_rate: float = 1e-3
    decoder_budget: Budget = field(default_factory=lambda: Budget(minutes=15))
    flow_batch: int = 16  # objects
    flow_rate: float = 1e-3
    drop: float = 0.1  # of the conditions, for guidance
    flow_budget: Budget = field(default_factory=lambda: Budget(minutes=66))
    gaussian_cells: int = 1500  # in a batch
    gaussian_image: int = 80  # pixels
    gaussian_rate: float = 1e-3
    gaussian_weights: dict[str, float] = field(
        default_factory=lambda: {"distance": 0.1, "gap": 0.1, "angle": 0.2, "color": 1, "scale": 0.1, "image": 1}
    )
    gaussian_budget: Budget = field(default_factory=lambda: Budget(minutes=20))


def sampler(steps: int, guidance: float, rescale_t: float = 3.0) -> dict:
    """An entry of pipeline.json."""
    return {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": 1e-5},
        "params": {"steps": steps, "cfg_strength": guidance, "cfg_interval": [0.5, 1.0], "rescale_t": rescale_t},
    }


@dataclass(frozen=True)
class Recipe:
    """The whole generator."""

    seed: int = 5
    data: Data = Data()
    conditioner: Conditioner = Conditioner()
    structure: Structure = Structure()
    slat: Slat = Slat()
    # On training objects 25 steps did no better in either stage; guidance helps the structure, and the latents not.
    structure_sampler: dict = field(default_factory=lambda: sampler(12, 10.0))
    slat_sampler: dict = field(default_factory=lambda: sampler(4, 0.0))

    def within(self, minutes: dict[str, float | None]) -> "Recipe":
        """The same with other training times; a stage whose minutes are None keeps its own."""
        changed = self
        for stage, value in minutes.items():
            if value is not None:
                section, name = BUDGETS[stage]
                part = replace(getattr(changed, section), **{name: Budget(minutes=value)})
                changed = replace(changed, **{section: part})
        return changed


BUDGETS = {  # stage -> section of the recipe and field in it
    "conditioner": ("conditioner", "budget"),
    "structure_vae": ("structure", "vae_budget"),
    "structure_flow": ("structure", "flow_budget"),
    "slat_vae": ("slat", "vae_budget"),
    "mesh_decoder": ("slat", "decoder_budget"),
    "gaussians": ("slat", "gaussian_budget"),
    "slat_flow": ("slat", "flow_budget"),
}
RECIPE = Recipe()
