"""Executes the notebook series with papermill, or plans it: `python -m lib.runner [NUMBER ...] [-p NAME VALUE]`."""

import argparse
import ast
import logging
import os
import re
import sys
import time
from contextlib import closing
from pathlib import Path

from lib.backend import require_ray
from lib.errors import BadInput
from lib.kernels import Kernel, kernels
from lib.profiles import ROOT, Profile, load_profile, profile_names

NOTEBOOKS = ROOT / "notebooks"
SERIES = re.compile(r"0\d_")  # what a plain run executes; 10 wants the reader's meshes, A1 and A2 train for hours
STARTUP = {"local": [], "ray": ["from lib.backend import use_ray; use_ray()"]}  # first lines of a kernel, by backend


def notebooks() -> dict[str, Path]:
    """Every notebook by its number ("00", "A1"), in order."""
    return {path.name.split("_")[0]: path for path in sorted(NOTEBOOKS.glob("*_*.ipynb"))}


def select(numbers: list[str]) -> list[Path]:
    """The notebooks with these numbers or names, or the series where none is given. Raises BadInput."""
    known = notebooks()
    if not numbers:
        return [path for path in known.values() if SERIES.match(path.name)]
    for number in numbers:
        if number not in known and number not in {path.stem for path in known.values()}:
            raise BadInput("notebook", f"there is none called {number!r}", f"Use one of: {', '.join(known)}")
    return [path for number, path in known.items() if {number, path.stem} & set(numbers)]


def parse_value(text: str):
    """A Python literal where the text is one (true and false in any case), else the text itself."""
    try:
        return ast.literal_eval(text.capitalize() if text.lower() in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        return text


def assign(paths: list[Path], parameters: dict, profile: str) -> dict[Path, dict]:
    """Which parameters each notebook is given; papermill itself ignores a name it does not find.

    Raises BadInput where no notebook has a name, or a value is not of the type of the notebook's default or of the
    profile's setting.
    """
    from papermill import inspect_notebook

    if not parameters:
        return {path: {} for path in paths}
    tables = {path: inspect_notebook(str(path)) for path in paths}
    settings = load_profile(profile)
    for name, value in parameters.items():
        found = [table[name] for table in tables.values() if name in table]
        if not found:
            lines = {f"  {p['name']:<14}{p['help']}" for table in tables.values() for p in table.values()}
            raise BadInput(
                f"-p {name}",
                f"{', '.join(path.stem for path in paths)} has no such parameter",
                "It has:\n" + "\n".join(sorted(lines)),
            )
        if hasattr(settings, name):
            load_profile(profile, **{name: value})
        for parameter in found:
            default = parse_value(parameter["default"])
            if default is not None and type(value) not in {type(default), int if type(default) is float else None}:
                raise BadInput(
                    f"-p {name}", f"{value!r} is not of the default's type ({default!r})", "Correct the value"
                )
    return {path: {k: v for k, v in parameters.items() if k in table} for path, table in tables.items()}


def execute(path: Path, parameters: dict, profile: Profile, kernel: Kernel) -> None:
    """Runs one notebook; its executed copy appears whole, after success or failure, and never after Ctrl-C.

    After success the seconds, code and machine of one of the series go
    to provenance.json. Paths among the parameters are relative to the caller's folder. Raises SystemExit naming
    notebook and cell.
    """
    from papermill import PapermillExecutionError, execute_notebook

    from lib.study import provenance

    start = time.monotonic()
    target = profile.executed_dir / path.name
    partial = target.with_name(f".{path.stem}.{os.getpid()}.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        execute_notebook(
            str(path),
            str(partial),
            {"profile": profile.name, **parameters},
            kernel_name="python3",
            progress_bar={"desc": path.stem, "mininterval": 0.5 if sys.stderr.isatty() else 30},
            cwd=Path.cwd(),
            km=kernel.manager,
        )
    except PapermillExecutionError as error:
        os.replace(partial, target)
        line = error.source.strip().splitlines()[0]
        raise SystemExit(
            f"\n{path.stem} failed in cell [{error.exec_count}] ({line}):\n  {error.ename}: {error.evalue}\n"
            f"The executed copy with the full traceback: {target.relative_to(ROOT)}"
        ) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, target)
    if SERIES.match(path.name):
        provenance.record(path.stem, time.monotonic() - start, parameters, profile)


def show_plan(profile: Profile, paths: list[Path], parameters: dict, rate: dict) -> bool:
    """Prints what these notebooks would do with these parameters; true where nothing is missing."""
    from lib.study.plan import print_plan

    given = {name: value for name, value in parameters.items() if hasattr(profile, name)}
    return print_plan(load_profile(profile.name, **given), paths, parameters | rate)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="run_all.sh", description="Runs the notebook series, or the notebooks named.", epilog="Also: test, lab."
    )
    parser.add_argument("notebook", nargs="*", help=f"number or name: {', '.join(notebooks())}; default: the series")
    parser.add_argument("--profile", default="mini", help=f"{', '.join(profile_names())}; default: mini")
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument(
        "--backend", default="local", choices=STARTUP, help="ray: the cluster at RAY_ADDRESS or a local one"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print what would run, what is missing and what it costs (-p tflops: rate)"
    )
    options = parser.parse_args(arguments)
    logging.getLogger("papermill").setLevel(
        logging.ERROR
    )  # a kernel's harmless warnings would break the progress lines
    parameters = {name: parse_value(value) for name, value in options.parameters}
    rate = {"tflops": parameters.pop("tflops")} if options.plan and "tflops" in parameters else {}
    try:
        profile = load_profile(parameters.pop("profile", options.profile))
        if options.backend == "ray":
            require_ray()
        plan = assign(select(options.notebook), parameters, profile.name)
        if options.plan:
            raise SystemExit(not show_plan(profile, list(plan), parameters, rate))
    except BadInput as error:
        raise SystemExit(str(error)) from None
    start = time.monotonic()
    local = options.backend == "local"  # a Ray cluster belongs to one kernel at a time
    with closing(kernels(plan, STARTUP[options.backend], ahead=local)) as ready:
        for path, kernel in ready:
            execute(path, plan[path], profile, kernel)
    print(f"\n{len(plan)} notebooks in {time.monotonic() - start:.0f} s on profile {profile.name}")
    for title, folder in (
        ("tables", profile.tables_dir),
        ("figures", profile.figures_dir),
        ("executed notebooks", profile.executed_dir),
    ):
        print(f"  {title:<20}{folder.relative_to(ROOT)}/")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; nothing is half-written. The same command goes on from here.")
