"""One model on the GPU at a time. There is no GPU here: what would move says where to."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from lib import placement
from lib.generator import loading
from lib.judges import models, vlm
from lib.judges.candidates import Candidate, Pair, Question
from lib.judges.prompts import LAYOUTS
from lib.placement import recomputed, resident
from lib.profiles import ROOT
from lib.study import online
from lib.trellis.tiny import tiny_pipeline

GPU, CPU = torch.device("cuda"), torch.device("cpu")


class Model(nn.Module):
    """Says where it was moved to."""

    place = "host"

    def to(self, device):
        self.place = str(device)
        return self


@pytest.fixture(autouse=True)
def nothing_there(monkeypatch):
    monkeypatch.setattr(placement, "_there", [])
    loading._loaded.cache_clear()
    yield
    loading._loaded.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_who_comes_drives_out_who_is_there():
    judge, flow, decoder = Model(), Model(), Model()
    places = []
    for arriving in ([judge], [flow, decoder], [flow, decoder], [judge], []):
        resident(GPU, *arriving)
        places.append((judge.place, flow.place, decoder.place))
    assert places == [
        ("cuda", "host", "host"),
        ("cpu", "cuda", "cuda"),
        ("cpu", "cuda", "cuda"),
        ("cuda", "cpu", "cpu"),
        ("cpu", "cpu", "cpu"),
    ]


def test_room_is_made_before_a_model_arrives():
    events = []

    class Watched(Model):
        def to(self, device):
            events.append((self.name, str(device)))

    first, second = Watched(), Watched()
    first.name, second.name = "first", "second"
    resident(GPU, first)
    resident(GPU, second)
    assert events == [("first", "cuda"), ("first", "cpu"), ("second", "cuda")]


def test_on_a_cpu_nothing_moves():
    model = Model()
    resident(CPU, model)
    assert (model.place, placement._there) == ("host", [])


@pytest.mark.parametrize(("device", "times"), [(CPU, 1), (GPU, 2)])
def test_a_gpu_computes_blocks_again_instead_of_keeping_them_and_the_gradient_is_the_same(device, times):
    flow = tiny_pipeline(0).models["sparse_structure_flow_model"].requires_grad_(True)
    noise = torch.randn(2, flow.in_channels, *[flow.resolution] * 3, generator=torch.Generator().manual_seed(0))
    cond, t = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([100.0, 700.0])
    seen, gradients = [], []
    hook = flow.blocks[0].mlp.register_forward_hook(lambda *_: seen.append(1))
    for blocks in ([], flow.blocks):
        with recomputed(blocks, device):
            flow.zero_grad()
            seen.clear()
            mse_loss(flow(noise, t, cond), noise).backward()
            gradients.append([p.grad.clone() for p in flow.parameters() if p.grad is not None])
    hook.remove()
    assert len(seen) == times
    assert all(map(torch.equal, *gradients))
    assert all("forward" not in vars(block) for block in flow.blocks)


def test_a_judge_waits_on_the_host_and_takes_the_gpu_when_it_is_asked(gpu, monkeypatch):
    judge = vlm.VLMJudge(ROOT / "weights/mini/judge_y")
    assert judge.model.device == CPU
    assert (judge.settings["device"], judge.device) == ("cuda", GPU)
    moved = []
    monkeypatch.setattr(vlm, "resident", lambda *given: moved.append(given))
    picture = torch.randint(256, (112, 112, 3), dtype=torch.uint8).numpy()
    candidate = Candidate("chair", {"montage": [picture]})
    judge.asking().ask([Question(Pair(candidate, candidate), LAYOUTS["montage"], "AB")])
    assert moved == [(GPU, judge.model)]


def test_a_large_model_is_asked_fewer_questions_at_a_time():
    assert models.batch_size(8_000_000_000) < models.batch_size(2_000_000) == 16
    assert vlm.VLMJudge(ROOT / "weights/mini/judge_x").settings["batch"] == 16


@pytest.fixture
def loads(monkeypatch):
    """What the generator is loaded with, and where the judge is by then."""
    judge, seen = Model(), []

    def load(folder, device, dtype):
        seen.append((judge.place, str(device), dtype))
        return SimpleNamespace(device=device, models={"flow": Model()}, conditioner=Model())

    monkeypatch.setattr(loading, "load_pipeline", load)
    resident(GPU, judge)
    return seen, judge


def test_the_generator_is_on_the_gpu_alone_and_in_bfloat16(gpu, loads, tmp_path):
    seen, judge = loads
    pipeline = loading.generator(tmp_path, "weights")
    assert seen == [("cpu", "cuda", torch.bfloat16)]
    assert pipeline.models["flow"].place == pipeline.conditioner.place == "cuda"
    resident(GPU, judge)
    assert pipeline.models["flow"].place == pipeline.conditioner.place == "cpu"
    assert loading.generator(tmp_path, "weights") is pipeline
    assert (pipeline.models["flow"].place, judge.place, len(seen)) == ("cuda", "cpu", 1)


def test_without_a_gpu_and_for_the_examination_the_generator_is_on_the_cpu_in_float32(loads, tmp_path, monkeypatch):
    seen, _ = loads
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loading.generator(tmp_path, "weights")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pipeline = loading.generator(tmp_path, "weights", "cpu")
    assert seen == [("cuda", "cpu", None)]  # once, and the judge stayed where it was
    assert pipeline.models["flow"].place == "host"


def test_a_flow_that_learns_online_is_back_on_the_gpu_after_the_judge(monkeypatch):
    events = []
    monkeypatch.setattr(online, "label", lambda *_: events.append("judge") or [])
    monkeypatch.setattr(online, "training_judge", lambda *_: None)
    monkeypatch.setattr(online, "alone", lambda pipeline: events.append(pipeline))
    loop = online.Loop("judge", "montage", "settings", ROOT / "nowhere.jsonl", 56, True)
    assert online.OnlinePairs("pipeline", [], "slat", "adapter", loop)(0) == []
    assert events == ["judge", "pipeline"]


def test_memory_that_is_free_goes_back_to_the_system():
    """In a fresh process: a hundred MB in pieces that the heap keeps, since the last of them is still in use."""
    code = (
        "import ctypes, psutil, numpy as np; from lib.placement import release_memory\n"
        "rss = psutil.Process().memory_info\n"
        "pieces = [np.ones(10_000) for _ in range(1_300)]; last = pieces.pop(); pieces.clear(); kept = rss().rss\n"
        "release_memory(); print(hasattr(ctypes.CDLL(None), 'malloc_trim'), (kept - rss().rss) / 1e6)"
    )
    has, freed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    if has != "True":
        pytest.skip("not glibc")
    assert float(freed) > 50


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ],
)
def test_training_computes_in_bfloat16_only_on_cpus_with_instructions_for_it(monkeypatch, instructions, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    with placement.mixed_precision(CPU):
        y = layer(x)
    assert y.dtype == expected
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_training_computes_in_bfloat16_on_every_gpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert placement.fast_bfloat16(GPU)
    assert not placement.fast_bfloat16(CPU)
