import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("task", [["format", "--check"], ["check"]])
def test_ruff_is_content(task):
    result = subprocess.run([sys.executable, "-m", "ruff", *task, "."], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
