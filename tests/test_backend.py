"""Maps on a Ray cluster of two workers on this machine; without the package ray only its absence is tested."""

import os
import signal
import socket
import sys
import time
from contextlib import nullcontext
from functools import partial
from importlib.machinery import ModuleSpec
from itertools import combinations
from types import ModuleType, SimpleNamespace

import nbformat
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import get_active_backend
from tiny_study import write_generator

from lib import profiles, runner
from lib.backend import RayBackend, use_ray
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.generator import loading
from lib.generator.examine import SMALL
from lib.judges.candidates import Candidate, Pair
from lib.judges.cluster import ClusterJudge
from lib.judges.open import open_judge
from lib.judges.protocol import judge_pairs
from lib.profiles import load_profile
from lib.study import drawing, samples
from lib.study.records import Records
from lib.study.samples import Request, Sampler
from lib.study.subjects import subjects


@pytest.fixture(scope="module")
def cluster():
    """Two workers, and this process connected."""
    ray = pytest.importorskip("ray", reason="needs requirements-ray.txt")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local", num_cpus=2, num_gpus=0, log_to_driver=False, logging_level="ERROR", include_dashboard=False
    )
    with parallel_config(backend=RayBackend()):
        yield ray
    ray.shutdown()


def mapped(function, jobs):
    """As the library maps."""
    return list(Parallel(-1, return_as="generator")(delayed(function)(*job) for job in jobs))


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match=r"ray is not installed.*pip install -r .*requirements-ray\.txt"):
        runner.main(["01", "--profile", "smoke", "--backend", "ray"])
    with pytest.raises(BadInput, match="ray is not installed"):
        use_ray()
    assert (profiles.ROOT / "requirements-ray.txt").read_text().count("ray==") == 1


def test_an_address_where_nothing_answers_is_named_before_anything_runs(monkeypatch):
    ray = ModuleType("ray")
    ray.__spec__ = ModuleSpec("ray", None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(SystemExit, match=f"RAY_ADDRESS: there is no Ray cluster at '{address}'"):
            runner.main(["01", "--profile", "smoke", "--backend", "ray"])


def test_where_ray_finds_no_cluster_the_map_says_so(monkeypatch):
    def init(**_):
        raise ConnectionError("nobody there")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with parallel_config(backend=RayBackend()), pytest.raises(BadInput, match=r"RAY_ADDRESS.*auto"):
        mapped(abs, [(1,), (2,)])


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
    files = {path.name: path for path in (sampler.settings.cache_dir / "drawn").glob("*.npz")}
    return lines, files


def test_samples_equal_those_of_a_serial_run_though_a_worker_is_killed(cluster, tmp_path, monkeypatch):
    folder, mark = write_generator(tmp_path / "generator"), tmp_path / "killed"
    given = subjects([furniture("test", index) for index in range(3)], 64, 5)
    requests = [Request(one, seed, **SMALL) for one in given for seed in (1, 2)]
    made = {}
    for name in ("serial", "cluster"):
        monkeypatch.setattr(profiles, "ROOT", tmp_path / name)
        sampler = Sampler(load_profile("smoke", generator=str(folder)), workers=1)
        if name == "serial":
            with parallel_config(backend="sequential"):
                sampler.measured(requests)
        else:
            monkeypatch.setattr(samples, "draw", partial(draw_or_die, mark, given[1].item.id))
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
    assert len(set(told)) == 2, "no worker counts more loads after another job"


def wait(place, mark):
    """The first takes a while, the last as long as there is no mark (a minute at most)."""
    time.sleep(0.5 if place == 0 else 0)
    deadline = time.monotonic() + 60
    while place == 5 and not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return place, mark.exists()


def test_results_come_in_order_and_the_first_before_the_last_is_made(cluster, tmp_path):
    mark = tmp_path / "first is here"
    results = Parallel(-1, return_as="generator")(delayed(wait)(place, mark) for place in range(6))
    assert next(results) == (0, False)
    mark.touch()
    assert [place for place, _ in results] == [1, 2, 3, 4, 5]


def test_an_error_is_the_one_of_a_serial_run_and_the_next_map_goes_on(cluster):
    def refuse(place):
        if place == 3:
            raise BadInput("object", "it is the third", "Take another")
        return place

    with pytest.raises(BadInput) as failed:
        mapped(refuse, [(place,) for place in range(40)])
    assert (failed.value.source, failed.value.problem) == ("object", "it is the third")
    assert mapped(refuse, [(0,), (1,), (2,)]) == [0, 1, 2]


def test_questions_on_a_cluster_are_answered_as_here(cluster, tmp_path):
    rng, answers = np.random.default_rng(0), {}
    looks = rng.integers(0, 255, (7, 112, 112, 3), np.uint8)
    given = [Candidate("chair", {"montage": [look]}, {"place": place}) for place, look in enumerate(looks)]
    asked = [Pair(a, b) for a, b in combinations(given, 2)]
    for name in ("sequential", "cluster"):
        with parallel_config(backend="sequential") if name == "sequential" else nullcontext():
            judge = open_judge("weights/mini/judge_y")
            records = Records(tmp_path / f"{name}.jsonl")
            judge_pairs(judge.asking("montage", ("better", "faults")), asked, records)
            answers[name] = {key: (one["p"], one["mass"], one["pick"]) for key, one in records.answers.items()}
    assert type(judge) is ClusterJudge
    assert judge.engine.features == {}, "no picture was encoded here"
    assert len(answers["cluster"]) == 2 * len(asked)
    assert answers["cluster"] == answers["sequential"]


NOTEBOOK = """
from joblib import Parallel, delayed
def where():
    import ray
    return ray.get_runtime_context().get_worker_id()
found = Parallel(-1, return_as="generator")(delayed(where)() for _ in range(4))
print(len(set(found) - {where()}) > 0)
"""


def test_the_maps_of_a_notebook_reach_the_cluster_at_the_address(cluster, tmp_path, monkeypatch):
    get_active_backend()[0].abort_everything()  # leaves the workers to the notebook
    for place in ("lib.runner.ROOT", "lib.profiles.ROOT"):
        monkeypatch.setattr(place, tmp_path)
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setenv("RAY_ADDRESS", cluster.get_runtime_context().gcs_address)
    cells = [nbformat.v4.new_code_cell('profile = "mini"', metadata={"tags": ["parameters"]})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(NOTEBOOK)], metadata=kernel)
    runner.NOTEBOOKS.mkdir()
    nbformat.write(book, runner.NOTEBOOKS / "00_first.ipynb")
    runner.main(["00", "--profile", "smoke", "--backend", "ray"])
    done = nbformat.read(load_profile("smoke").executed_dir / "00_first.ipynb", 4)
    assert done.cells[-1].outputs[-1].text == "True\n"
