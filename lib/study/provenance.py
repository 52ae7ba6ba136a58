"""Where a run's results come from: for each notebook the code, versions, machine and seconds of its last whole run."""

import json
import os
import subprocess
from pathlib import Path
from shutil import which

from lib.profiles import Profile
from lib.study.records import code_and_machine
from lib.study.tables import replacing


def path(settings: Profile) -> Path:
    return settings.tables_dir.parent / "provenance.json"


def read(settings: Profile) -> dict[str, dict]:
    """What is recorded, by notebook; nothing where no notebook was run."""
    file = path(settings)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def record(notebook: str, seconds: float, parameters: dict, settings: Profile) -> None:
    """Puts a notebook that ran to its end into `results/<profile>/provenance.json`, in place of an earlier run."""
    entry = {**code_and_machine(), **hardware(), "parameters": parameters, "seconds": round(seconds, 1)}
    runs = read(settings) | {notebook: entry}
    with replacing(path(settings)) as partial:
        partial.write_text(json.dumps(runs, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def hardware() -> dict:
    """cores, memory in GB, and the GPUs that nvidia-smi lists ("" for none); no name of the machine or its user."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = ""
    if which("nvidia-smi"):
        ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = ", ".join(subprocess.run(ask, capture_output=True, text=True).stdout.split("\n")).rstrip(", ")
    return {"cores": os.cpu_count(), "memory_gb": round(memory / 2**30), "gpus": gpus}
