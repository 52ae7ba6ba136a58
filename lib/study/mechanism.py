"""Notebook 06: why adaptation changes so little. The paper's three causes as numbers: saturation, wash-out, locus.

And chance, with full coverage: the same adapter trained with other seeds. One number a row: cause, quantity, method,
stage, by ("scale", "steps", "training seed" or ""), x, value, low, high, n. Quantities:

flips                   share of pairs of adapted and base sample, clean photos, that flip
probe                   flow-matching error at t = 0.5 on held-out examples, after training as a multiple of before
latent, occupancy,      how far samples move from the base's of the same seed, as a multiple of how far another seed
surface shift           moves them: root mean square of the latents on shared voxels, 1 - IoU of the voxels, distance
                        of the surfaces (chamfer)
feature MSE             error of the degraded photo's condition after repair as a multiple of before
truth gained            share of the F-score that the degradation cost which repair wins back
F-score gained          mean change of the F-score
F-score, 3 seeds        the same by the adapter of each training seed, and their mean

A row is nan with n = 0 where nothing is known, as of a method that had no lessons.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from lib.data.compare import mesh_error
from lib.data.degrade import SEVERITIES
from lib.stats.bootstrap import mean_by_object, ratio_interval
from lib.stats.estimands import FLIP
from lib.study.adaptation import Study
from lib.study.calibration import share
from lib.study.cells import STRUCTURE, Cell, is_full
from lib.study.drawing import Drawn, read
from lib.study.records import Records
from lib.study.samples import Request
from lib.study.subjects import CLEAN

SCALES, STEPS = (0.25, 0.5, 1.0, 2.0, 4.0), (2, 6, 12, 25)
SEEDS = 3  # that an adapter is trained with
SHARE = 5  # every so many of the evaluated objects are drawn at all scales and numbers of steps
SHIFTS = "latent shift", "occupancy shift", "surface shift"
TRAINED_ANEW = f"F-score, {SEEDS} seeds"
UNREAD = 8  # pixels of views whose errors nobody reads
FLOWS = [Cell("sft_best"), Cell("sft_best", stage=STRUCTURE)]  # whose shifts are followed, and that are trained anew
LOCUS = [*FLOWS, Cell("sft_clean", "severe"), Cell("sft_clean", "severe", STRUCTURE)]
PROBED = [*FLOWS, Cell("dpo_0.5")]
REPAIRS = [Cell("conditioner_repair", severity) for severity in SEVERITIES]
UNKNOWN = np.nan, np.nan, np.nan, 0


def mechanism(study: Study, coverage: str = "paper") -> pd.DataFrame:
    """All numbers; what is not on record is trained, drawn and asked first. Intervals are over objects.

    coverage: with "full" the other training seeds, too; once they are on record, "paper" shows them as well. Raises
    BadInput for any other.
    """
    seed, again = study.settings.seed, _other_seeds(study, coverage)
    shown = [*product([*LOCUS, *REPAIRS], [0]), *product(FLOWS, (0, *again))]
    asked = [*product(PROBED, [0]), *shown]
    study.school.workshop.facts([study.school.adapter(*one) for one in asked])  # all adapters are trained at once
    drawn = [of for cell, number in shown for of in (*study.adapted(cell, number), *study.base(cell.severity))]
    moves = [of for _, _, _, *sides in _moves(study) for side in sides for of in side]
    study.sampler.measured(drawn + moves)  # all samples are drawn at once, those of an object one after another
    parts = (_saturation, _probes, _wash_out, _locus, *[_chance] * bool(again))
    frame = pd.DataFrame([row for part in parts for row in part(study, seed)])
    for number in again:
        study.finish(FLOWS, number)
    return frame[["cause", "quantity", "method", "stage", "severity", "by", "x", "value", "low", "high", "n"]]


def _other_seeds(study: Study, coverage: str) -> Sequence[int]:
    """Besides the study's own, 0."""
    others = range(1, SEEDS)
    known = all(study.has_finished(*one) for one in product(FLOWS, others))
    return others if is_full(coverage) or known else ()


def _line(cause: str, quantity: str, cell: Cell, estimate, by: str = "", x: float = np.nan) -> dict:
    where = {"method": cell.method, "stage": cell.stage, "severity": cell.severity, "by": by, "x": x}
    value, low, high, n = estimate
    return {"cause": cause, "quantity": quantity} | where | {"value": value, "low": low, "high": high, "n": n}


def _saturation(study: Study, seed: int) -> Iterator[dict]:
    for cell in FLOWS:
        pairs, flips = study.cell_pairs([cell]), UNKNOWN
        if pairs:
            answers, _ = study.score(pairs)
            one = share(answers, answers.outcome == FLIP, seed)
            flips = one.value, one.low, one.high, one.n
        yield _line("saturation", "flips", cell, flips)


def _probes(study: Study, seed: int) -> Iterator[dict]:
    for cells, quantity, cause in ((PROBED, "probe", "wash-out"), (REPAIRS, "feature MSE", "locus")):
        for cell in cells:
            for fact in study.facts([cell]).itertuples():
                yield _line(cause, quantity, cell, ratio(fact.each_after, fact.each_before, seed))


def _wash_out(study: Study, seed: int) -> Iterator[dict]:
    for cell, by, x, base, moved, others in _moves(study):
        far, natural = (distances(study, base, to) for to in (moved, others))
        for quantity in SHIFTS:
            yield _line("wash-out", quantity, cell, ratio(far[quantity], natural[quantity], seed), by, x)


def _moves(study: Study) -> Iterator[tuple[Cell, str, float, list[Request], list[Request], list[Request]]]:
    """For every cell, "scale" or "steps", and its value: samples of the base, with the adapter, and of another seed."""
    for cell in FLOWS:
        adapter = study.school.adapter(cell)
        some = study.base()[::SHARE] if adapter else []
        for by, values in (("scale", SCALES), ("steps", STEPS)):
            for x in values:
                base = some if by == "scale" else [replace(one, steps=x) for one in some]
                moved = [replace(one, adapter=adapter, scale=x if by == "scale" else 1.0) for one in base]
                yield cell, by, x, base, moved, [replace(one, seed=one.seed + 1) for one in base]


def _locus(study: Study, seed: int) -> Iterator[dict]:
    clean = study.sampler.measured(study.base())
    for cell in LOCUS + REPAIRS:
        gained = truth = UNKNOWN
        if made := study.adapted(cell):
            base, adapted = (study.sampler.measured(of) for of in (study.base(cell.severity), made))
            change = adapted.f_score - base.f_score
            gained = _mean(change, base.object, seed)
            truth = ratio(change, clean.f_score - base.f_score, seed)
        yield _line("locus", "F-score gained", cell, gained)
        if cell.severity != CLEAN:
            yield _line("locus", "truth gained", cell, truth)


def _chance(study: Study, seed: int) -> Iterator[dict]:
    base = study.sampler.measured(study.base())
    for cell in FLOWS:
        made = [study.adapted(cell, number) for number in range(SEEDS)]
        gains = [study.sampler.measured(of).f_score - base.f_score for of in made if of]
        for number, gain in enumerate(gains):
            yield _line("chance", TRAINED_ANEW, cell, _mean(gain, base.object, seed), "training seed", number)
        mean = _mean(sum(gains) / SEEDS, base.object, seed) if gains else UNKNOWN
        yield _line("chance", TRAINED_ANEW, cell, mean)


def _mean(change: pd.Series, objects: pd.Series, seed: int) -> tuple[float, float, float, int]:
    one = mean_by_object(change.to_numpy(), 1, objects, seed)
    return one.value, one.low, one.high, one.n


def distances(study: Study, first: Sequence[Request], second: Sequence[Request]) -> pd.DataFrame:
    """How far apart two samples of each object are, a row an object, the columns `SHIFTS`; nan where one is empty.

    What is not on record is drawn first.
    """
    sampler, records = study.sampler, Records(study.settings.records_dir / "shifts.jsonl")
    pairs = {Records.key(sampler.key(a), sampler.key(b)): (a, b) for a, b in zip(first, second, strict=True)}
    new = {key: pair for key, pair in pairs.items() if key not in records}
    sampler.provide([of for pair in new.values() for of in pair])
    if new:
        jobs = (delayed(_apart)(*map(sampler.file, pair)) for pair in new.values())
        measured = zip(new, Parallel(sampler.workers if len(new) > 1 else 1)(jobs), strict=True)
        records.add([{"key": key, "shifts": [_short(x) for x in shifts]} for key, shifts in measured])
    return pd.DataFrame([records[key]["shifts"] for key in pairs], columns=SHIFTS, dtype=float)


def _short(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")


def _apart(*files: Path) -> tuple[float, float, float]:
    return _distance(*map(read, files))


def _distance(a: Drawn, b: Drawn) -> tuple[float, float, float]:
    if a.mesh is None or b.mesh is None:
        return (np.nan,) * 3
    places = [{tuple(cell): row for row, cell in enumerate(one.voxels)} for one in (a, b)]
    both = places[0].keys() & places[1].keys()
    rows = [[place[cell] for cell in both] for place in places]
    latent = np.sqrt(np.square(a.slat[rows[0]] - b.slat[rows[1]]).mean()) if both else np.nan
    occupancy = 1 - len(both) / len(places[0].keys() | places[1].keys())
    return latent, occupancy, mesh_error(a.mesh, b.mesh, size=UNREAD).chamfer


def ratio(above, below, seed: int) -> tuple[float, float, float, int]:
    """sum(above) / sum(below) over objects, with its 95% percentile bootstrap interval, and their number."""
    above, below = (np.asarray(part, float) for part in (above, below))
    known = np.isfinite(above) & np.isfinite(below)
    above, below = above[known], below[known]
    if len(above) < 2 or below.sum() == 0:
        return np.nan, np.nan, np.nan, len(above)
    return above.sum() / below.sum(), *ratio_interval(above, below, seed, "percentile"), len(above)
