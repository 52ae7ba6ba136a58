import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessorPil,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from lib.errors import BadInput
from lib.judges import engines, prompts
from lib.judges.candidates import Candidate, Pair, Question
from lib.judges.mini import TEMPLATE, mini_internvl, mini_qwen, save_mini
from lib.judges.models import choose_dtype, family
from lib.judges.processors import load_processor
from lib.judges.prompts import LAYOUTS, prompt
from lib.judges.vlm import VLMJudge, label_ids

ENCODE = engines.encode_images
MAKERS = {"qwen": mini_qwen, "internvl": mini_internvl}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    for name, make in MAKERS.items():
        save_mini(root / name, *make(seed=0), dtype=torch.float32)
    return root


@pytest.fixture(scope="module", params=list(MAKERS))
def judge(request, folders):
    return VLMJudge(folders / request.param)


def candidates(count, layouts=("montage",), seed=0, size=112):
    rng = np.random.default_rng(seed)
    return [
        Candidate(
            "chair",
            {
                name: [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(LAYOUTS[name].count)]
                for name in layouts
            },
        )
        for _ in range(count)
    ]


def questions(shown, layout="montage", photo=None):
    pairs = [Pair(a, b, photo) for place, a in enumerate(shown) for b in shown[place + 1 :]]
    return [Question(pair, LAYOUTS[layout], order) for pair in pairs for order in ("ab", "ba")]


def plain(judge, question, asked):
    """Softmax over the whole vocabulary by the stock call on one question."""
    images = [Image.fromarray(picture.pixels) for picture in question.pictures]
    (turn,) = asked.messages()
    content = [part | {"image": images.pop(0)} if part["type"] == "image" else part for part in turn["content"]]
    inputs = judge.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        return judge.model(**inputs).logits[0, -1].double().softmax(-1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_probabilities_and_mass_are_those_of_the_plain_call(judge, layout):
    photo = Image.new("RGBA", (90, 60), (200, 30, 30, 128))
    asker = judge.asking(layout)
    asked = questions(candidates(2, [layout]), layout, photo)
    labels = judge.processor.tokenizer.convert_tokens_to_ids(["A", "B"])
    for question, answer in zip(asked, asker.ask(asked), strict=True):
        expected = plain(judge, question, asker.prompts[0])[labels]
        assert answer.mass == pytest.approx(expected.sum().item(), abs=2e-6)
        assert answer.p == pytest.approx((expected / expected.sum()).tolist(), abs=2e-6)
        assert sum(answer.p) == pytest.approx(1, abs=2e-6)


def test_swapping_the_order_is_swapping_the_candidates(judge):
    a, b = candidates(2, seed=1)
    swapped = judge.ask([Question(Pair(a, b), LAYOUTS["montage"], "ba")])[0].p
    assert swapped == judge.ask([Question(Pair(b, a), LAYOUTS["montage"], "ab")])[0].p
    assert swapped != judge.ask([Question(Pair(a, b), LAYOUTS["montage"], "ab")])[0].p


def test_each_image_is_encoded_once_for_all_orders_pairs_and_layouts(folders, monkeypatch):
    judge = VLMJudge(folders / "qwen", batch=4)
    encoded = []

    def counted(model, pixels):
        encoded.append(len(pixels))
        return ENCODE(model, pixels)

    monkeypatch.setattr(engines, "encode_images", counted)
    shown = candidates(4, ["montage"])
    for candidate in shown:
        candidate.images["splat"] = candidate.images["montage"]
    asked = questions(shown)
    for start in range(0, len(asked), 4):
        judge.ask(asked[start : start + 4])
    judge.asking("splat").ask(questions(shown, "splat"))
    assert len(judge.engine.features) == 4
    assert len(encoded) == 2  # the first four questions show three candidates, later ones the fourth


@torch.inference_mode()
def test_an_answer_has_the_same_bits_whatever_is_asked_with_it(judge):
    rows = [question.pictures for question in questions(candidates(4, seed=2))]
    together = torch.zeros(len(rows), judge.model.config.text_config.vocab_size)
    for indices, logits in judge.engine.logits(prompt(), rows):
        together[indices] = logits
    for row, expected in zip(rows, together, strict=True):
        judge.engine.features.clear()
        ((_, alone),) = judge.engine.logits(prompt(), [row])
        assert torch.equal(alone[0], expected)


def test_batch_size_changes_rounding_at_most_and_is_on_record(folders):
    asked = questions(candidates(3, seed=3))
    one, many = (VLMJudge(folders / "qwen", batch=batch) for batch in (1, 16))
    for first, second in zip(one.ask(asked), many.ask(asked), strict=True):
        assert first.p == pytest.approx(second.p, abs=2e-6)
    assert (one.settings["batch"], many.settings["batch"]) == (1, 16)


def test_features_stay_within_their_memory_and_answers_stay_right(folders):
    judge, asked = VLMJudge(folders / "internvl", batch=2), questions(candidates(4, seed=4))
    expected = [answer.p for answer in judge.ask(asked)]
    judge.engine = engines.EncodeOnce(judge.model, judge.processor, 2, memory=3 * 16 * 128 * 4)
    assert [judge.ask([question])[0].p for question in asked] == expected
    assert len(judge.engine.features) == 3
    assert judge.engine.kept == sum(one.nbytes for one in judge.engine.features.values())


def test_settings_are_plain_values_that_tell_everything_but_where_the_folder_lies(judge, folders):
    text = json.dumps(judge.settings)
    assert str(folders) not in text
    settings = json.loads(text)
    assert settings["model"] == settings["family"]
    assert (settings["dtype"], settings["device"], settings["batch"]) == ("float32", "cpu", 16)
    assert settings["prompts"] == [{"id": "montage/better", "digest": prompt().digest, "text": str(prompt())}]
    size = settings["processor"]["image_processor"]["size"]
    assert size in ({"shortest_edge": 784, "longest_edge": 12544}, {"height": 112, "width": 112})
    assert settings["processor"]["overrides"].get("crop_to_patches", False) is False


def test_other_weights_or_other_settings_are_other_settings(folders, tmp_path):
    base = VLMJudge(folders / "qwen").settings
    save_mini(tmp_path / "qwen", *mini_qwen(seed=1), dtype=torch.float32)
    assert VLMJudge(tmp_path / "qwen").settings["weights"] != base["weights"]
    shutil.copytree(folders / "qwen", tmp_path / "copy" / "qwen")
    assert VLMJudge(tmp_path / "copy" / "qwen").settings == base
    assert VLMJudge(folders / "qwen", max_pixels=56 * 56).settings["processor"] != base["processor"]
    assert VLMJudge(folders / "qwen", dtype="bfloat16").settings["dtype"] == "bfloat16"


def test_a_hub_id_is_read_from_the_cache_and_its_commit_recorded(folders, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--judge"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(folders / "internvl", repository / "blobs")
    snapshot.mkdir(parents=True)
    for blob in (repository / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    identity = VLMJudge("someone/judge").identity
    assert (identity["model"], identity["revision"], identity["weights"]) == ("someone/judge", commit, None)
    with pytest.raises(BadInput, match="someone/else"):
        VLMJudge("someone/else")


def as_published(folder, target, settings):
    """The folder with the files that the published repositories have: no processor_config, a legacy chat template."""
    shutil.copytree(folder, target)
    (target / "processor_config.json").unlink()
    (target / "preprocessor_config.json").write_text(json.dumps(settings))
    template = (target / "chat_template.jinja").read_text()
    (target / "chat_template.jinja").unlink()
    (target / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return str(target)


def test_published_qwen_files_load_and_large_images_stay_under_the_pixel_limit(folders, tmp_path):
    settings = {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }
    folder = as_published(folders / "qwen", tmp_path / "qwen", settings)
    grids = [
        load_processor(folder, "qwen2_5_vl", **limit).image_processor([np.zeros((1400, 1400, 3), np.uint8)])
        for limit in ({}, {"max_pixels": 448 * 448})
    ]
    tokens = [int(np.prod(grid["image_grid_thw"]) / 4) for grid in grids]
    assert 1100 < tokens[0] <= 1280
    assert tokens[1] == 16 * 16
    a, b = candidates(2, size=300)
    assert VLMJudge(folder, max_pixels=448 * 448).ask(questions([a, b]))[0].mass > 0


def test_published_internvl_files_load_and_an_image_is_one_tile_unless_more_are_asked_for(folders, tmp_path):
    settings = {
        "crop_to_patches": True,
        "max_patches": 12,
        "min_patches": 1,
        "size": {"height": 112, "width": 112},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "processor_class": "InternVLProcessor",
    }
    folder = as_published(folders / "internvl", tmp_path / "internvl", settings)
    (tmp_path / "internvl" / "processor_config.json").write_text(
        json.dumps({"image_seq_length": 16, "processor_class": "InternVLProcessor"})
    )
    shown = candidates(2, size=224)
    for tiles, tokens in ((1, 16), (4, 5 * 16)):
        judge = VLMJudge(folder, tiles=tiles)
        answer = judge.ask(questions(shown))[0]
        assert {len(feature) for feature in judge.engine.features.values()} == {tokens}
        expected = plain(judge, questions(shown)[0], prompt())[judge.labels[0]]
        assert answer.p == pytest.approx((expected / expected.sum()).tolist(), abs=2e-6)


def test_several_wordings_are_averaged(judge):
    asked = questions(candidates(2, seed=5))
    singles = [judge.asking(wordings=(wording,)).ask(asked)[0] for wording in ("better", "faults", "choose")]
    mixed = judge.asking(wordings=("better", "faults", "choose"))
    assert mixed.ask(asked)[0].p == pytest.approx(np.mean([one.p for one in singles], 0), abs=2e-6)
    assert len({one.p for one in singles}) == 3
    assert [one["id"] for one in mixed.settings["prompts"]] == ["montage/better", "montage/faults", "montage/choose"]


def test_a_tie_label_adds_a_third_probability(judge):
    (answer, _) = judge.asking(tie=True).ask(questions(candidates(2, seed=6)))
    assert len(answer.p) == 3
    assert sum(answer.p) == pytest.approx(1, abs=2e-6)
    assert judge.asking(tie=True).settings["prompts"][0]["id"] == "montage/better/tie"


def test_a_label_that_is_not_one_token_is_refused_before_any_question(folders, monkeypatch):
    monkeypatch.setattr(prompts, "LABELS", ("A", "better B"))
    with pytest.raises(BadInput, match="'better B' as one token"):
        VLMJudge(folders / "qwen")


@pytest.mark.parametrize("labels", [("A", "A"), ("A", "unheard"), ("A", "")])
def test_labels_must_differ_and_be_known(judge, labels):
    with pytest.raises(BadInput, match="one token"):
        label_ids(judge.processor, dataclasses.replace(prompt(), labels=labels))


def test_what_is_no_judge_is_refused_with_its_name(tmp_path, folders):
    with pytest.raises(BadInput, match="no/such/folder"):
        VLMJudge("no/such/folder")
    LlamaForCausalLM(LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                 vocab_size=16)).save_pretrained(tmp_path / "text")  # fmt: skip
    with pytest.raises(BadInput, match="text"):
        VLMJudge(tmp_path / "text")
    shutil.copytree(folders / "qwen", tmp_path / "bare")
    (tmp_path / "bare" / "processor_config.json").unlink()
    with pytest.raises(BadInput, match="processor"):
        VLMJudge(tmp_path / "bare")
    with pytest.raises(BadInput, match="batch"):
        VLMJudge(folders / "qwen", batch=0)


def test_broken_or_incomplete_weights_are_refused_not_filled_with_random_numbers(tmp_path, folders):
    shutil.copytree(folders / "qwen", tmp_path / "judge")
    weights = tmp_path / "judge" / "model.safetensors"
    tensors = load_file(weights)
    del tensors[next(name for name in tensors if name.endswith("merger.mlp.2.weight"))]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lack .*merger\.mlp\.2\.weight"):
        VLMJudge(tmp_path / "judge")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BadInput, match="judge"):
        VLMJudge(tmp_path / "judge")


def test_an_unknown_dtype_and_a_missing_gpu_are_named(folders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="bf16"):
        VLMJudge(folders / "qwen", dtype="bf16")
    with pytest.raises(BadInput, match="no GPU"):
        VLMJudge(folders / "qwen", device="cuda")


@pytest.fixture
def llava(tmp_path):
    torch.manual_seed(0)
    _, processor = mini_internvl(0)
    tokenizer = processor.tokenizer
    image = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **text},
        vision_config={"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, **text},
        image_token_index=image,
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=56),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>"),
        image_token="<IMG_CONTEXT>",
        num_additional_image_tokens=1,
    ).save_pretrained(tmp_path)
    return tmp_path


def test_another_chat_model_answers_by_its_own_processor_and_call(llava):
    judge = VLMJudge(llava, batch=4)
    asked = questions(candidates(3, seed=7))
    answers = judge.ask(asked)
    assert judge.family == "llava"
    assert judge.settings["processor"]["image_processor"]["crop_size"] == {"height": 56, "width": 56}
    for question, answer in zip(asked, answers, strict=True):
        expected = plain(judge, question, prompt())
        assert answer.mass == pytest.approx(expected[judge.labels[0]].sum().item(), abs=2e-6)
        assert answer.p[0] == pytest.approx((expected[judge.labels[0][0]] / answer.mass).item(), abs=2e-4)
    assert len({answer.p for answer in answers}) == len(answers)


def test_small_models_stay_in_float32_and_large_ones_do_not(folders):
    config = mini_qwen(0)[0].config
    assert choose_dtype(config, torch.device("cuda")) == torch.float32
    config.text_config.intermediate_size = 200_000
    assert choose_dtype(config, torch.device("cuda")) == torch.bfloat16


def test_versions_of_one_lineage_are_one_family():
    assert family("qwen2_5_vl") == family("qwen3_vl") == "qwen"
    assert family("internvl") == "internvl"
