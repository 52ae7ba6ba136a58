"""`./run_all.sh --plan`: what a run would do, what it lacks, and what it costs, without a model being loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from lib.errors import BadInput
from lib.judges.prompts import prompt
from lib.profiles import Profile
from lib.study import inventory
from lib.study.cells import Cell, choose_cells, choose_sweep
from lib.study.failures import MODES
from lib.study.flops import measured_rate
from lib.study.inventory import Model
from lib.study.prices import Prices, StudySize
from lib.study.steps import Step, count
from lib.study.subjects import CLEAN

UTILIZATION = 0.4  # of a large matrix product's rate that whole models reach, about
ASSUMED = 100e12  # operations a second where the GPU is not here: a third of an A100's peak in bfloat16
STUDY = {"04", "05", "06"}  # notebooks that adapt the generator
JUDGING = {"01", "02", "03", "07"}  # notebooks that judge other objects, too
SAMPLING = {"01", "02", "03"}  # of those, the ones that look at the generator's samples
UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}


def print_plan(settings: Profile, notebooks: Sequence[Path], overrides: Mapping, size: StudySize | None = None) -> bool:
    """Prints the plan of notebooks on a profile; true where nothing is missing.

    overrides: parameters given with -p; tflops is the sustained rate of the machine, in 10^12 operations a second.
    size: of the adaptation study, by default the profile's with the cells that the overrides choose. Raises BadInput
    for an unknown layout, coverage or cell, and a rate that is none.
    """
    numbers = [path.name.split("_")[0] for path in notebooks]
    size = size or study_size(settings, overrides)
    models, samplers = needed_models(settings, numbers, overrides)
    prices = Prices({model.role: model for model in models}, samplers)
    steps = count(numbers, settings, overrides, prices, size)
    memory = inventory.memory(models, asked(numbers, overrides))
    rate, how = throughput(memory > 0, overrides.get("tflops"))
    download, kept = sum(model.download for model in models), sum(step.kept for step in steps)
    print(f"Plan of profile {settings.name}, at most: what is on record is not done again.\n")
    print(table(steps, rate))
    print(f"\nTime at {rate / 1e12:.3g} TFLOP/s, {how}. Counted are the models' products and convolutions;")
    print("rendering, meshes, start and reading from disk come on top.")
    print(f"\nDisk: {size_of(download)} to download, {size_of(kept)} of results and cache.")
    print(f"GPU memory: {size_of(memory)}, with one model there at a time." if memory else "No GPU is needed.")
    for model in models:
        print(f"  {model.role:<14}{model.name}" + (" (on a server)" if model.name.startswith(inventory.SERVED) else ""))
    problems = [model.problem for model in models]
    problems += [
        inventory.data(settings, overrides.get("meshes") or settings.data_dir, objects(numbers, settings, size))
    ]
    problems += [inventory.gpu(memory), *inventory.disk(download, kept)]
    problems = [problem for problem in problems if problem]
    print("\nNothing is missing." if not problems else f"\nMissing ({len(problems)}):")
    for problem in problems:
        print(f"  {problem.what}\n    {problem.remedy}")
    return not problems


def study_size(settings: Profile, overrides: Mapping) -> StudySize:
    """What notebooks 04 to 06 make of a profile and their parameters coverage, method, severity and stage."""
    coverage, method = overrides.get("coverage") or "paper", overrides.get("method")
    cells = choose_cells(coverage)
    if method is not None:
        cells = [Cell(method, overrides.get("severity") or CLEAN, overrides.get("stage") or "")]
    return StudySize(
        settings.layout, settings.n_evaluated, settings.n_train, settings.train_steps, cells, choose_sweep(coverage)
    )


def needed_models(settings: Profile, numbers: Sequence[str], overrides: Mapping) -> tuple[list[Model], Mapping]:
    """The models that the notebooks open, and the settings of the generator's samplers."""
    models, samplers = inventory.generator(settings.generator) if {*numbers} & {*STUDY, *SAMPLING} else ([], {})
    if (STUDY | JUDGING) & set(numbers):
        names = {"judge X": settings.judge_x, "judge Y": settings.judge_y}
        models += [inventory.judge(role, name, 2 * settings.tile) for role, name in names.items()]
    if "07" in numbers:
        models += inventory.clip(models[-2], overrides.get("clip"))
    return models, samplers


def asked(numbers: Sequence[str], overrides: Mapping) -> list:
    """The prompts that the notebooks use."""
    layouts = {side for mode in MODES for side in (mode.warned, mode.fixed)} if "01" in numbers else set()
    return [prompt(layout) for layout in sorted(layouts | {overrides.get("layout") or "montage"})]


def throughput(needs_gpu: bool, tflops: float | None) -> tuple[float, str]:
    """Operations a second, and where the number is from: given, measured here, or assumed where the GPU is not here."""
    if tflops is not None:
        if not isinstance(tflops, int | float) or tflops <= 0:
            raise BadInput("-p tflops", f"{tflops!r} is no rate", "Give 10^12 operations a second, such as 200")
        return tflops * 1e12, "as given"
    if needs_gpu and not torch.cuda.is_available():
        return ASSUMED, "assumed, for there is no GPU here (-p tflops NUMBER gives another)"
    where = "here" if torch.cuda.is_available() else "here on one core"
    return UTILIZATION * measured_rate(), f"{UTILIZATION:.0%} of a matrix product measured {where}"


def objects(numbers: Sequence[str], settings: Profile, size: StudySize) -> int:
    """How many objects the notebooks look at, those that are trained on included."""
    judged = settings.n_judged if JUDGING & set(numbers) else 0
    return max(judged, size.n_eval + size.n_train) if STUDY & set(numbers) else judged


def table(steps: Sequence[Step], rate: float) -> str:
    """One line a step and the total; nothing is printed for a count of zero, and "?" where a model is unknown."""
    frame = pd.DataFrame(map(asdict, steps)).drop(columns="kept")
    total = frame.select_dtypes("number").sum(skipna=False).drop("objects")
    frame = pd.concat([frame, pd.DataFrame([{"notebook": "", "step": "together", "objects": 0, **total}])])
    longest = frame.operations.max() / rate
    unit = next((unit for unit, seconds in UNITS.items() if longest >= 2 * seconds), "seconds")
    frame["TFLOP"] = frame.operations / 1e12
    frame[unit] = frame.pop("operations") / rate / UNITS[unit]
    for column in frame.columns.drop(["notebook", "step"]):
        frame[column] = frame[column].map(_text)
    align = ["left", "left", *["right"] * (frame.shape[1] - 2)]
    return frame.to_markdown(index=False, tablefmt="simple", disable_numparse=True, colalign=align)


def _text(value: float) -> str:
    """Three digits, and no fewer than the whole number."""
    if pd.isna(value):
        return "?"
    return "" if not value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size_of(count: float) -> str:
    """Bytes for reading."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
