"""What the report of a run says, from its tables and figures alone: what is there, what is missing, the headline."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.profiles import ROOT, Profile
from lib.study import labels
from lib.study.claims import HOLDS, OPEN
from lib.study.published import CHANCE, TARGET

TEXT = ("method", "regime", "severity", "stage", "kinds", "by", "printed")  # columns in which an empty cell is a text
MADE_BY = {"table1": "04", "table2": "05", "mechanism": "06", "claims": "09"}  # others begin with their notebook
OWN = "10"  # whoever runs it; no part of the study
NEEDED = (  # by the figures of notebook 08
    *("02_by_gap", "02_controls", "02_reliability", "02_brier", "03_flips", "table1", "table2", "mechanism"),
)
LIMITS = {
    "mini": (
        "On the profile mini everything is a miniature: two small judges and a small generator, trained in this "
        "repository on procedural furniture. A claim that holds here holds of them. It says that the protocol can show "
        "such a thing, and nothing about the judges and the generator of the papers; these need the profile paper.",
    ),
    "smoke": ("The profile smoke checks that everything runs. Its numbers mean nothing.",),
    "": (
        "The papers print neither prompts, degradation parameters, LoRA ranks, learning rates nor step counts. What "
        "stands for them here is this project's choice, so a claim that does not hold may fail because of a choice.",
        "The truth is distance to the object's own mesh. A sample that shows another, equally plausible back of what "
        "the photo hides counts as worse.",
        "A judge's win-rate is that judge's taste on the pairs that survive the swap. The gates show that it sees "
        "large damage; between an adapted sample and its base's the gap is usually smaller than what they test.",
        "One training run a method, one seed of its adapter. The intervals are over objects and do not hold what "
        "another training would have given; how far that may lie off, notebook 06 shows for one method.",
        "The rules of the claims about the protocol (notebooks 01 to 03 and 07) were written after their first tables.",
        "'Cannot tell' is no 'does not hold': it says that these objects do not decide it.",
    ),
}


@dataclass(frozen=True)
class Section:
    """What one notebook left: its name, tables as (name, frame, caption), and figures as PNG files."""

    title: str
    tables: list[tuple[str, pd.DataFrame, str]]
    figures: list[Path]


def read_tables(settings: Profile) -> dict[str, pd.DataFrame]:
    """Every table of the run but those of notebook 10, by name."""
    paths = sorted(settings.tables_dir.glob("*.csv"))
    return {path.stem: _read(path) for path in paths if not path.name.startswith(OWN)}


def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
    texts = frame.select_dtypes(exclude=["number", "bool"]).columns
    return frame.fillna(dict.fromkeys(texts, ""))


def sources(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables that the figures are drawn from: table, made by notebook, rows ("not made" where it is not there)."""
    rows = [(name, notebook_of(name), str(len(tables[name])) if name in tables else "not made") for name in NEEDED]
    return pd.DataFrame(rows, columns=["table", "made by notebook", "rows"])


def there(tables: Mapping[str, pd.DataFrame], *names: str) -> bool:
    """Whether all these tables are there; says which are not."""
    absent = [f"{name} (notebook {notebook_of(name)})" for name in names if name not in tables]
    if absent:
        print(f"Not drawn: {', '.join(absent)} not made yet")
    return not absent


def notebook_of(name: str) -> str:
    """The number of the notebook that makes a table or a figure."""
    first = name.split("_")[0]
    return MADE_BY.get(first, first)


def headline(tables: Mapping[str, pd.DataFrame], claims: pd.DataFrame) -> list[str]:
    """A few sentences, each with the numbers it speaks of, or saying that they are not there."""
    decided = claims[claims.verdict != OPEN]
    kept = (decided.verdict == HOLDS).sum()
    said = [
        f"Of {len(claims)} claims of the two papers {kept} hold here, {len(decided) - kept} do not, and "
        f"{len(claims) - len(decided)} cannot be told."
    ]
    if "table1" not in tables:
        return [*said, "No method was compared with its base yet: Table 1 is not made."]
    rows = tables["table1"]
    readable = rows[rows.interpretable]
    said.append(
        f"Of {len(rows)} rows of Table 1 {len(readable)} may be read, since the judge passed both controls; of these "
        f"{(readable.win_half_low > CHANCE).sum()} lie above {CHANCE:g} with their whole interval, a flip counting "
        f"half, {(readable.win_half_high < CHANCE).sum()} below it, and {(readable.win_half_low > TARGET).sum()} above "
        f"the target of {TARGET:g}."
    )
    truth, judged = (np.sign(rows[name] - CHANCE) for name in ("truth_win", "win_half"))
    said.append(f"Judge and truth lie on the same side of {CHANCE:g} in {(truth == judged).sum()} of {len(rows)} rows.")
    best = readable.sort_values("win_half").iloc[-1:]
    for _, row in best.iterrows():
        said.append(
            f"The highest of the rows that may be read is {labels.row(row)}: {row.win_half:.2f} "
            f"[{row.win_half_low:.2f}, {row.win_half_high:.2f}] by the judge, {row.truth_win:.2f} "
            f"[{row.truth_low:.2f}, {row.truth_high:.2f}] by the truth, n = {row.n}."
        )
    return said


def summary(table: pd.DataFrame) -> list[str]:
    """The paper's cells of Table 1 as lines of Markdown: what it printed, judge Y's win-rate here, and the truth's."""
    lines = ["| method, photos | paper | judge Y here, flips half | truth here | wins, losses, flips | may be read |"]
    lines.append("|---|---|---|---|---|---|")
    for _, row in table[table.paper_win.notna()].iterrows():
        judged, true = (
            f"{row[value]:.2f} [{row[low]:.2f}, {row[high]:.2f}]"
            for value, low, high in (
                ("win_half", "win_half_low", "win_half_high"),
                ("truth_win", "truth_low", "truth_high"),
            )
        )
        counts = f"{row.wins}, {row.losses}, {row.flips}"
        read = labels.gate_failed(row) or "yes"
        lines.append(f"| {labels.row(row)} | {row.paper_win:.2f} | {judged} | {true} | {counts} | {read} |")
    return lines


def limits(settings: Profile) -> list[str]:
    """What the report does not show, the profile's own limits first."""
    return [*LIMITS.get(settings.name, ()), *LIMITS[""]]


def sections(settings: Profile, tables: Mapping[str, pd.DataFrame]) -> list[Section]:
    """Every table and figure by the notebook that made it, in the order of the series; the claims are left out."""
    titles = {path.name.split("_")[0]: path.stem.replace("_", " ") for path in (ROOT / "notebooks").glob("*_*.ipynb")}
    drawn = sorted(settings.figures_dir.glob("*.png"))
    numbers = {notebook_of(name) for name in (*tables, *(path.stem for path in drawn))} - {OWN}
    return [
        Section(
            titles.get(number, number),
            [
                (name, frame, _caption(name, settings))
                for name, frame in tables.items()
                if notebook_of(name) == number and name != "claims"
            ],
            [path for path in drawn if notebook_of(path.stem) == number],
        )
        for number in sorted(numbers)
    ]


def _caption(name: str, settings: Profile) -> str:
    """What stands below the table in its Markdown."""
    text = (settings.tables_dir / f"{name}.md").read_text(encoding="utf-8")
    return text.partition("\n\n")[2].strip()
