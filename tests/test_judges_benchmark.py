import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lib.judges.mini import mini_internvl, mini_qwen, save_mini
from lib.judges.vlm import VLMJudge

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "judge.py"


@pytest.mark.parametrize("make", [mini_qwen, mini_internvl])
def test_our_judge_and_the_decision_pipeline_give_the_same_probabilities(make, tmp_path):
    spec = importlib.util.spec_from_file_location("judge_benchmark", PATH)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    save_mini(tmp_path, *make(seed=0))
    judge = VLMJudge(tmp_path, dtype="float32")
    pairs = benchmark.make_pairs(objects=1)
    ours = benchmark.ours(judge, pairs)
    peers = benchmark.peers(benchmark.peer(str(tmp_path), judge), pairs)
    assert len(ours) == 2 * len(pairs) == 12
    assert np.ptp(ours) > 1e-3
    assert np.abs(np.subtract(ours, peers)).max() < 1e-5
