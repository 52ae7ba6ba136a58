"""The notebook runner on small notebooks of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from lib import runner
from lib.errors import BadInput
from lib.profiles import load_profile

PARAMETERS = 'profile = "mini"  # settings\nn = 3  # how many\nfolder = None  # where'


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A repository of two notebooks whose outputs go to tmp_path."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr("lib.profiles.ROOT", tmp_path)
    write(tmp_path, "00_first", "print(profile, n, folder)")
    write(tmp_path, "A1_train", "1 / (n - 3)")
    return tmp_path


def write(room, name, code):
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = room / "notebooks" / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def executed(room, name):
    return json.loads((room / "results/smoke/executed" / f"{name}.ipynb").read_text())


def test_parameters_and_profile_reach_the_notebook(room, capsys):
    runner.main(["00", "--profile", "smoke", "-p", "n", "7", "-p", "folder", "some/where"])
    assert executed(room, "00_first")["cells"][-1]["outputs"][0]["text"] == ["smoke 7 some/where\n"]
    assert "results/smoke/tables/" in capsys.readouterr().out


def test_the_series_leaves_out_the_training_notebooks(room):
    assert [path.stem for path in runner.select([])] == ["00_first"]
    assert [path.stem for path in runner.select(["A1", "00_first"])] == ["00_first", "A1_train"]


def test_a_plan_is_printed_and_nothing_runs(room, capsys):
    with pytest.raises(SystemExit) as stopped:
        runner.main(["--plan", "--profile", "smoke", "-p", "tflops", "0.5"])
    assert not stopped.value.code
    said = capsys.readouterr().out
    assert "Plan of profile smoke" in said
    assert "at 0.5 TFLOP/s, as given" in said
    assert not (room / "results").exists()


def test_a_plan_sees_the_parameters_as_the_notebooks_would_and_says_what_lacks(room, monkeypatch):
    seen = []
    monkeypatch.setattr("lib.study.plan.print_plan", lambda *given: seen.append(given))
    path = write(room, "02_third", "pass")
    path.write_text(path.read_text().replace("n = 3", "n_judged = None"))
    with pytest.raises(SystemExit) as stopped:
        runner.main(["02", "--plan", "-p", "n_judged", "20", "-p", "folder", "here"])
    assert stopped.value.code == 1
    ((settings, paths, overrides),) = seen
    assert (settings.name, settings.n_judged, paths) == ("mini", 20, [path])
    assert overrides == {"n_judged": 20, "folder": "here"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["00", "-p", "tflops", "3"], "no such parameter"),
        (["--plan", "-p", "tflops", "fast"], "'fast' is no rate"),
        (["07"], "Use one of: 00, A1"),
        (["--profile", "mimi"], "Use one of: mini, paper, paper_n8, smoke"),
        (["00", "-p", "m", "3"], r"no such parameter\. It has:(.|\n)*n +how many"),
        (["00", "-p", "n", "many"], "not of the default's type"),
    ],
)
def test_a_misspelt_name_stops_before_anything_runs_and_lists_what_exists(room, arguments, said):
    with pytest.raises(SystemExit, match=said):
        runner.main(arguments)
    assert not (room / "results").exists()


def test_a_profile_setting_is_checked_before_the_run(room):
    write(room, "02_third", "pass")
    path = room / "notebooks/02_third.ipynb"
    path.write_text(path.read_text().replace("n = 3  # how many", "n_objects = None  # how many"))
    with pytest.raises(BadInput, match="not of type int"):
        runner.assign([path], {"n_objects": "many"}, "smoke")


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("007", "007"), ("false", False), ("None", None), ("0.5", 0.5), ("a/b", "a/b")]
)
def test_values_are_python_literals_or_text(text, value):
    assert runner.parse_value(text) == value
    assert type(runner.parse_value(text)) is type(value)


def test_a_failure_names_notebook_and_cell_and_leaves_the_executed_copy(room):
    with pytest.raises(SystemExit, match=r"A1_train failed in cell \[\d\] \(1 / \(n - 3\)\)(.|\n)*ZeroDivisionError"):
        runner.main(["A1", "--profile", "smoke"])
    assert "ZeroDivisionError" in json.dumps(executed(room, "A1_train"))


def test_seconds_code_and_machine_of_each_notebook_of_the_series_are_kept_and_renewed(room):
    file = room / "results/smoke/provenance.json"
    write(room, "01_second", "import time; time.sleep(0.5)")
    runner.main(["00", "01", "--profile", "smoke", "-p", "n", "7"])
    first = json.loads(file.read_text())
    assert set(first) == {"00_first", "01_second"}
    assert first["01_second"]["seconds"] >= 0.5
    assert first["00_first"]["parameters"] == {"n": 7}
    assert {"code", "python", "torch", "machine", "cores", "memory_gb", "gpus"} <= set(first["00_first"])
    runner.main(["00", "A1", "--profile", "smoke", "-p", "n", "4"])
    again = json.loads(file.read_text())
    assert again["00_first"]["parameters"] == {"n": 4}
    assert again["01_second"] == first["01_second"]
    assert set(again) == set(first)
    write(room, "01_second", "1 / 0")
    with pytest.raises(SystemExit):
        runner.main(["01", "--profile", "smoke"])
    assert json.loads(file.read_text()) == again


def test_interrupt_leaves_nothing_half_written(room):
    write(room, "00_first", f"open({str(room / 'started')!r}, 'w').close()\nimport time; time.sleep(60)")
    code = (
        "import sys; from pathlib import Path; from lib import profiles, runner\n"
        f"runner.ROOT = profiles.ROOT = Path({str(room)!r}); runner.NOTEBOOKS = runner.ROOT / 'notebooks'\n"
        "runner.main(['00', '--profile', 'smoke'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (room / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert list(load_profile("smoke").executed_dir.iterdir()) == []
