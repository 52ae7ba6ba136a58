"""The forward pass of Qwen2.5-VL and InternVL in two halves, images once and questions in batches; differentiable.

    pixels = pixel_values(processor, images)                   # (N,H,H,3) uint8, or the stock image processor's output
    features = encode_images(model, pixels)                    # (N, tokens, hidden): once for each image
    ids = token_ids(processor, prompt, [tokens] * places)      # (T,): the same for every question of one form
    logits = answer_logits(model, ids, [features[first], features[second]])[:, -1]      # (B, vocabulary)

Images are square. Every question of a batch has the same tokens, so nothing is ever padded or masked. Both halves run
the stock modules; the results equal the plain forward pass up to rounding (tests/test_judges_forward.py).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
    eager_attention_forward,
)

from lib.errors import BadInput
from lib.judges.prompts import Prompt


class BatchedVisionAttention(Qwen2_5_VLVisionAttention):
    """Qwen2.5-VL's vision attention for all chunks (images or windows) of one length at once.

    The stock class loops over them in Python. Same weights: `batch_attention` changes the class of a loaded module.
    """

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings=None, **kwargs) -> Tensor:
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        starts, lengths = cu_seqlens[:-1], cu_seqlens.diff()
        mixed, places = [], []
        for length in lengths.unique().tolist():
            rows = starts[lengths == length, None] + torch.arange(length, device=starts.device)
            chunks = [part[rows].transpose(1, 2) for part in (query, key, value)]
            mixed.append(attend(self, *chunks, attention_mask=None, scaling=self.scaling, is_causal=False)[0])
            places.append(rows.flatten())
        back = torch.cat(places).argsort()
        return self.proj(torch.cat([part.reshape(-1, self.dim) for part in mixed])[back])


def batch_attention(model: PreTrainedModel) -> PreTrainedModel:
    """The same model; the vision attention of a Qwen2.5-VL runs over many images in one call from now on."""
    for module in model.modules():
        if type(module) is Qwen2_5_VLVisionAttention:
            module.__class__ = BatchedVisionAttention
    return model


def is_qwen(model: PreTrainedModel) -> bool:
    return model.config.model_type == "qwen2_5_vl"


def pixel_values(processor: ProcessorMixin, images: Tensor) -> Tensor:
    """(N,H,H,3) uint8 of the size that the model sees -> the stock image processor's numbers, in one go, on any device.

    Qwen2.5-VL: (N, patches, 3 * 2 * 14 * 14); InternVL: (N, 1 tile, 3, H, H).
    """
    settings = processor.image_processor
    mean, deviation = (torch.tensor(x, device=images.device) for x in (settings.image_mean, settings.image_std))
    pixels = ((images / 255 - mean) / deviation).permute(0, 3, 1, 2)
    if not hasattr(settings, "merge_size"):
        return pixels[:, None]
    patch, merge = settings.patch_size, settings.merge_size
    side = images.shape[1] // patch // merge
    patches = pixels.reshape(-1, 3, side, merge, patch, side, merge, patch).permute(0, 2, 5, 3, 6, 1, 4, 7)
    patches = patches[..., None, :, :].expand(*patches.shape[:6], settings.temporal_patch_size, patch, patch)
    return patches.reshape(len(images), (side * merge) ** 2, -1)


def encode_images(model: PreTrainedModel, pixels: Tensor) -> Tensor:
    """`pixel_values` of N images of one size -> (N, tokens, hidden), what the language model reads of each."""
    count = len(pixels)
    if is_qwen(model):
        side = math.isqrt(pixels.shape[1])
        grid = torch.tensor([[1, side, side]] * count, device=pixels.device)
        features = torch.stack(model.get_image_features(pixels.flatten(0, 1), grid).pooler_output)
    else:
        features = model.get_image_features(pixels.flatten(0, 1)).pooler_output
    return features.reshape(count, -1, features.shape[-1])


def token_ids(processor: ProcessorMixin, prompt: Prompt, tokens: Sequence[int]) -> Tensor:
    """(T,) ids of a prompt up to the answer; `tokens` of each image, in order. Raises BadInput for words unknown."""
    text = processor.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True)
    before, *after = text.split(processor.image_token)
    start, end = getattr(processor, "start_image_token", ""), getattr(processor, "end_image_token", "")
    for count, part in zip(tokens, after, strict=True):
        before += start + processor.image_token * count + end + part
    ids = processor.tokenizer(before)["input_ids"]
    if processor.tokenizer.unk_token_id in ids:
        raise BadInput(f"prompt {prompt.id}", "has words that the model's tokenizer lacks", "Use words that it knows")
    return torch.tensor(ids)


def answer_logits(model: PreTrainedModel, ids: Tensor, features: Sequence[Tensor], keep: int = 1) -> Tensor:
    """(B, keep, vocabulary): the logits after the last `keep` tokens of B questions of one form.

    ids: (T,), shared by all. features: for each image of the prompt, in order, (B, tokens, hidden).
    """
    batch = len(features[0])
    ids = ids.to(model.device).expand(batch, -1)
    images, extra = torch.cat(list(features), 1), {}
    if is_qwen(model):
        merge = model.config.vision_config.spatial_merge_size
        sides = [math.isqrt(part.shape[1]) * merge for part in features]
        grid = torch.tensor([[1, side, side] for side in sides], device=ids.device)
        kinds = (ids[:1] == model.config.image_token_id).int()
        positions, _ = model.model.get_rope_index(ids[:1], kinds, image_grid_thw=grid)
        images, extra = [images.flatten(0, 1)], {"position_ids": positions.expand(-1, batch, -1)}
    seen = {"image": BaseModelOutputWithPooling(pooler_output=images)}
    return model(ids, mm_encoder_outputs=seen, logits_to_keep=keep, use_cache=False, **extra).logits
