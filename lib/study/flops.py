"""Floating-point operations of the models, two a multiply-add, from their configurations alone.

Counted are the products of matrices and the convolutions; norms, activations, rendering and meshes are not.
"""

from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from lib.adapters.repair import RepairRecipe
from lib.adapters.train import LoraRecipe
from lib.judges.engines import FEATURES
from lib.judges.models import SMALL, batch_size
from lib.judges.prompts import Prompt
from lib.trellis.checkpoints import build_model
from lib.trellis.samplers import time_steps

CELLS = 2  # voxels of an object, in squares of the grid's side: the release's objects have .9 to 2.9 (arXiv 2412.01506)
MERGED = 3.3  # voxels that become one token where the flow halves the grid: 8 would be a full cube, 4 a flat surface
NEIGHBORS = 22  # of the 27 cells around a subdivided one that are there, itself included
LATENTS = 2 * LoraRecipe.batch  # in a step of training: winners and losers
IN_BLOCK, OF_BLOCK = 100, 2  # bytes a token and channel that training keeps inside one block, and of each block's input
KEPT = 2048  # bytes of a sample's mesh and latents, compressed, a square of the grid's side: 8 MB at 64^3
CALL_TOKENS, WORD = 24, 1.3  # of a chat's frame, and tokens a word


@dataclass(frozen=True)
class GeneratorCost:
    """Operations: of encoding a photo, of one call of each flow, of decoding a sample, of repairing a condition.

    Bytes: of all weights; widest, of the largest layer's inputs; training, of what a step keeps for the gradient where
    blocks are computed again (`lib.placement.recomputed`); kept, of a sample's mesh and latents on disk, about.
    """

    encode: float
    structure: float
    slat: float
    decode: float
    repair: float
    bytes: int
    widest: int
    training: int
    kept: int

    @property
    def memory(self) -> int:
        """Bytes for sampling and for training."""
        return self.bytes + max(self.widest, self.training)

    def sample(self, samplers: dict, budget: dict | None = None) -> float:
        """From the photo to a mesh. samplers: settings of both stages; budget: steps and guidance instead of theirs."""
        given = {{"guidance": "cfg_strength"}.get(name, name): value for name, value in (budget or {}).items()}
        structure, slat = (sampler_calls(one | given) for one in samplers.values())
        return self.encode + structure * self.structure + slat * self.slat + self.decode


def sampler_calls(settings: dict) -> int:
    """Calls of the flow that a sampler makes: one a step, two where it is guided."""
    low, high = settings.get("cfg_interval", (0.0, 1.0))
    times = time_steps(settings["steps"], settings.get("rescale_t", 1.0))[:-1]
    return settings["steps"] + int(((low <= times) & (times <= high)).sum()) * bool(settings["cfg_strength"])


def blocks(tokens: float, width: int, count: int, ratio: float, seen: float | None = None, cond: tuple = (0, 0)):
    """Transformer blocks. seen: tokens that each attends to, by default all; cond: tokens and width of a condition."""
    length, cond_width = cond
    macs = tokens * width * (width * (4 + 2 * ratio) + 2 * (tokens if seen is None else seen))
    if length:
        macs += 2 * width * (tokens * width + length * cond_width + tokens * length)
    return 2 * macs * count


def generator_cost(networks: dict[str, dict], encoder: dict) -> GeneratorCost:
    """networks: class name and arguments by role, as in ckpts/*.json; encoder: configuration of the DINOv2."""
    args = {role: network["args"] for role, network in networks.items()}
    first, flow, mesh = (args[role] for role in ("sparse_structure_flow_model", "slat_flow_model", "slat_decoder_mesh"))
    shape = encoder["hidden_size"], encoder["num_hidden_layers"], encoder.get("mlp_ratio", 4)
    patches = (encoder["image_size"] // encoder["patch_size"]) ** 2
    cond = patches + 1 + encoder.get("num_register_tokens", 4), encoder["hidden_size"]
    voxels, width = CELLS * flow["resolution"] ** 2, mesh["model_channels"]
    tokens = {"slat": voxels / MERGED if flow.get("io_block_channels") else voxels}
    tokens["structure"] = (first["resolution"] // first.get("patch_size", 1)) ** 3
    learning = [
        LATENTS * tokens[stage] * one["model_channels"] * (IN_BLOCK + OF_BLOCK * one["num_blocks"])
        for stage, one in (("structure", first), ("slat", flow))
    ]
    seen = min(voxels, CELLS * mesh.get("window_size", 8) ** 2) if mesh.get("attn_mode") == "swin" else voxels
    decode = _grid_decoder(args["sparse_structure_decoder"], first["resolution"])
    decode += blocks(voxels, width, mesh["num_blocks"], mesh.get("mlp_ratio", 4), seen)
    with torch.device("meta"):
        models = [build_model(one["name"], one["args"]) for one in networks.values()]
    weights = sum(tensor.nbytes for model in models for tensor in model.state_dict().values())
    return GeneratorCost(
        encode=blocks(cond[0], *shape),
        structure=_flow(first, cond),
        slat=_flow(flow, cond, tokens["slat"]),
        decode=decode + _mesh_convolutions(voxels, width),
        repair=blocks(*cond, RepairRecipe.blocks, RepairRecipe.ratio),
        bytes=weights + 4 * shape[1] * (4 + 2 * shape[2]) * shape[0] ** 2,
        widest=2 * 27 * 64 * voxels * width // 8,  # what a convolution of the finest cells gathers
        training=round(max(learning)),
        kept=KEPT * flow["resolution"] ** 2,
    )


def _flow(args: dict, cond: tuple, tokens: float | None = None) -> float:
    tokens = tokens or (args["resolution"] // args.get("patch_size", 1)) ** 3
    return blocks(tokens, args["model_channels"], args["num_blocks"], args.get("mlp_ratio", 4), cond=cond)


def _grid_decoder(args: dict, side: int) -> float:
    """The structure's dense decoder: residual blocks of two 3x3x3 convolutions, an up-sampling between levels."""
    first, *_ = channels = args["channels"]
    macs = 27 * first * (args["latent_channels"] + 2 * args.get("num_res_blocks_middle", 2) * first) * side**3
    for level, width in enumerate(channels):
        voxels = (side * 2**level) ** 3
        macs += 27 * width * 2 * args["num_res_blocks"] * width * voxels
        macs += 27 * width * (8 * channels[level + 1] if level + 1 < len(channels) else 1) * voxels
    return 2 * macs


def _mesh_convolutions(voxels: float, width: int) -> float:
    """Two subdivisions, each followed by two convolutions."""
    halves = ((8, width, width // 4), (64, width // 4, width // 8))
    return 2 * sum(voxels * cells * NEIGHBORS * (i * o + o * o) for cells, i, o in halves)


@dataclass(frozen=True)
class JudgeCost:
    """Operations of a judge. tokens: of an image; image: of encoding one."""

    parameters: int
    tokens: int
    image: float
    text: int  # parameters that each token meets
    width: int  # of the language model's attention, all layers together
    activations: int  # bytes a token

    @property
    def small(self) -> bool:
        return self.parameters < SMALL

    @property
    def bytes(self) -> int:
        return self.parameters * (4 if self.small else 2)

    def length(self, prompt: Prompt) -> int:
        """Tokens of a question, about."""
        images = prompt.layout.photo + 2 * prompt.layout.count
        return round(images * self.tokens + CALL_TOKENS + WORD * len(str(prompt).split()))

    def question(self, prompt: Prompt) -> float:
        return self.forward(self.length(prompt))

    def forward(self, length: int) -> float:
        """Of the language model: two a parameter and token, and the attention."""
        return 2 * self.text * length + 4 * length**2 * self.width

    def memory(self, prompt: Prompt) -> int:
        """Bytes for answering a batch, features of images that are kept included."""
        return self.bytes + FEATURES + batch_size(self.parameters) * self.length(prompt) * self.activations


def judge_cost(config: PreTrainedConfig, side: int, pixels: tuple[int, int]) -> JudgeCost:
    """side: of an image before the model resizes it; pixels: fewest and most, for Qwen2.5-VL."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    text, vision = config.get_text_config(), config.vision_config
    parts = {"vision": 0, "merged": 0, "text": 0}
    for name, parameter in model.named_parameters():
        if not isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding) and "lm_head" not in name:
            parts[_part(name)] += parameter.numel()
    patches, attended = _patches(vision, side, pixels)
    tokens = getattr(config, "image_seq_length", None) or patches // vision.spatial_merge_size**2
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return JudgeCost(
        parameters=model.num_parameters(),
        tokens=tokens,
        image=2 * parts["vision"] * patches
        + 2 * parts["merged"] * tokens
        + 4 * patches * attended * vision.hidden_size,
        text=parts["text"],
        width=text.num_hidden_layers * text.num_attention_heads * head,
        activations=2 * (3 * text.intermediate_size + 6 * text.hidden_size),
    )


def _part(name: str) -> str:
    if "merger" in name or "projector" in name:
        return "merged"
    return "vision" if "visual" in name or "vision" in name else "text"


def _patches(vision: PreTrainedConfig, side: int, pixels: tuple[int, int]) -> tuple[int, int]:
    """Patches of a square image, and how many each attends to, summed over the layers."""
    if vision.model_type.startswith("internvl"):
        patches = (vision.image_size[0] // vision.patch_size[0]) ** 2
        return patches, patches * vision.num_hidden_layers
    height, width = smart_resize(side, side, vision.patch_size * vision.spatial_merge_size, *pixels)
    patches = height * width // vision.patch_size**2
    full = len(vision.fullatt_block_indexes)
    window = min(patches, (vision.window_size // vision.patch_size) ** 2)
    return patches, full * patches + (vision.depth - full) * window


def measured_rate(seconds: float = 0.5) -> float:
    """Operations a second of a product of two square matrices, on the GPU in bfloat16 or on one thread and process."""
    gpu = torch.cuda.is_available()
    size, kind = (8192, torch.bfloat16) if gpu else (512, torch.float32)
    x = torch.ones(size, size, dtype=kind, device="cuda" if gpu else "cpu")
    x @ x
    count, start = 0, perf_counter()
    while perf_counter() - start < seconds:
        (x @ x)[0, 0].item()  # waits for the GPU
        count += 1
    return 2 * size**3 * count / (perf_counter() - start)
