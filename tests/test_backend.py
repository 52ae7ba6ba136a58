"""Maps on a Ray cluster of two workers on this machine; without the package ray only its absence is tested."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from tiny_study import write_generator

from lib import profiles, runner
from lib.backend import RayBackend, use_ray
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.generator import loading
from lib.profiles import load_profile
from lib.study import drawing, samples
from lib.study.records import Records
from lib.study.samples import SMALL, Request, Sampler
from lib.study.subjects import subjects


@pytest.fixture(scope="module")
def cluster():
    """Two workers, and this process connected."""
    ray = pytest.importorskip("ray", reason="needs requirements-ray.txt")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, num_gpus=0, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    with parallel_config(backend=RayBackend()):
        yield ray
    ray.shutdown()


def mapped(function, jobs):
    return list(Parallel(-1, return_as="generator")(delayed(function)(*job) for job in jobs))


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match=r"ray is not installed.*pip install -r .*requirements-ray\.txt"):
        runner.main(["01", "--profile", "smoke", "--backend", "ray"])
    with pytest.raises(BadInput, match="ray is not installed"):
        use_ray()
    assert (profiles.ROOT / "requirements-ray.txt").read_text().count("ray==") == 1


def loads(folder, weights):
    """This worker, and how often it has loaded a generator."""
    time.sleep(0.1)  # or one worker might do all
    loading.generator(folder, weights, "cpu")
    return os.getpid(), loading._loaded.cache_info().misses


def draw_or_die(mark, killed, *job):
    """As `draw`; whoever comes to this object first is killed."""
    if job[2].id == killed and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return drawing.draw(*job)


def taken(sampler):
    """What is on record of samples but how long they took, and the arrays kept of them."""
    answers = Records(sampler.records.path).answers
    lines = {
        key: {k: v for k, v in one.items() if k not in ("seconds", "when", "session")} for key, one in answers.items()
    }
    files = {path.name: path for path in (sampler.settings.cache_dir / "samples").glob("*.npz")}
    return lines, files


def test_samples_equal_those_of_a_serial_run_though_a_worker_is_killed(cluster, tmp_path, monkeypatch):
    folder, mark = write_generator(tmp_path / "generator"), tmp_path / "killed"
    given = subjects([furniture("test", index) for index in range(5)], 64, 5)
    requests = [Request(one, seed, **SMALL) for one in given for seed in (1, 2)]
    made = {}
    for name in ("serial", "cluster"):
        monkeypatch.setattr(profiles, "ROOT", tmp_path / name)
        sampler = Sampler(load_profile("smoke", generator=str(folder)), workers=1)
        if name == "serial":
            with parallel_config(backend="sequential"):
                sampler.measured(requests)
        else:
            monkeypatch.setattr(samples, "draw", Mortal(mark, given[2].item.id))
            sampler.measured(requests)
        made[name] = taken(sampler)
    (lines, files), (ours, our_files) = made.values()
    assert int(mark.read_text()) != os.getpid(), "a worker drew, and died of it"
    assert len(lines) == len(requests)
    assert ours == lines
    assert our_files.keys() == files.keys()
    for name, path in files.items():
        with np.load(path) as kept, np.load(our_files[name]) as other:
            assert all(np.array_equal(kept[array], other[array]) for array in kept.files)


def test_a_worker_loads_a_model_once(cluster, tmp_path):
    folder = write_generator(tmp_path / "generator")
    told = mapped(loads, [(folder, loading.folder_digest(folder))] * 8)
    assert len({pid for pid, _ in told} - {os.getpid()}) == 2
    before, after = (dict(part) for part in (told[::-1], told))
    assert before == after, "of each worker the first job counts as many loads as the last"


def slow_first(place):
    time.sleep(0.5 if place == 0 else 0)
    return place


def test_results_come_in_order_and_before_the_last_is_made(cluster, tmp_path):
    assert mapped(slow_first, [(place,) for place in range(6)]) == list(range(6))


def refuse(place):
    if place == 3:
        raise BadInput("object", "it is the third", "Take another")
    return place


def test_an_error_is_the_one_of_a_serial_run_and_the_next_map_goes_on(cluster):
    with pytest.raises(BadInput) as failed:
        mapped(refuse, [(place,) for place in range(40)])
    assert (failed.value.source, failed.value.problem) == ("object", "it is the third")
    assert mapped(refuse, [(0,), (1,), (2,)]) == [0, 1, 2]
