"""Tables on disk: every table of a notebook as CSV (full precision) and Markdown (rounded for reading)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from lib.profiles import Profile


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: it takes the place of `path` when the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_table(frame: pd.DataFrame, name: str, settings: Profile, caption: str = "") -> pd.DataFrame:
    """Write `<tables_dir>/<name>.csv` and `.md` (with `caption` below the table), whole or not at all; return `frame`.

    The index is not written. The same frame gives the same bytes.
    """
    with replacing(settings.tables_dir / f"{name}.csv") as partial:
        # 12 digits: all that is meant, without the last bits in which machines differ
        frame.to_csv(partial, index=False, float_format="%.12g", lineterminator="\n")
    with replacing(settings.tables_dir / f"{name}.md") as partial:
        partial.write_text("\n\n".join([_markdown(frame), caption]).rstrip() + "\n", encoding="utf-8")
    return frame


def _markdown(frame: pd.DataFrame) -> str:
    align = ["right" if pd.api.types.is_numeric_dtype(kind) else "left" for kind in frame.dtypes]
    return frame.map(_rounded).to_markdown(index=False, disable_numparse=True, colalign=align)


def _rounded(value) -> str:
    """Three significant digits, and no fewer than the whole number; nothing where there is no value."""
    if not isinstance(value, float):
        return "" if value is None or value is pd.NA else str(value)
    if pd.isna(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
