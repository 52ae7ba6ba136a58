import copy
import json
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from lib.errors import BadInput
from lib.judges.forward import answer_logits, batch_attention, encode_images, pixel_values, token_ids
from lib.judges.mini import mini_internvl, mini_qwen, save_mini
from lib.judges.processors import load_processor
from lib.judges.prompts import LAYOUTS, WORDINGS, prompt

FAMILIES = [mini_qwen, mini_internvl]


def noise(count, size=112, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def stock(model, processor, asked, images):
    """Logits at the answer by the processor's and model's own call, one question."""
    images = iter(images)
    (turn,) = asked.messages()
    content = [
        part | {"image": Image.fromarray(next(images))} if part["type"] == "image" else part for part in turn["content"]
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    return inputs["input_ids"][0], model(**inputs).logits[0, -1]


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_those_of_the_stock_image_processor(family):
    _, processor = family(0)
    images = noise(3)
    expected = processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
    assert torch.equal(pixel_values(processor, torch.from_numpy(images)).reshape(expected.shape), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_images_encoded_once_and_combined_give_the_logits_of_the_plain_call(family, layout):
    model, processor = family(1)
    asked = prompt(layout)
    places = sum(part["type"] == "image" for part in asked.messages()[0]["content"])
    images = noise(places)
    expected = [stock(model, processor, asked, order) for order in (images, images[::-1])]
    batch_attention(model)
    features = encode_images(model, pixel_values(processor, torch.from_numpy(images)))
    ids = token_ids(processor, asked, [16] * places)
    assert torch.equal(ids, expected[0][0])
    seen = [torch.stack([features[place], features[-1 - place]]) for place in range(places)]
    got = answer_logits(model, ids, seen)[:, -1]
    for row, (_, logits) in zip(got, expected, strict=True):
        assert (row - logits).abs().max() <= 1e-5
    assert (got[0] - got[1]).abs().max() > 1e-3  # so the comparison could have failed


@torch.inference_mode()
def test_qwen_takes_images_of_different_sizes_in_one_question():
    model, processor = mini_qwen(2)
    small, large = noise(1, 56)[0], noise(1, 112)[0]
    ids, expected = stock(model, processor, prompt(), [small, large])
    features = [encode_images(model, pixel_values(processor, torch.from_numpy(one)[None])) for one in (small, large)]
    assert torch.equal(token_ids(processor, prompt(), [4, 16]), ids)
    assert (answer_logits(model, ids, features)[0, -1] - expected).abs().max() <= 1e-5


@torch.inference_mode()
def test_batched_vision_attention_equals_the_stock_loop_also_with_uneven_windows():
    config = copy.deepcopy(mini_qwen(0)[0].config)
    config.vision_config.fullatt_block_indexes = [3]
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    grid = torch.tensor([[1, 12, 12], [1, 20, 12]])  # windows of 8 x 8 patches do not divide them
    patches = torch.randn(int(grid.prod(1).sum()), 1176, generator=torch.Generator().manual_seed(0))
    before = torch.cat(model.get_image_features(patches, grid).pooler_output)
    after = torch.cat(batch_attention(model).get_image_features(patches, grid).pooler_output)
    assert (before - after).abs().max() < 1e-5
    assert before.std() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_plain_call_in_every_weight(family):
    model, processor = family(3)
    model.set_attn_implementation("eager")
    images = noise(2)
    stock(model, processor, prompt(), images)[1].log_softmax(-1)[7].backward()
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    features = encode_images(batch_attention(model), pixel_values(processor, torch.from_numpy(images)))
    logits = answer_logits(model, token_ids(processor, prompt(), [16, 16]), [features[:1], features[1:]])
    logits[0, -1].log_softmax(-1)[7].backward()
    used = 0
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == (expected[name] is None), name
        if weight.grad is not None:
            assert torch.allclose(weight.grad, expected[name], rtol=1e-3, atol=1e-5), name
            used += bool(weight.grad.abs().max() > 0)
    assert used > 0.95 * len(expected)


@torch.inference_mode()
def test_logits_at_the_answer_and_before_it_for_training_the_end_token():
    model, processor = mini_internvl(4)
    ids = token_ids(processor, prompt(), [16, 16])
    features = encode_images(model, pixel_values(processor, torch.from_numpy(noise(2))))
    seen = [features[:1], features[1:]]
    answered = torch.cat([ids, torch.tensor(processor.tokenizer.convert_tokens_to_ids(["A"]))])
    both = answer_logits(model, answered, seen, keep=2)
    assert both.shape[:2] == (1, 2)
    assert torch.allclose(both[:, :1], answer_logits(model, ids, seen), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_word_is_an_error(family, monkeypatch):
    _, processor = family(0)
    monkeypatch.setitem(WORDINGS, "new", ("Which sofa?", "Which sofa?"))
    with pytest.raises(BadInput, match="montage/new"):
        token_ids(processor, prompt(wording="new"), [16, 16])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_mini_judge_is_an_ordinary_folder_under_8_mb(family, tmp_path):
    model, processor = family(5)
    save_mini(tmp_path, model, processor)
    assert next(model.parameters()).dtype == torch.float32  # training goes on
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8e6
    settings = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*config.json")}
    assert settings["config.json"]["architectures"] == [type(model).__name__]
    assert settings["config.json"]["dtype"] == "bfloat16"
    stock_name = {"qwen2_5_vl": "Qwen2_5_VLProcessor", "internvl": "InternVLProcessor"}[model.config.model_type]
    assert settings["processor_config.json"]["processor_class"] == stock_name
    loaded = load_processor(str(tmp_path), model.config.model_type)
    for choice in product(LAYOUTS, WORDINGS, (False, True)):
        asked = prompt(*choice)
        places = [16] * sum(part["type"] == "image" for part in asked.messages()[0]["content"])
        assert torch.equal(token_ids(loaded, asked, places), token_ids(processor, asked, places))


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (mini_qwen(seed)[0].lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
