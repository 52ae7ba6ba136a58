"""Everything that the profile `paper` opens, as the hub and 3D-FUTURE lay it out, narrow and with random weights.

File names, class names, configuration keys, tensor names, types, tokens and resolutions are the published ones; only
widths, depths and the vocabulary are cut. The models lie in a hub cache, so that the profile's ids find them unchanged.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, Dinov2WithRegistersConfig, Dinov2WithRegistersModel
from transformers.models.qwen2 import Qwen2Tokenizer

from lib.data.procedural import furniture
from lib.judges.prompts import LAYOUTS, prompt
from lib.trellis.checkpoints import build_model, save_model

TRELLIS, DINOV2 = "microsoft/TRELLIS-image-large", "facebook/dinov2-with-registers-large"
QWEN, INTERNVL = "Qwen/Qwen2.5-VL-7B-Instruct", "OpenGVLab/InternVL3-8B-hf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD = "200KB"

# TRELLIS: what is cut is model_channels, cond_channels, num_blocks, num_heads and the channel lists.
WIDTH, COND = 32, 48
FLOW = {"in_channels": 8, "out_channels": 8, "model_channels": WIDTH, "cond_channels": COND, "num_blocks": 2}
FLOW |= {"num_heads": 2, "mlp_ratio": 4, "pe_mode": "ape", "qk_rms_norm": True, "use_fp16": True}
DECODER = {"resolution": 64, "latent_channels": 8, "num_blocks": 2, "mlp_ratio": 4}
DECODER |= {"attn_mode": "swin", "window_size": 8, "use_fp16": True}
GAUSSIANS = {"lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1}}
GAUSSIANS |= {"perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 32, "2d_filter_kernel_size": 0.1}
GAUSSIANS |= {
    "3d_filter_kernel_size": 9e-4,
    "scaling_bias": 4e-3,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}
GRID = {"out_channels": 1, "latent_channels": 8, "num_res_blocks": 2, "num_res_blocks_middle": 2}
GRID |= {"channels": [16, 8, 8], "use_fp16": True}
NETWORKS = {
    "sparse_structure_flow_model": (
        "ss_flow_img_dit_L_16l8_fp16",
        "SparseStructureFlowModel",
        FLOW | {"resolution": 16, "patch_size": 1},
    ),
    "sparse_structure_decoder": ("ss_dec_conv3d_16l8_fp16", "SparseStructureDecoder", GRID),
    "slat_flow_model": (
        "slat_flow_img_dit_L_64l8p2_fp16",
        "ElasticSLatFlowModel",
        FLOW | {"resolution": 64, "patch_size": 2, "num_io_res_blocks": 2, "io_block_channels": [16]},
    ),
    "slat_decoder_gs": (
        "slat_dec_gs_swin8_B_64l8gs32_fp16",
        "ElasticSLatGaussianDecoder",
        DECODER | {"model_channels": 64, "num_heads": 2, "representation_config": GAUSSIANS},
    ),
    "slat_decoder_mesh": (
        "slat_dec_mesh_swin8_B_64l8m256c_fp16",
        "ElasticSLatMeshDecoder",
        DECODER | {"model_channels": 256, "num_heads": 4, "representation_config": {"use_color": True}},
    ),
}
RADIANCE_FIELD = {"slat_decoder_rf": "ckpts/slat_dec_rf_swin8_B_64l8r16_fp16"}  # published too; nothing here opens it
MEAN = [-2.1687545776367188, -0.004347046371549368, -0.13352349400520325, -0.08418072760105133]
MEAN += [-0.5271206498146057, 0.7238689064979553, -1.1414450407028198, 1.2039363384246826]
STD = [2.377650737762451, 2.386378288269043, 2.124418020248413, 2.1748552322387695]
STD += [2.663944721221924, 2.371192216873169, 2.6217446327209473, 2.684523105621338]
SAMPLER = {
    "name": "FlowEulerGuidanceIntervalSampler",
    "args": {"sigma_min": 1e-5},
    "params": {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
}
DINOV2_CONFIG = {"hidden_size": COND, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 4}
DINOV2_CONFIG |= {"image_size": 518, "patch_size": 14, "num_register_tokens": 4, "qkv_bias": True}

# The judges: what is cut is hidden_size, intermediate_size, the numbers of layers and heads, and vocab_size.
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>")
CHAT += ("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
CHAT += ("<|image_pad|>", "<|video_pad|>")
INTERN = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>")
NAMED = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
NAMED |= {"video_token": "<video>"}
HIDDEN, MERGES, VOCABULARY = 128, 40, 384  # the vocabulary is padded beyond the tokenizer's, as the published are
TURNS = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{{ 'IMAGE' if part.type == 'image' else part.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
SYSTEM = f"{{% if loop.first and message.role != 'system' %}}{SYSTEM}{{% endif %}}"
QWEN_TEMPLATE = TURNS.replace("SYSTEM", SYSTEM).replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
INTERN_TEMPLATE = TURNS.replace("SYSTEM", "").replace("'IMAGE'", r"'<IMG_CONTEXT>\n'")
TEXT = {"hidden_size": HIDDEN, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6}
TEXT |= {"initializer_range": 0.02, "attention_dropout": 0.0, "use_cache": True, "use_sliding_window": False}
TEXT |= {"tie_word_embeddings": False, "vocab_size": VOCABULARY}


def snapshot(cache: Path, name: str) -> Path:
    """A new, empty snapshot of a repository in a hub cache."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    return repository / "snapshots" / COMMIT


def write_models(cache: Path) -> dict[str, Path]:
    """All models of the profile, each in its snapshot, by hub id."""
    writers = {TRELLIS: write_trellis, DINOV2: write_dinov2, QWEN: write_qwen, INTERNVL: write_internvl}
    folders = {name: snapshot(cache, name) for name in writers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, write in writers.items():
            write(folders[name])
    return folders


@torch.no_grad()
def write_trellis(folder: Path):
    """pipeline.json and ckpts/: torsos in float16; networks whose outputs start at zero get random ones."""
    for role, (stem, name, args) in NETWORKS.items():
        model = build_model(name, args | {"use_fp16": False}).requires_grad_(False)
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        if role == "sparse_structure_decoder":  # about a hundred of the 64^3 voxels
            model.out_layer[-1].bias -= model(torch.randn(1, 8, 16, 16, 16)).flatten()[::7].quantile(0.9997)
        model.set_torso_dtype(torch.float16)
        model.config_file = {"name": name, "args": args}
        save_model(model, folder / "ckpts", stem)
    roles = {role: f"ckpts/{stem}" for role, (stem, *_) in NETWORKS.items()} | RADIANCE_FIELD
    samplers = {"sparse_structure_sampler": SAMPLER, "slat_sampler": SAMPLER}
    args = {"models": roles, **samplers, "slat_normalization": {"mean": MEAN, "std": STD}}
    args["image_cond_model"] = "dinov2_vitl14_reg"
    _write(folder / "pipeline.json", {"name": "TrellisImageTo3DPipeline", "args": args})


def write_dinov2(folder: Path):
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINOV2_CONFIG)).save_pretrained(folder)


def write_qwen(folder: Path):
    """Settings of the language model at the top level, as published, and the image limits under their old names."""
    ids = write_tokenizer(folder, CHAT, {"chat_template": QWEN_TEMPLATE})
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}
    kept = {"vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"]}
    kept |= {"vision_token_id": ids["<|vision_pad|>"], "image_token_id": ids["<|image_pad|>"]}
    kept |= {"video_token_id": ids["<|video_pad|>"], "bos_token_id": ids["<|endoftext|>"]}
    kept |= {"max_position_embeddings": 128000, "max_window_layers": 28, "sliding_window": 32768}
    vision = {"depth": 4, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96, "num_heads": 2}
    vision |= {"in_chans": 3, "out_hidden_size": HIDDEN, "patch_size": 14, "spatial_merge_size": 2}
    vision |= {"spatial_patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1, 3]}
    vision |= {"tokens_per_second": 2, "temporal_patch_size": 2}
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
    config |= TEXT | rope | kept | {"eos_token_id": ids["<|im_end|>"], "vision_config": vision}
    write_weights(folder, config)
    pixels = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    pixels |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    pixels |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    _write(folder / "preprocessor_config.json", pixels)
    _write(folder / "chat_template.json", {"chat_template": QWEN_TEMPLATE})


def write_internvl(folder: Path):
    """No word on tied embeddings at the top level, where transformers now looks for it; lm_head has its own weights."""
    ids = write_tokenizer(folder, (*CHAT, *INTERN), {"extra_special_tokens": NAMED, **NAMED})
    text = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **TEXT, "max_window_layers": 70}
    text |= {"rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}}
    text |= {"max_position_embeddings": 32768, "sliding_window": None, "bos_token_id": ids["<|endoftext|>"]}
    text |= {"eos_token_id": ids["<|im_end|>"]}
    vision = {"architectures": ["InternVisionModel"], "model_type": "internvl_vision", "hidden_size": 64}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "hidden_act": "gelu"}
    vision |= {"image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True, "use_qk_norm": False}
    vision |= {"norm_type": "layer_norm", "layer_norm_eps": 1e-6, "layer_scale_init_value": 0.1}
    vision |= {"use_absolute_position_embeddings": True, "use_mask_token": False, "use_mean_pooling": True}
    config = {"architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl"}
    config |= {"image_token_id": ids["<IMG_CONTEXT>"], "image_seq_length": 256, "downsample_ratio": 0.5}
    config |= {"projector_hidden_act": "gelu", "vision_feature_layer": -1, "vision_feature_select_strategy": "default"}
    write_weights(folder, config | {"text_config": text, "vision_config": vision})
    pixels = {"crop_to_patches": False, "max_patches": 12, "min_patches": 1, "size": {"height": 448, "width": 448}}
    pixels |= {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3}
    pixels |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    pixels |= {"image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor"}
    _write(folder / "preprocessor_config.json", pixels)
    _write(folder / "processor_config.json", {"image_seq_length": 256, "processor_class": "InternVLProcessor"})
    (folder / "chat_template.jinja").write_text(INTERN_TEMPLATE)


def write_weights(folder: Path, config: dict):
    """Shards of bfloat16 with their index, tensors named as published; then the configuration as given."""
    _write(folder / "config.json", config)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    with torch.no_grad():  # as far from the embeddings as if it had been trained, whatever from_config tied it to
        model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn_like(model.lm_head.weight))
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder, max_shard_size=SHARD)
    _write(folder / "config.json", config | {"torch_dtype": "bfloat16"})


def write_tokenizer(folder: Path, special: tuple[str, ...], named: dict) -> dict[str, int]:
    """A byte-level BPE of Qwen2's class with the special tokens after its words; their ids."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([str(prompt(layout)) for layout in LAYOUTS], trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Qwen2Tokenizer(learned["vocab"], merges, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.save_pretrained(folder)
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(list(special)), strict=True))
    _write(folder / "vocab.json", learned["vocab"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {"added_tokens_decoder": {str(ids[token]): {"content": token, **flags} for token in special}}
    config |= {"add_bos_token": False, "add_prefix_space": False, "bos_token": None, "eos_token": "<|im_end|>"}
    config |= {"additional_special_tokens": list(special[1:]), "pad_token": "<|endoftext|>", "unk_token": None}
    config |= {"clean_up_tokenization_spaces": False, "errors": "replace", "split_special_tokens": False}
    config |= {"model_max_length": 131072, "tokenizer_class": "Qwen2Tokenizer", **named}
    _write(folder / "tokenizer_config.json", config)
    return ids


def write_future(folder: Path, count: int):
    """3D-FUTURE's `<model_id>/raw_model.obj` with material, atlas and picture, metres, y up; `model_info.json`."""
    info, rng = [], np.random.default_rng(0)
    for index in range(count):
        item, name = furniture("test", index), f"0000{index:04}-1b2c-4d3e-8f90-a1b2c3d4e5f6"
        model = folder / name
        model.mkdir(parents=True)
        vertices = 1.2 * item.mesh.vertices @ [[1, 0, 0], [0, 0, -1], [0, 1, 0]]  # z up to y up
        vertices[:, 1] -= vertices[:, 1].min()
        uv = item.mesh.vertices[:, :2] + 0.5
        lines = ["mtllib model.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices)]
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in uv] + ["g default", "usemtl material_0"]
        lines += ["f " + " ".join(f"{i}/{i}" for i in face) for face in item.mesh.faces + 1]
        (model / "raw_model.obj").write_text("\n".join(lines) + "\n")
        (model / "model.mtl").write_text("newmtl material_0\nKd 0.8 0.8 0.8\nmap_Kd ./texture.png\n")
        Image.fromarray(rng.integers(90, 200, (32, 32, 3), np.uint8)).save(model / "texture.png")
        Image.new("RGB", (64, 64), "white").save(model / "image.jpg")
        info.append({"model_id": name, "super-category": "Others", "category": item.category, "style": "Modern"})
        info[-1] |= {"theme": None, "material": "Solid Wood"}
    _write(folder / "model_info.json", info)


def _write(path: Path, content):
    path.write_text(json.dumps(content, indent=2))
