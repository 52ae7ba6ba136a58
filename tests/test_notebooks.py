"""Every notebook: stored clean, of one form, and running from end to end on the profile `smoke`."""

import hashlib
import re
import subprocess
import sys

import nbformat
import pytest
from papermill import inspect_notebook

from lib import runner
from lib.profiles import ROOT, load_profile

NOTEBOOKS = list(runner.notebooks().values())
HEADINGS = ["Question", "Parameters", "Run", "Table", "Figure", "Reading"]


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {"00_published_numbers", "01_protocol"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestForm:
    def cells(self, path, kind="code"):
        return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]

    def test_is_stored_without_outputs_or_traces_of_a_run(self, path):
        assert all(not cell.outputs and cell.execution_count is None for cell in self.cells(path))
        assert all(cell.source.strip() for cell in self.cells(path))
        keys = {key for kind in ("code", "markdown") for cell in self.cells(path, kind) for key in cell.metadata}
        assert keys <= {"tags"}
        metadata = nbformat.read(path, as_version=4).metadata
        assert "papermill" not in metadata
        assert metadata.kernelspec.name == "python3"

    def test_has_one_commented_parameters_cell_that_begins_with_the_profile(self, path):
        (parameters,) = (cell for cell in self.cells(path) if "parameters" in cell.metadata.get("tags", []))
        lines = parameters.source.splitlines()
        assert lines[0].startswith('profile = "mini"')
        assert all(re.fullmatch(r"\w+ = .+  # .+", line) for line in lines)
        understood = inspect_notebook(str(path))  # it passes over a line that it cannot parse
        assert list(understood) == [line.split()[0] for line in lines]
        assert all(parameter["help"] for parameter in understood.values())

    def test_has_the_house_headings_and_keeps_functions_in_lib(self, path):
        text = "\n".join(cell.source for cell in self.cells(path, "markdown"))
        assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
        code = [cell.source for cell in self.cells(path)]
        assert len(code) <= 12
        assert not re.search(r"^\s*(def|class) |^\s*!", "\n".join(code), re.M)


def products(settings):
    """SHA-256 of every table and figure by name."""
    files = [path for folder in (settings.tables_dir, settings.figures_dir) for path in sorted(folder.iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_series_runs_on_smoke_from_any_folder(tmp_path):
    """Through the runner, as run_all.sh calls it; once more from the records where most is drawn and computed.

    Appended notebooks (A1, ...) have tests of their own."""
    smoke = load_profile("smoke")
    command = [sys.executable, "-m", "lib.runner", "--profile", "smoke"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-3000:]
    made = products(smoke)
    assert {name[:2] for name in made} >= {"00", "01", "02", "03", "07"}
    again = subprocess.run([*command, "04", "07", "08"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert [name for name, digest in products(smoke).items() if made.get(name) != digest] == []
