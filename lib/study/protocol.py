"""Notebook 01: what a judge is shown and asked, how much of a known damage each rendering lets it see, one verdict."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lib.data.corrupt import CORRUPTIONS, Corruption, corrupt
from lib.data.datasets import open_dataset
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.judges.candidates import ORDERS, Pair, Question, render_candidate
from lib.judges.prompts import LAYOUTS, Prompt, prompt
from lib.judges.verdicts import Verdict
from lib.profiles import Profile
from lib.renderers.montage import judge_montage, splat_montage
from lib.renderers.splats import surface_splats
from lib.study.records import Records
from lib.study.shelf import mesh_digest


def gather_objects(
    settings: Profile, meshes: str | Path | None = None, up_axis: str | None = None, n: int | None = None
) -> tuple[list[Object], list[BadInput]]:
    """`n` objects to look at (None: `settings.n_objects`), and the files that were skipped.

    From the folder `meshes`, or the profile's `data_dir`, a seeded draw (all of it, where it holds no more); without
    either procedural furniture of the test split. Raises BadInput where none of the drawn can be read.
    """
    meshes, n = meshes or settings.data_dir, n or settings.n_objects
    if not meshes:
        return [furniture("test", index) for index in range(n)], []
    dataset = open_dataset(meshes, up_axis)
    drawn = dataset.subset(min(n, len(dataset)), settings.seed)
    objects = list(drawn)
    if not objects:
        raise BadInput(meshes, f"none of the {len(drawn)} meshes drawn could be read", str(drawn.skipped[0]))
    return objects, drawn.skipped


def damage(
    objects: list[Object], severity: float, settings: Profile, kinds: Sequence[str] = CORRUPTIONS
) -> list[tuple[Object, Corruption]]:
    """Each kind of corruption of each object at one severity, seeded by the object's place in the list."""
    pairs = [(item, kind, index) for index, item in enumerate(objects) for kind in kinds]
    return [
        (item, corrupt(item.mesh, kind, severity, settings.seed + index))
        for item, kind, index in tqdm(pairs, desc="corrupting", mininterval=1)
    ]


def seen(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Mean absolute difference of two uint8 images of one shape in [0, 1], over pixels that are not white in both."""
    drawn = (reference < 255).any(-1) | (candidate < 255).any(-1)
    return float(np.abs(reference[drawn].astype(float) - candidate[drawn]).mean() / 255) if drawn.any() else 0.0


def montages(mesh, settings: Profile, tile: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The judge's normal montage of a mesh and the same four views of its splats, uint8 (2 tile, 2 tile, 3) each."""
    return judge_montage(mesh, tile), splat_montage(surface_splats(mesh, settings.n_splats, seed), tile)


def damage_table(damaged: list[tuple[Object, Corruption]], settings: Profile) -> pd.DataFrame:
    """One row per object and corruption: its true error, and how much of it each rendering shows.

    `seen_in_normals` and `seen_in_splats` compare the montages of the intact and the corrupted mesh at the judge's
    size (see `seen`). Splats are laid at random, so two sets on one mesh differ too: a row of kind "intact" for each
    object compares it with itself and gives that floor. What is in `records/damage.jsonl` is not measured again.
    """
    records, intact, keys = Records(settings.records_dir / "damage.jsonl"), {}, []
    for item, done in tqdm(_with_floor(damaged), desc="measuring", mininterval=1):
        made = done.kind, done.severity, done.seed, settings.tile, settings.n_splats, settings.seed
        keys.append(Records.key(item.id, item.category, mesh_digest(item.mesh), *made))
        if keys[-1] in records:
            continue
        if item.id not in intact:
            intact[item.id] = montages(item.mesh, settings, settings.tile, settings.seed)
        broken = montages(done.mesh, settings, settings.tile, settings.seed + 1)
        normals, splats = (seen(*pair) for pair in zip(intact[item.id], broken, strict=True))
        row = {
            "object": item.id,
            "category": item.category,
            "kind": done.kind,
            "severity": done.severity,
            "did": done.did,
            "mask_error": done.error.mask,
            "normal_error": done.error.normal,
            "view_error": done.error.view,
            "chamfer": done.error.chamfer,
            "f_score": done.error.f_score,
            "seen_in_normals": normals,
            "seen_in_splats": splats,
        }
        records.add([{"key": keys[-1], **row}])
    return pd.DataFrame([records[key] for key in keys]).drop(columns=["key", "session", "when"])


def _with_floor(damaged: list[tuple[Object, Corruption]]) -> list[tuple[Object, Corruption]]:
    floor = {item.id: (item, replace(corrupt(item.mesh, CORRUPTIONS[0], 0, 0), kind="intact")) for item, _ in damaged}
    return [*floor.values(), *damaged]


def damage_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over objects of `damage_table` for each kind.

    `splats_show`: what the splats show above their floor, as a share of what the normals show.
    """
    columns = ["view_error", "f_score", "seen_in_normals", "seen_in_splats"]
    means = table.groupby("kind", sort=False)[columns].mean()
    above = means.seen_in_splats - means.seen_in_splats["intact"]
    return means.assign(splats_show=above / means.seen_in_normals.where(means.seen_in_normals > 0)).reset_index()


def prompts() -> list[Prompt]:
    """What a judge is asked in each layout."""
    return [prompt(layout) for layout in LAYOUTS]


def prompt_table(asked: Sequence[Prompt]) -> pd.DataFrame:
    """Columns: layout, id, digest, images (in one question)."""
    rows = [(one.layout.name, one.id, one.digest, one.layout.photo + 2 * one.layout.count) for one in asked]
    return pd.DataFrame(rows, columns=["layout", "id", "digest", "images"])


def prompt_texts(asked: Sequence[Prompt]) -> str:
    """A paragraph for each prompt, every word as a judge reads it and [image] where an image goes."""
    texts = (" ".join(part.get("text", "[image]") for part in one.messages()[0]["content"]) for one in asked)
    return "\n\n".join(f"{one.id}: {text}" for one, text in zip(asked, texts, strict=True))


def intact_against(item: Object, corruption: Corruption, settings: Profile) -> Pair:
    """The pair of an intact mesh (a) and its corruption (b) as a judge is shown it in the layout `montage`."""
    plan = (item.mesh, {"kind": "intact"}), (corruption.mesh, {"kind": corruption.kind, "did": corruption.did})
    candidates = [render_candidate(item.id, mesh, settings.tile, facts=facts) for mesh, facts in plan]
    return Pair(*candidates, render_photo(item.mesh, settings.picture))


def answer_table(pair: Pair, verdicts: dict[str, Verdict]) -> pd.DataFrame:
    """What each judge answered in each order, and its verdict, one row an answer.

    Columns: judge, order, image_a and image_b (the candidate shown there), p_a and p_b (probabilities of the labels),
    mass (what the model gave to both labels together), picks (empty for an abstention), verdict (on the pair's a).
    """
    rows = []
    for judge, verdict in verdicts.items():
        for order, answer in zip(ORDERS, (verdict.ab, verdict.ba), strict=True):
            shown = [one.facts["kind"] for one in Question(pair, LAYOUTS["montage"], order).candidates]
            picked = None if answer.pick is None else shown[answer.pick]
            rows.append((judge, order, *shown, *answer.p[:2], answer.mass, picked, verdict.outcome))
    columns = ["judge", "order", "image_a", "image_b", "p_a", "p_b", "mass", "picks", "verdict"]
    return pd.DataFrame(rows, columns=columns)
