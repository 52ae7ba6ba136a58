"""Kernels that are ready before their notebooks: one starts, and imports, while the notebook before it still runs.

Start and imports take as long as a notebook whose answers are all on record, and need one core.
"""

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync

OPTIONS = ["--IPKernelApp.log_level=ERROR"]  # it warns of unencrypted ports on this machine


class Kernel:
    """A running kernel; code: lines that it runs before anything else."""

    def __init__(self, code: Iterable[str] = ()):
        self.manager = AsyncKernelManager(kernel_name="python3")
        first = f"--IPKernelApp.exec_lines={[*code]!r}"
        run_sync(self.manager.start_kernel)(extra_arguments=[*OPTIONS, first])

    def stop(self):
        """Lets it end its own processes first; does nothing where it has ended."""
        if run_sync(self.manager.is_alive)():
            run_sync(self.manager.shutdown_kernel)()


def kernels(paths: Iterable[Path], code: Iterable[str] = (), ahead: bool = True) -> Iterator[tuple[Path, Kernel]]:
    """Each notebook with its kernel, which ends when the next is asked for, or the iteration is closed.

    code: what every kernel runs first. ahead: each starts one notebook early, and imports what its notebook imports.
    """
    waiting, running = list(paths), []
    try:
        while waiting:
            path = waiting.pop(0)
            if not running:
                running.append(Kernel([*code, *imports(path)]))
            if ahead and waiting:
                running.append(Kernel([*code, *imports(waiting[0])]))
            yield path, running[0]
            running.pop(0).stop()
    finally:
        for kernel in running:
            kernel.stop()


def imports(path: Path) -> list[str]:
    """The import statements of a notebook, each in one line."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    return [ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
