"""Miniature judges of the real classes: untrained models, tokenizer and processor, in the published folder layout.

By default 112 px images, that is 16 tokens each. The vocabulary is every word of `lib.judges.prompts`.
"""

from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from lib.judges.processors import InternVLProcessor, Qwen2_5_VLProcessor
from lib.judges.prompts import LAYOUTS, WORDINGS, prompt

IMAGE_SIZE, PATCH, MERGE = 112, 14, 2
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
INTERN_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{{ 'IMAGE' if part.type == 'image' else part.text ~ '\n' }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def words() -> list[str]:
    """Every word and mark of every prompt, in alphabetical order."""
    split = pre_tokenizers.Whitespace().pre_tokenize_str
    prompts = [prompt(*choice) for choice in product(LAYOUTS, WORDINGS, (False, True))]
    return sorted({word for p in prompts for part in p.parts for word, _ in split(part)} | {"user", "assistant"})


def _tokenizer(special: tuple[str, ...], **named: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate([*CHAT, *special, "<unk>", *words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([*CHAT, *special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=named,
    )


@dataclass(frozen=True)
class Size:
    """Of a miniature judge; vision and text share width. init: standard deviation of the first weights."""

    hidden: int = 128
    vision_layers: int = 4
    text_layers: int = 4
    heads: int = 4  # Qwen2.5-VL: hidden / heads a multiple of 16
    mlp: int = 384
    image: int = IMAGE_SIZE  # pixels a side, a multiple of 28
    init: float = 0.02

    def text(self, tokenizer: PreTrainedTokenizerFast) -> dict:
        return {
            "vocab_size": len(tokenizer),
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "max_position_embeddings": 1024,
            "initializer_range": self.init,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        }


def mini_qwen(seed: int, size: Size = Size()) -> tuple[PreTrainedModel, ProcessorMixin]:
    """An untrained Qwen2.5-VL, every vision layer with full attention: 2.2 million parameters, 4.4 MB in bfloat16."""
    tokenizer = _tokenizer(QWEN_TOKENS)
    half = size.hidden // size.heads // 2  # rotary frequencies: time, height, width about 1 : 1.5 : 1.5, as published
    sections = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS))
    config = Qwen2_5_VLConfig(
        text_config=size.text(tokenizer)
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections}},
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.hidden,
            "intermediate_size": size.mlp,
            "num_heads": size.heads,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "out_hidden_size": size.hidden,
            "fullatt_block_indexes": list(range(size.vision_layers)),
            "initializer_range": size.init,
        },
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
        tie_word_embeddings=True,
    )
    pixels = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": size.image**2}
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessorPil(size=pixels), tokenizer, chat_template=template)
    return _seeded(Qwen2_5_VLForConditionalGeneration, config, seed), processor


def mini_internvl(seed: int, size: Size = Size()) -> tuple[PreTrainedModel, ProcessorMixin]:
    """An untrained InternVL: 1.7 million parameters, 3.4 MB in bfloat16."""
    tokenizer = _tokenizer(tuple(INTERN_TOKENS.values()), **INTERN_TOKENS)
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **size.text(tokenizer)},
        vision_config={
            "hidden_size": size.hidden,
            "num_hidden_layers": size.vision_layers,
            "num_attention_heads": size.heads,
            "intermediate_size": size.mlp,
            "image_size": [size.image, size.image],
            "patch_size": [PATCH, PATCH],
            "attention_bias": True,
            "layer_scale_init_value": 0.5,  # .1, the default for a deep tower, trains four layers too slowly
            "initializer_range": size.init,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(INTERN_TOKENS["context_image_token"]),
        image_seq_length=(size.image // PATCH // MERGE) ** 2,
        downsample_ratio=1 / MERGE,
        tie_word_embeddings=True,
    )
    image_processor = GotOcr2ImageProcessorPil(
        size={"height": size.image, "width": size.image},
        image_mean=IMAGENET_STANDARD_MEAN,
        image_std=IMAGENET_STANDARD_STD,
    )
    template = TEMPLATE.replace("IMAGE", INTERN_TOKENS["context_image_token"])
    processor = InternVLProcessor(image_processor, tokenizer, config.image_seq_length, chat_template=template)
    return _seeded(InternVLForConditionalGeneration, config, seed), processor


def _seeded(kind: type[PreTrainedModel], config, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config)


def save_mini(folder: str | Path, model: PreTrainedModel, processor: ProcessorMixin, dtype=torch.bfloat16):
    """Writes an ordinary Hugging Face folder: configuration, safetensors in `dtype`, tokenizer, processor, template."""
    deepcopy(model).to(dtype).save_pretrained(folder)
    processor.save_pretrained(folder)
