"""Records: what every table is computed from. Append-only JSON lines, safe under kill and several processes.

Two kinds of line. A constant, `{"id", "kind", "is"}`, is written once and referred to by its id: a judge's settings, a
candidate, a session (code and library versions). An answer, `{"key", ...}`, is one (pair, order); its key is a digest
of everything that can change it. A line cut short by a kill is cut off by the next writer and asked again.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from shutil import which

import pandas as pd
from filelock import FileLock

from lib.errors import BadInput


class Records:
    """The answers in one file, which need not exist yet. `key in records`, `records[key]` know what was last read.

    Raises BadInput for a file with a whole line that is not a record.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.answers: dict[str, dict] = {}
        self.constants: dict[str, dict] = {}
        self._waiting: dict[str, dict] = {}  # constants that no line in the file refers to yet
        self._read = 0  # bytes of whole lines
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.path}.lock")
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self.answers

    def __getitem__(self, key: str) -> dict:
        return self.answers[key]

    @staticmethod
    def key(*parts) -> str:
        """16 hex digits of JSON values."""
        return _digest(parts)

    def constant(self, kind: str, content: dict) -> str:
        """The id under which lines may refer to `content`; it is written along with the next answers."""
        name = _digest([kind, content])[:12]
        if name not in self.constants:
            self._waiting[name] = {"id": name, "kind": kind, "is": content}
        return name

    def refresh(self):
        """Reads what other processes have added. A last line without its end is left alone: it may be being written."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
        for line in whole[0].splitlines() if whole[1] else []:
            self._take(line)
        self._read += len(whole[0]) + len(whole[1])

    def _take(self, line: bytes):
        try:
            record = json.loads(line)
            if "key" in record:
                self.answers[record["key"]] = record
            else:
                self.constants[record["id"]] = record
        except (ValueError, KeyError, TypeError) as error:
            problem = f"holds a line that is no record: {line[:60]!r}"
            raise BadInput(self.path, problem, "Delete that line; what it held is asked again") from error

    def add(self, lines: Sequence[dict]) -> int:
        """Appends answers that the file does not hold yet, and the constants so far; returns how many were new."""
        session = self.constant("session", code_and_machine())
        with self._lock:
            self.refresh()
            new = [line for line in lines if line["key"] not in self.answers]
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            fresh = [content for name, content in self._waiting.items() if name not in self.constants]
            fresh += [line | {"session": session, "when": now} for line in new]
            text = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in fresh)
            with self.path.open("ab") as file:
                file.truncate(self._read)  # cuts off a line that a killed process left unfinished
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            self.refresh()
        self._waiting.clear()
        return len(new)

    def frame(self) -> pd.DataFrame:
        """One row per answer; judge, a, b and session are what their ids stand for, as dictionaries."""
        rows = []
        for answer in self.answers.values():
            named = {field: self.constants[answer[field]]["is"] for field in ("judge", "a", "b", "session")}
            rows.append({**answer, **named, "object": named["a"]["object"]})
        return pd.DataFrame(rows)


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_and_machine() -> dict:
    """Code and library versions, and the kind of machine: recorded, but no part of a key."""
    return {
        "code": _code(Path(__file__).parents[2]),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "numpy", "pillow")},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _code(root: Path) -> str:
    """The commit, with "-dirty" where what results are made by differs from it; results are written while it runs."""
    if not which("git"):
        return "unknown"
    commit, changed = (
        subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True).stdout.strip()
        for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "lib", "notebooks", "weights"])
    )
    return commit + "-dirty" * bool(changed) if commit else "unknown"
