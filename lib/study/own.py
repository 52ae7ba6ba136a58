"""Notebook 10: a judge is audited on the very meshes that it is to compare, then says how often A beats B."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
import trimesh
from tqdm.auto import tqdm

from lib.data.corrupt import corrupt
from lib.judges.candidates import Candidate, Pair, Picture, render_candidate
from lib.judges.open import open_judge as open_named
from lib.judges.protocol import Judge, Store, judge_pairs
from lib.judges.verdicts import Verdict
from lib.profiles import Profile
from lib.renderers.montage import judge_montage
from lib.study.own_folders import KINDS, Both, Folders, draws

CLEAR, EQUAL, TURNED, IDENTICAL = "clear gap", "equal damage", "quarter turn", "identical images"
SEVERITY = 1.0  # of the audit's damage: blatant
CHUNK = 16  # objects whose pictures are in memory at once


@dataclass(frozen=True, eq=False)
class Shown:
    """What a person is shown of one object: its photo, where there is one, and both montages, uint8 (H,W,3)."""

    object: str
    photo: np.ndarray | None
    a: np.ndarray
    b: np.ndarray


def open_judge(name: str, layout: str, settings: Profile) -> Judge:
    """ "x" or "y" of the profile, or what `lib.judges.open.open_judge` knows. Raises BadInput."""
    return open_named({"x": settings.judge_x, "y": settings.judge_y}.get(name, name), layout)


def audit(judge: Judge, folders: Folders, settings: Profile, records: Store) -> pd.DataFrame:
    """What the judge says where the answer is known, of every mesh in both folders. Controls, a against b:

    "clear gap": the mesh against a blatantly damaged copy. "equal damage": that copy against one with other draws of
    the same damage. "quarter turn": the mesh against itself turned by 90 degrees, so that the same four views change
    places. "identical images": the mesh against itself.
    Columns: control, folder, kind (of damage), object, verdict ("win" of a, "loss", "flip", "abstention"), p_ab, p_ba
    (probability of the first label, a shown first and b shown first; nan where the judge abstained).
    """
    rows = []
    for items in _chunks(tqdm(folders, desc="audit: objects", mininterval=1)):
        asked = [control for item in items for control in _controls(item, folders, settings, judge.layout.name)]
        verdicts = judge_pairs(judge, [pair for _, pair in asked], records)
        rows += [labels | _said(verdict) for (labels, _), verdict in zip(asked, verdicts, strict=True)]
    return pd.DataFrame(rows)


def _controls(item: Both, folders: Folders, settings: Profile, layout: str) -> Iterator[tuple[dict, Pair]]:
    rng = draws(settings.seed, item.id)
    for side, title, mesh in zip("AB", folders.titles, (item.a, item.b), strict=True):
        kind, seeds = str(rng.choice(KINDS)), rng.integers(2**31, size=2).tolist()
        turned, facts = mesh.copy(), {"folder": title}
        turned.vertices = mesh.vertices[:, [1, 0, 2]] * (-1, 1, 1)
        broken, other = (
            (corrupt(mesh, kind, SEVERITY, seed).mesh, facts | {"kind": kind, "seed": seed}) for seed in seeds
        )
        candidates = [(mesh, facts), broken, other, (turned, facts | {"turned": 90})]
        given, broken, other, turned = (_candidate(item, *one, layout, settings) for one in candidates)
        pairs = {CLEAR: (given, broken), EQUAL: (broken, other), TURNED: (given, turned), IDENTICAL: (given, given)}
        for control, (a, b) in pairs.items():
            labels = {"control": control, "folder": side, "kind": kind, "object": item.id}
            yield labels, Pair(a, b, _photo(item, settings))


def compare(judge: Judge, folders: Folders, settings: Profile, records: Store) -> tuple[pd.DataFrame, list[Shown]]:
    """A against B, and what to show of each object, in the same order.

    Columns: object, verdict ("win" of A, "loss", "flip", "abstention"), p_ab, p_ba (probability of the first label, A
    shown first and B shown first; nan where the judge abstained).
    """
    rows, shown = [], []
    for items in _chunks(tqdm(folders, desc="A against B: objects", mininterval=1)):
        pairs = [_pair(item, folders, settings, judge.layout.name) for item in items]
        verdicts = judge_pairs(judge, pairs, records)
        rows += [{"object": item.id} | _said(verdict) for item, verdict in zip(items, verdicts, strict=True)]
        shown += [_shown(item, settings.picture) for item in items]
    return pd.DataFrame(rows), shown


def _pair(item: Both, folders: Folders, settings: Profile, layout: str) -> Pair:
    a, b = (
        _candidate(item, mesh, {"folder": title}, layout, settings)
        for mesh, title in zip((item.a, item.b), folders.titles, strict=True)
    )
    return Pair(a, b, _photo(item, settings))


def _candidate(item: Both, mesh: trimesh.Trimesh, facts: Mapping, layout: str, settings: Profile) -> Candidate:
    return render_candidate(item.id, mesh, settings.tile, (layout,), facts=facts)


def _photo(item: Both, settings: Profile):
    """As large as a montage."""
    return item.photo and item.photo.resize((2 * settings.tile,) * 2)


def _shown(item: Both, side: int) -> Shown:
    photo = item.photo and Picture(item.photo.resize((side, side))).pixels
    return Shown(item.id, photo, judge_montage(item.a, side // 2), judge_montage(item.b, side // 2))


def _said(verdict: Verdict) -> dict:
    return {"verdict": verdict.outcome, "p_ab": verdict.ab.p[0], "p_ba": verdict.ba.p[0]}


def _chunks(items: Iterable) -> Iterator[list]:
    items = iter(items)
    return iter(lambda: list(islice(items, CHUNK)), [])
