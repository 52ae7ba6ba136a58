"""Judged pairs with their pictures: kept beside the tables, drawn as a figure, shown in the report.

A is the adapted generator's sample and B its base's, of the same photo and seed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.judges.candidates import Picture
from lib.profiles import Profile
from lib.study import labels, own_plots
from lib.study.adaptation import Study
from lib.study.cells import Cell, paper_cells
from lib.study.own import Shown
from lib.study.samples import Request
from lib.study.tables import replacing

NAMES = "A, adapted", "B, base"
BETTER = {1: "A", -1: "B", 0: "equal"}  # by the sign of the difference of the F-scores
PICTURES, FACTS = ("photo", "a", "b"), ("object", "row", "verdict", "p_ab", "p_ba", "truth", "samples")


@dataclass(frozen=True, eq=False)
class Entry(Shown):
    """One pair: pictures, uint8 (H,W,3), what the judge answered, and which side is truly better.

    row: the row of Table 1 that it counts in, in words. verdict: of A, "win", "loss" or "flip". p_ab, p_ba: probability
    of the first shown, A shown first and B shown first. truth: "A", "B" or "equal", "" where it is not known. samples:
    what both are on record under.
    """

    row: str
    verdict: str
    p_ab: float
    p_ba: float
    truth: str = ""
    samples: str = ""


def keep(study: Study, cells: Sequence[Cell], answers: pd.DataFrame, truth: pd.DataFrame, name: str, most: int) -> None:
    """Writes pairs of the first `most` objects of each cell, whatever the verdict, to `results/<profile>/gallery`.

    answers, truth: of `Study.score`. Where cells of the paper are among these, only they are shown. Pictures that are
    there already are kept, so that samples on record need not be drawn again for them.
    """
    pairs = [
        (cell, *pair)
        for cell in [one for one in cells if one in paper_cells()] or cells
        for pair in list(zip(study.adapted(cell), study.base(cell.severity, cell.kinds), strict=False))[:most]
    ]
    known = {one.samples: one for one in read(folder(study.settings) / f"{name}.npz")}
    keys = [" ".join(map(study.sampler.key, pair)) for _, *pair in pairs]
    new = [pair for (_, *pair), key in zip(pairs, keys, strict=True) if key not in known]
    study.sampler.provide([one for pair in new for one in pair])
    said, true = (table.set_index(["case", "object"]) for table in (answers, truth))
    entries = []
    for (cell, a, b), key in zip(pairs, keys, strict=True):
        place = cell.name, a.subject.item.id
        shown = known.get(key) or Shown(place[1], *_pictures(study, a, b))
        answer, gap = said.loc[place], true.f_score_a[place] - true.f_score_b[place]
        told = answer.outcome, float(answer.p_ab), float(answer.p_ba), BETTER.get(np.sign(gap), "")
        entries.append(Entry(shown.object, shown.photo, shown.a, shown.b, labels.row(cell), *told, key))
    save(entries, name, study.settings)


def _pictures(study: Study, a: Request, b: Request) -> list[np.ndarray]:
    montages = (study.sampler.shown(one)[0] for one in (a, b))
    return [Picture(image).pixels for image in (a.photo(), *montages)]


def figure(entries: Sequence[Entry], statement: str) -> Figure:
    """A column an entry, at most five: photo, A, B, both answers, the verdict, the truth."""
    drawn = own_plots.pairs(pd.DataFrame([asdict(one) for one in entries]), list(entries), statement)
    rows = np.reshape(drawn.axes, (-1, max(len(entries), 1)))
    for axis, one in zip(rows[-1], entries, strict=True):
        axis.set_xlabel(f"{axis.get_xlabel()}\n{truth(one)}")
    for row, name in zip(rows[-2:], NAMES, strict=True):
        row[0].set_ylabel(name)
    return drawn


def truth(one: Entry) -> str:
    """Which side is truly better, in words."""
    return {"": "truth not known", "equal": "truly equal"}.get(one.truth, f"truly better: {one.truth}")


def folder(settings: Profile) -> Path:
    return settings.tables_dir.parent / "gallery"


def save(entries: Sequence[Entry], name: str, settings: Profile) -> None:
    """Writes `results/<profile>/gallery/<name>.npz`: the pictures and the facts, equal bytes on repeat."""
    content = {kind: np.array([getattr(one, kind) for one in entries]) for kind in FACTS}
    for index, one in enumerate(entries):
        content |= {f"{kind}_{index}": getattr(one, kind) for kind in PICTURES if getattr(one, kind) is not None}
    with replacing(folder(settings) / f"{name}.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, **content)


def load(settings: Profile) -> list[Entry]:
    """Every saved entry, file by file in order; none where none was saved."""
    return [one for path in sorted(folder(settings).glob("*.npz")) for one in read(path)]


def read(path: Path) -> list[Entry]:
    """The entries of one file; none where it is not there."""
    if not path.exists():
        return []
    entries = []
    with np.load(path) as content:
        for index in range(len(content["object"])):
            facts = {kind: content[kind][index].item() for kind in FACTS}
            entries.append(Entry(**facts, **{kind: content.get(f"{kind}_{index}") for kind in PICTURES}))
    return entries


def choose(entries: Sequence[Entry], most: int = 5) -> list[Entry]:
    """At most so many for a figure: the first of each verdict, then the first of each row, in their order."""
    verdicts = _firsts(entries, "verdict")
    rows = _firsts([one for one in entries if one not in verdicts], "row")
    return sorted([*verdicts, *rows][:most], key=list(entries).index)


def _firsts(entries: Sequence[Entry], name: str) -> list[Entry]:
    first = {}
    for one in entries:
        first.setdefault(getattr(one, name), one)
    return list(first.values())
