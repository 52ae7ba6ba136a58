"""`--plan`: what is printed, and what is missing by name."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from hub_folders import INTERNVL, QWEN, TRELLIS, write_future, write_models
from tiny_folder import write_pipeline
from transformers import AutoConfig

from lib.errors import BadInput
from lib.judges.prompts import LAYOUTS, prompt
from lib.profiles import ROOT, load_profile
from lib.study import inventory
from lib.study.inventory import KNOWN, Model
from lib.study.plan import print_plan
from lib.study.similarity import CLIP
from lib.trellis.tiny import tiny_pipeline

PAPER = load_profile("paper")
SERIES = [Path(f"{number}_notebook.ipynb") for number in ("00", "01", "02", "03", "04", "05", "06", "07")]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A machine without a GPU and with an empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A hub cache with all models of the profile `paper`, narrow."""
    cache = tmp_path_factory.mktemp("hub")
    write_models(cache)
    return cache


def plan(capsys, settings=PAPER, notebooks=SERIES, size=None, **overrides) -> tuple[bool, str]:
    ready = print_plan(settings, notebooks, overrides, size)
    return ready, capsys.readouterr().out


def row(text: str, number: str, step: str) -> list[str]:
    """The numbers of a line of the table, without thousands' commas."""
    (line,) = (line for line in text.splitlines() if re.match(rf"{number} +{re.escape(step)}  ", line))
    return line.replace(",", "").split(step)[1].split()


def test_the_plan_follows_the_parameters_of_04(empty, capsys):
    _, text = plan(capsys, notebooks=SERIES[4:5], method="sft_clean", severity="severe")
    assert row(text, "04", "training")[:2] == ["100", "1"]
    with pytest.raises(BadInput, match="no method 'ppo'"):
        plan(capsys, notebooks=SERIES[4:5], method="ppo")


def test_what_is_missing_is_named_with_what_to_type(empty, capsys):
    ready, text = plan(capsys)
    assert not ready
    for name in (TRELLIS, "facebook/dinov2-with-registers-large", QWEN, INTERNVL, CLIP):
        assert f"\n  {name}" in text
        assert f"\n    hf download {name}" in text
    assert "\n  3D-FUTURE-model: is not a folder\n    Unpack 3D-FUTURE-model.zip" in text
    assert "\n  no GPU that torch can use\n    Use a GPU of " in text
    assert "at 100 TFLOP/s, assumed" in text
    assert "37.1 GB to download" in text  # 16.6 and 15.9, 4.0 with the image encoder, 0.6


def test_nothing_is_missing_where_all_is_there(empty, published, capsys, tmp_path):
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    write_future(tmp_path / "3D-FUTURE-model", 3)
    settings = load_profile("paper", n_judged=2, n_evaluated=1, n_train=2, data_dir=str(tmp_path / "3D-FUTURE-model"))
    ready, text = plan(capsys, settings)
    assert ready, text
    assert "Nothing is missing." in text
    assert "No GPU is needed." in text  # the folders say how small they are
    (tmp_path / f"models--{QWEN.replace('/', '--')}/snapshots").rename(tmp_path / "gone")
    ready, text = plan(capsys, settings)
    assert not ready
    assert f"hf download {QWEN}" in text
    assert f"hf download {INTERNVL}" not in text


def test_a_shard_a_network_and_objects_that_lack_are_named(empty, published, capsys, tmp_path):
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    write_future(tmp_path / "data", 3)
    next(tmp_path.glob("models--OpenGVLab*/snapshots/*/model-00002-of-00008.safetensors")).unlink()
    next(tmp_path.glob("models--microsoft*/snapshots/*/ckpts/ss_dec_conv3d_16l8_fp16.safetensors")).unlink()
    _, text = plan(capsys, load_profile("paper", data_dir=str(tmp_path / "data")))
    assert f"{INTERNVL}: not downloaded (model-00002-of-00008.safetensors)" in text
    assert f"{TRELLIS}: not downloaded (ckpts/ss_dec_conv3d_16l8_fp16.safetensors)" in text
    assert "3 objects, 200 are needed" in text


def test_a_served_judge_is_neither_downloaded_nor_computed(empty, capsys):
    served = load_profile("paper", judge_y="http://localhost:8000/v1#model")
    _, here = plan(capsys, notebooks=SERIES[:4])
    _, there = plan(capsys, served, SERIES[:4])
    assert INTERNVL in here
    assert INTERNVL not in there
    assert "(on a server)" in there
    ours, less = (row(text, "02", "controls") for text in (here, there))
    assert ours[:2] == less[:2]
    assert float(less[-1]) < float(ours[-1])


def test_hours_follow_from_the_rate_that_is_given(empty, capsys):
    slow, fast = (plan(capsys, notebooks=SERIES[5:6], tflops=rate)[1] for rate in (20, 40))
    hours = [float(row(text, "05", "evaluation")[-1]) for text in (slow, fast)]
    assert hours[0] == pytest.approx(2 * hours[1], rel=0.01)
    assert "at 40 TFLOP/s, as given" in fast
    with pytest.raises(BadInput, match="'fast' is no rate"):
        plan(capsys, notebooks=SERIES[5:6], tflops="fast")


def test_the_default_profile_is_planned_at_the_rate_of_this_machine(empty, capsys, monkeypatch):
    monkeypatch.setattr("lib.study.plan.measured_rate", lambda: 1e10)
    settings = load_profile("mini", generator=str(write_pipeline(tiny_pipeline(), empty / "generator")))
    ready, text = plan(capsys, settings, SERIES[:4])
    assert ready, text
    assert "0.004 TFLOP/s" in text
    assert "No GPU is needed." in text
    tera, seconds = map(float, row(text, "02", "controls")[-2:])
    assert seconds * (60 if "minutes" in text else 1) == pytest.approx(tera / 0.004, rel=0.02)


def test_notebooks_that_ask_no_model_need_nothing(empty, capsys):
    ready, text = plan(capsys, notebooks=[Path("00_published_numbers.ipynb"), Path("A1_train.ipynb")])
    assert ready, text
    assert "not estimated" in text


def test_a_model_nobody_knows_is_a_question_mark_and_not_a_zero(empty, capsys):
    _, text = plan(capsys, load_profile("paper", judge_x="someone/judge"), SERIES[:4])
    assert row(text, "02", "controls")[-2:] == ["?", "?"]
    assert "hf download someone/judge" in text


def test_a_folder_that_is_no_judge_is_named(empty, capsys, tmp_path):
    config = AutoConfig.for_model("bert", hidden_size=8, num_attention_heads=1, intermediate_size=8)
    config.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert/model.safetensors").touch()
    _, text = plan(capsys, load_profile("mini", judge_x=str(tmp_path / "bert")), SERIES[:4])
    assert "bert: no vision-language model of transformers" in text


def test_a_generator_in_a_folder_of_its_own_is_planned(empty, capsys, tmp_path):
    write_pipeline(tiny_pipeline(), tmp_path)
    ready, text = plan(capsys, load_profile("mini", generator=str(tmp_path)), SERIES[4:5], tflops=0.01)
    assert ready, text
    assert float(row(text, "04", "evaluation")[-1]) > 0
    (tmp_path / "ckpts/dinov2/model.safetensors").unlink()
    (tmp_path / "ckpts/slat_flow_model.safetensors").unlink()
    _, text = plan(capsys, load_profile("mini", generator=str(tmp_path)), SERIES[4:5], tflops=0.01)
    assert "lacks ckpts/slat_flow_model.safetensors\n    Correct the path" in text
    assert "ckpts/dinov2: the folder lacks model.safetensors" in text


def test_too_little_disk_is_named_with_the_place(empty, monkeypatch):
    usage = type("Usage", (), {"free": 5e9})
    monkeypatch.setattr(inventory.shutil, "disk_usage", lambda place: usage)
    first, second = inventory.disk(6_000_000_000, 7_000_000_000)
    assert first.what == f"5.0 GB free in {empty}, 6.0 GB are needed"
    assert "HF_HOME" in first.remedy
    assert second.what == f"5.0 GB free in {ROOT}, 7.0 GB are needed"
    assert inventory.disk(4_000_000_000, 0) == []


def test_a_gpu_that_is_too_small_is_named(monkeypatch):
    models = [inventory.judge("judge X", QWEN, 1024), Model("served", "http://host/v1#m", None, None)]
    needed = inventory.memory(models, [prompt()])
    assert 8.29 * 2 < needed / 1e9 < 30
    assert inventory.memory(models, [prompt("seven_images")]) > needed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for size, fits in ((16e9, False), (24e9, True)):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _, size=size: type("GPU", (), {"total_memory": size})
        )
        assert (inventory.gpu(needed) is None) == fits


def test_24_gb_are_enough_for_every_model_and_layout_of_the_profile_paper():
    names = {"judge X": PAPER.judge_x, "judge Y": PAPER.judge_y}
    judges = [inventory.judge(role, name, 2 * PAPER.tile) for role, name in names.items()]
    generators = inventory.generator(PAPER.generator)[0]
    alone = [inventory.memory([model], map(prompt, LAYOUTS)) for model in (*judges, generators[0])]
    together = inventory.memory(judges + generators, list(map(prompt, LAYOUTS)))
    assert max(alone) <= together < 23e9  # a gigabyte for what torch itself takes
    assert judges[0].cost.bytes + judges[1].cost.bytes > 24e9


def test_what_is_known_of_the_published_models_is_complete():
    assert {PAPER.generator, PAPER.judge_x, PAPER.judge_y, "facebook/dinov2-with-registers-large"} == set(KNOWN)
