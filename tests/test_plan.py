"""`--plan`: counts against what was recorded and asked, operations against a counter, what is missing by name."""

import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_folders import INTERNVL, QWEN, TRELLIS, write_future, write_models
from tiny_folder import write_pipeline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from lib.errors import BadInput
from lib.judges.candidates import Candidate, Picture
from lib.judges.forward import answer_logits, encode_images, token_ids
from lib.judges.known import Known
from lib.judges.prompts import LAYOUTS, prompt
from lib.judges.vlm import VLMJudge
from lib.profiles import ROOT, load_profile
from lib.study import flops, generated, inventory, pairs
from lib.study.cells import Cell, choose_cells, choose_sweep
from lib.study.inventory import KNOWN, Model
from lib.study.pairs import Controls
from lib.study.plan import print_plan
from lib.study.prices import Prices, StudySize
from lib.study.records import Records
from lib.study.similarity import CLIP
from lib.study.steps import CONTROL_PAIRS, GENERATED, count
from lib.study.subjects import Subject
from lib.trellis.checkpoints import build_model
from lib.trellis.tiny import tiny_pipeline

MINI, PAPER = load_profile("mini"), load_profile("paper")
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


@cache
def prices(settings) -> Prices:
    """Of the profile's judges and the published generator."""
    names = {"judge X": settings.judge_x, "judge Y": settings.judge_y}
    judges = {role: inventory.judge(role, name, 2 * settings.tile) for role, name in names.items()}
    models, samplers = inventory.generator(PAPER.generator)
    return Prices(judges | {"generator": models[0]}, samplers)


def steps(numbers, settings=MINI, size=None, **overrides):
    return count(numbers, settings, overrides, prices(settings), size or of(choose_cells("paper")))


def of(cells, steps=150) -> StudySize:
    return StudySize("montage", 10, 20, steps, cells, choose_sweep("paper"))


# --- counts ---------------------------------------------------------------------------------------------------------


def test_the_plan_counts_the_questions_that_the_committed_run_asked():
    asked = {"01": "01_protocol", "02": "controls", "07": "07_proxies"}
    for number, name in asked.items():
        recorded = len(Records(ROOT / f"results/mini/records/{name}.jsonl").answers)
        planned = sum(step.questions for step in steps([number]) if step.step != GENERATED)
        assert 0.95 * planned <= recorded <= planned, name


def test_an_object_has_as_many_control_pairs_as_the_study_makes_of_it():
    first, twins = pairs.plan([0])
    intact, *graded = (Known(Candidate("chair", {}), error) for error in (0.0, *np.linspace(0.1, 0.6, len(first))))
    made = Controls(None, intact, graded, [(graded[place], graded[place]) for place, _ in twins])
    assert len(pairs.cases([made])) == CONTROL_PAIRS


def test_03_asks_nothing_after_02_and_as_much_as_its_controls_alone():
    alone, again = steps(["03"])
    first, samples, _, after = steps(["02", "03"])
    assert (after.questions, after.operations, after.kept) == (0, 0, 0)
    assert (alone.questions, alone.operations) == (first.questions, first.operations)
    assert (again.samples, 2 * again.questions) == (samples.samples, samples.questions)  # one layout of two


def test_02_draws_the_samples_of_its_pairs_once():
    compared = generated.compared(Subject(None, (0, 0), 64), 0)
    _, made, _ = steps(["02"])
    assert made.samples == MINI.n_evaluated * len({request for pair in compared.values() for request in pair})
    assert made.questions == MINI.n_evaluated * 2 * 2 * 2 * len(compared)  # orders, judges, layouts


def test_overrides_of_profile_and_notebooks_change_the_counts():
    halved = load_profile("mini", n_judged=40)
    assert 2 * steps(["02"], halved)[0].questions == steps(["02"])[0].questions
    assert steps(["02"], n_options=12)[2].questions * 2 == steps(["02"], n_options=24)[2].questions
    assert steps(["03"], layout="seven_images")[0].operations > 2 * steps(["03"])[0].operations
    with pytest.raises(BadInput, match="no layout 'five'"):
        steps(["03"], layout="five")


def test_the_study_is_counted_from_its_cells():
    cells = [Cell("dpo_0.1"), Cell("sft_clean", "severe"), Cell("conditioner_repair", "severe")]
    examples, training, evaluation = steps(["04"], size=of(cells))
    assert (examples.samples, examples.questions) == (2 * 20 + 20, 2 * 20)  # a pair an object, and a clean sample
    assert training.trainings == 3
    with_photo = steps(["04"], size=replace(of(cells), layout="montage_ref"))
    assert with_photo[0].operations > examples.operations
    assert with_photo[2].operations > evaluation.operations
    # three adapted; base and other seed of two regimes; clear gap, no gap, one headroom
    assert evaluation.samples == 10 * (3 + 2 * 2)
    assert evaluation.questions == 2 * 10 * (3 + 2 + 3)


def test_best_of_k_trains_nothing_and_asks_the_training_judge():
    examples, training, evaluation = steps(["04"], size=of([Cell("best_of_k")]))
    assert (examples.samples, training.trainings, training.operations) == (0, 0, 0)
    assert evaluation.samples == 10 * (4 + 1)  # two of the four are the base and the other seed; a severe photo
    assert evaluation.questions == 2 * 10 * (1 + 2 + 6)


def test_full_coverage_and_more_steps_cost_more():
    paper, full = (steps(["04"], size=of(choose_cells(name))) for name in ("paper", "full"))
    assert [step.trainings for step in paper] == [0, 9, 0]
    assert all(more.operations > less.operations for more, less in zip(full, paper, strict=True))
    encoded = 20 * prices(MINI).encode()
    both, slat, structure = (
        steps(["04"], size=of([Cell("orpo", stage=stage)]))[1].operations - encoded
        for stage in ("both", "slat", "structure")
    )
    assert both == pytest.approx(slat + structure)
    longer = steps(["04"], size=of([Cell("orpo")], 300))[1].operations - encoded
    assert longer == pytest.approx(2 * slat)
    dpo, best = (steps(["04"], size=of([Cell(name)]))[1].operations - encoded for name in ("dpo_0.1", "sft_best"))
    assert dpo == pytest.approx(2.5 * best)  # two gradients and two answers of the base, against a gradient


def test_what_04_made_is_not_made_again_in_05_and_06():
    (nothing,) = (step for step in steps(["04", "05"]) if step.notebook == "05")
    assert (nothing.samples, nothing.questions, nothing.operations) == (0, 0, 0)
    later = {step.step: step for step in steps(["04", "06"]) if step.notebook == "06"}
    alone = {step.step: step for step in steps(["06"])}
    assert (later["training"].trainings, alone["training"].trainings) == (2, 8)  # the two of the structure
    assert later["training examples"].samples == 0
    assert later["saturation, locus"].samples == 10 * 2
    assert alone["wash-out"].samples - later["wash-out"].samples == 2  # another seed of every fifth object
    sweep = StudySize("montage", 10, 20, 150, choose_cells("paper"), choose_sweep("full"))
    assert sum(step.trainings for step in steps(["04", "05"], size=sweep) if step.notebook == "05") > 3


def test_pairs_made_while_a_flow_learns_are_drawn_and_asked():
    examples, training, _ = steps(["04"], size=of([Cell("dreamdpo")], 41))
    assert (examples.samples, examples.questions) == (20, 0)  # for the probe
    assert (training.samples, training.questions) == (3 * 2 * 16, 3 * 2 * 16)  # rounds of two samples of 16 photos


def test_the_plan_follows_the_parameters_of_04(empty, capsys):
    _, text = plan(capsys, notebooks=SERIES[4:5], method="sft_clean", severity="severe")
    assert row(text, "04", "training")[:2] == ["100", "1"]
    with pytest.raises(BadInput, match="no method 'ppo'"):
        plan(capsys, notebooks=SERIES[4:5], method="ppo")


# --- operations -----------------------------------------------------------------------------------------------------


def counted(function, *args) -> int:
    """By torch's counter, which does not see into the CPU's fused attention."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*args)
    return counter.get_total_flops()


def test_the_published_models_have_the_published_sizes_and_costs():
    models, samplers = inventory.generator(TRELLIS)
    cost = models[0].cost
    assert cost.structure == pytest.approx(2 * 2.61e12, rel=0.01)  # of upstream's module, counted
    assert cost.encode == pytest.approx(2 * 0.51e12, rel=0.01)
    published = 1130770840 + 147591972 + 1203755136 + 171450952 + 181903412  # bytes of the five files
    assert cost.bytes == pytest.approx(published + 4 * 304e6, rel=0.01)
    network = KNOWN[TRELLIS]["networks"]["slat_flow_model"]["args"]
    counted = {3700: 0.63, 6800: 1.20, 11700: 2.17}  # voxels of an object, multiply-adds in 10^12
    for voxels, tera in counted.items():
        assert flops._flow(network, (1374, 1024), voxels / flops.MERGED) == pytest.approx(2e12 * tera, rel=0.1)
        assert flops._mesh_convolutions(voxels, 768) == pytest.approx(2e12 * 0.45 * voxels / 6800, rel=0.1)
    assert [flops.sampler_calls(one) for one in samplers.values()] == [44, 44]
    assert flops.sampler_calls(samplers["slat_sampler"] | {"steps": 2, "cfg_strength": 0.0}) == 2
    sizes = {QWEN: 8.29e9, INTERNVL: 7.94e9}  # as the hub states them
    for name, parameters in sizes.items():
        assert inventory.judge("judge", name, 1024).cost.parameters == pytest.approx(parameters, rel=0.001)


def test_a_flow_an_encoder_and_a_decoder_cost_what_a_counter_sees():
    flow = {"resolution": 8, "in_channels": 4, "out_channels": 4, "model_channels": 128, "cond_channels": 64}
    flow |= {"num_blocks": 3, "num_heads": 2, "mlp_ratio": 4, "patch_size": 1}
    encoder = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 4}
    encoder |= {"image_size": 112, "patch_size": 14, "num_register_tokens": 4}
    decoder = {"out_channels": 1, "latent_channels": 4, "num_res_blocks": 2, "num_res_blocks_middle": 1}
    decoder |= {"channels": [16, 8]}
    x, t, cond = torch.zeros(1, 4, 8, 8, 8), torch.zeros(1), torch.zeros(1, 69, 64)
    model = build_model("SparseStructureFlowModel", flow)
    assert flops._flow(flow, (69, 64)) == pytest.approx(counted(model, x, t, cond), rel=0.05)
    vit = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**encoder))
    embedding = 2 * 64 * 64 * 3 * 14**2  # of the patches: left out, since it is much in a narrow network only
    wanted = counted(vit, torch.zeros(1, 3, 112, 112)) - embedding
    assert flops.blocks(69, 64, 3, 4) == pytest.approx(wanted, rel=0.01)
    model = build_model("SparseStructureDecoder", decoder)
    assert flops._grid_decoder(decoder, 8) == pytest.approx(counted(model, x), rel=0.01)


@pytest.mark.parametrize("name", ["judge_x", "judge_y"])
def test_a_judge_costs_what_a_counter_sees(name):
    judge = VLMJudge(ROOT / "weights/mini" / name)
    cost = inventory.judge("judge", f"weights/mini/{name}", 2 * MINI.tile).cost
    pixels = judge.engine._pixels([Picture(np.zeros((112, 112, 3), np.uint8))])
    features = encode_images(judge.model, pixels)
    assert cost.parameters == judge.model.num_parameters()
    assert cost.tokens == features.shape[1]
    assert cost.image == pytest.approx(counted(encode_images, judge.model, pixels), rel=0.1)
    ids = token_ids(judge.processor, prompt(), [cost.tokens] * 2)
    assert cost.length(prompt()) == pytest.approx(len(ids), abs=30)
    seen = counted(answer_logits, judge.model, ids, [features, features])
    assert cost.forward(len(ids)) == pytest.approx(seen, rel=0.1)


def test_a_large_image_is_counted_as_the_processor_would_resize_it():
    assert inventory.judge("judge", QWEN, 1024).cost.tokens == 35**2
    assert inventory.judge("judge", QWEN, 112).cost.tokens == 4**2
    assert inventory.judge("judge", INTERNVL, 1024).cost.tokens == 256


def test_the_measured_rate_is_a_rate():
    rates = [flops.measured_rate(seconds) for seconds in (0.02, 0.1)]
    assert all(1e8 < rate < 1e16 for rate in rates)


# --- what is printed ------------------------------------------------------------------------------------------------


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
