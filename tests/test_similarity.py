"""The image-similarity proxy: what it compares, and the encoders that it may use."""

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.judges.mini import Size, mini_internvl, mini_qwen, save_mini
from lib.judges.vlm import VLMJudge
from lib.study.similarity import Clip, Tower, choose_encoder, rig_views, similarity

CPU = torch.device("cpu")


class MeanColor:
    """Three numbers an image: similarities can be worked out by hand."""

    name = "mean color"

    def __call__(self, pictures):
        return torch.tensor(np.stack([picture.mean((0, 1)) for picture in pictures]))


def plain(*colors):
    return np.stack([np.full((4, 4, 3), color, np.uint8) for color in colors])


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges") / "small_x"
    save_mini(folder, *mini_qwen(0, Size(hidden=32, vision_layers=1, text_layers=1, heads=2, mlp=64)))
    return VLMJudge(folder)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, text = small | {"image_size": 32, "patch_size": 16}, small | {"vocab_size": 50}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_it_is_the_mean_cosine_over_the_views_of_each_candidate():
    photo = plain((200, 0, 0))[0]
    same, half = plain((90, 0, 0), (90, 0, 0)), plain((90, 0, 0), (0, 90, 0))
    diagonal = plain((90, 90, 0), (90, 90, 0))
    assert similarity(MeanColor(), photo, np.stack([same, half, diagonal])) == pytest.approx([1, 0.5, 0.5**0.5])


def test_the_views_are_the_companions_rig_on_white():
    mesh = furniture("test", 0).mesh
    views = rig_views(mesh, 32)
    assert views.shape == (24, 32, 32, 3)
    assert views.dtype == np.uint8
    assert (views[:, 0, 0] == 255).all()
    assert len({view.tobytes() for view in views}) == 24


@pytest.mark.parametrize("build", [mini_qwen, mini_internvl])
def test_a_judges_tower_tells_images_apart_whatever_their_size_and_company(build, tmp_path):
    save_mini(tmp_path / "some", *build(0, Size(hidden=32, vision_layers=1, text_layers=1, heads=2, mlp=64)))
    tower = Tower(VLMJudge(tmp_path / "some"))
    pictures = list(np.random.default_rng(0).integers(0, 255, (3, 120, 120, 3), np.uint8))
    with torch.inference_mode():
        together, alone = tower(pictures), tower(pictures[1:2])
    assert together.shape == (3, 32)
    assert tower.name == "some tower"
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_clip_gives_the_features_of_transformers_own_call(clip_folder):
    pictures = list(np.random.default_rng(0).integers(0, 255, (2, 48, 48, 3), np.uint8))
    encoder = Clip(str(clip_folder), CPU)
    model = CLIPModel.from_pretrained(clip_folder)
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        torch.testing.assert_close(encoder(pictures), model.get_image_features(pixels).pooler_output)
    assert encoder.name == f"CLIP {clip_folder}"


def test_a_miniature_judge_lends_its_tower_and_a_named_model_goes_first(judge, clip_folder, monkeypatch):
    assert choose_encoder(None, judge).name == "small_x tower"
    assert isinstance(choose_encoder(str(clip_folder), judge), Clip)
    monkeypatch.setattr("lib.study.similarity.SMALL", 1)  # as if the judge were of full size
    monkeypatch.setattr("lib.study.similarity.CLIP", str(clip_folder))
    assert choose_encoder(None, judge).name == f"CLIP {clip_folder}"


def test_what_is_no_clip_model_is_refused(judge, tmp_path):
    save_mini(tmp_path / "qwen", *mini_qwen(0, Size(hidden=32, vision_layers=1, text_layers=1, heads=2, mlp=64)))
    with pytest.raises(BadInput, match="qwen2_5_vl"):
        Clip(str(tmp_path / "qwen"), CPU)
    with pytest.raises(BadInput, match="no CLIP model"):
        Clip(str(tmp_path / "nothing"), CPU)
