"""A kernel starts one notebook early, has its notebook's imports, and ends whatever happens."""

import nbformat
import psutil
import pytest

from lib import kernels
from lib.profiles import ROOT

CODE = [
    "number = 1  # a parameter",
    "import json, os.path\nfrom lib.errors import (\n    BadInput,\n)\n\nx = 1\ndef f():\n    import sys",
]


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"0{number}_a.ipynb" for number in range(3)]
    for path in found:
        cells = [nbformat.v4.new_markdown_cell("import nothing"), *map(nbformat.v4.new_code_cell, CODE)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return found


@pytest.fixture
def said(monkeypatch):
    """What happens to kernels, as (what, number); none is started."""
    said = []

    class Recorded:
        def __init__(self, code):
            self.code, self.number = code, sum(what == "start" for what, _ in said)
            said.append(("start", self.number))

        def stop(self):
            said.append(("stop", self.number))

    monkeypatch.setattr(kernels, "Kernel", Recorded)
    return said


def test_imports_are_those_of_the_cells_each_in_one_line(paths):
    assert kernels.imports(paths[0]) == ["import json, os.path", "from lib.errors import BadInput"]
    assert "from lib.profiles import load_profile" in kernels.imports(ROOT / "notebooks/04_adaptation.ipynb")


def test_the_next_kernel_starts_before_the_notebook_and_its_own_ends_after_it(paths, said):
    for path, kernel in kernels.kernels(paths, ["first"]):
        assert path == paths[kernel.number]
        assert kernel.code == ["first", *kernels.imports(path)]
        said.append(("run", kernel.number))
    assert said == [
        *[("start", 0), ("start", 1), ("run", 0), ("stop", 0)],
        *[("start", 2), ("run", 1), ("stop", 1)],
        *[("run", 2), ("stop", 2)],
    ]


def test_without_starting_ahead_there_is_one_at_a_time(paths, said):
    for _, kernel in kernels.kernels(paths, ahead=False):
        said.append(("run", kernel.number))
    assert said == [(what, number) for number in range(3) for what in ("start", "run", "stop")]


def test_all_end_where_a_notebook_fails(paths, said):
    ready = kernels.kernels(paths)
    next(ready)
    ready.close()
    assert said == [("start", 0), ("start", 1), ("stop", 0), ("stop", 1)]


def test_a_real_kernel_ends_and_may_be_stopped_twice():
    kernel = kernels.Kernel(["import json"])
    (process,) = [child for child in psutil.Process().children() if child.pid == kernel.manager.provisioner.pid]
    kernel.stop()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    kernel.stop()
