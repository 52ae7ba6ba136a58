"""Notebook 07: candidates as in the companion study (arXiv 2606.18451), what cheap proxies say of them, and judges.

The paper has two generators and, of every mesh, a twin with faces dropped: four candidates and six pairs an object.
Here the intact mesh stands for the better generator, a copy with another damage for the worse one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import trimesh

from lib.data.corrupt import CORRUPTIONS
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.errors import BadInput
from lib.judges.candidates import Candidate, Pair, Picture
from lib.judges.known import Damage
from lib.judges.protocol import Judge, Store
from lib.judges.roles import EvaluationJudge, Scorer, TrainingJudge, label
from lib.profiles import Profile
from lib.study.shelf import Recipe, Shelf, error, prepare
from lib.study.similarity import LARGEST, Encoder, Tower, rig_views, similarity
from lib.study.validity import Validity, validity

ROLES = INTACT, CORRUPTED, INTACT_DROPPED, CORRUPTED_DROPPED = (
    "intact",
    "corrupted",
    "intact, faces dropped",
    "corrupted, faces dropped",
)
FULL, WITHIN_INTACT, WITHIN_CORRUPTED, MIXED = SUBGROUPS = (
    "intact vs corrupted",
    "intact vs its dropped twin",
    "corrupted vs its dropped twin",
    "across, one or both dropped",
)
SUBGROUP = {
    (INTACT, CORRUPTED): FULL,
    (INTACT, INTACT_DROPPED): WITHIN_INTACT,
    (CORRUPTED, CORRUPTED_DROPPED): WITHIN_CORRUPTED,
}  # of a pair of roles; of all others MIXED
DROP = "face_drop"
DAMAGES = tuple(kind for kind in CORRUPTIONS if kind != DROP)
LAYOUTS = ("turntable24", "montage")  # the companion's rig and the main paper's; neither shows a photo
SEVERITIES = (0.3, 1.0)  # of the other damage: visible to blatant
VALIDITY = tuple(field.name for field in fields(Validity))
SIMILARITY = "image_similarity"
FEATURES = (*VALIDITY, SIMILARITY)  # of the companion's Bradley-Terry head


@dataclass(frozen=True, eq=False)
class Measured:
    """One candidate: as a judge sees it, its role and kind of damage, its view error, and `FEATURES`."""

    candidate: Candidate
    role: str
    kind: str
    error: float
    features: dict[str, float]


def measure(
    objects: Sequence[Object],
    settings: Profile,
    encoder: Encoder,
    layout: str = "turntable24",
    face_drop: float = 0.375,
    workers: int = -1,
) -> list[list[Measured]]:
    """The four candidates of every object, in the order of `ROLES`; a function of the objects, their places, the seed.

    face_drop: severity of the face-dropped twins; .375 drops 30%. workers: processes, -1 for one a core. What is on
    record is neither made nor measured (`lib.study.shelf`). Raises BadInput for a layout that is none of `LAYOUTS` and
    a severity outside [0, 1].
    """
    if layout not in LAYOUTS:
        problem = f"{layout!r} is none that shows a mesh and nothing else"
        raise BadInput("layout", problem, f"Use one of: {', '.join(LAYOUTS)}")
    weights = encoder.judge.identity["weights"] if isinstance(encoder, Tower) else None
    shelf = Shelf(settings, workers, encoder=[encoder.name, weights])
    recipes = [_recipes(item, place, settings, layout, face_drop) for place, item in enumerate(objects)]
    size = min(2 * settings.tile, LARGEST)
    for made, rows in shelf.make(recipes, partial(_features, size=size)):
        photo = Picture(render_photo(made[0].item.mesh, size)).pixels
        likeness = similarity(encoder, photo, np.stack([row.pop("views") for row in rows]))
        shelf.put(made, [row | {SIMILARITY: like} for row, like in zip(rows, likeness, strict=True)])
    return [[_measured(shelf, *both) for both in zip(ROLES, item, strict=True)] for item in recipes]


def _recipes(item: Object, place: int, settings: Profile, layout: str, face_drop: float) -> list[Recipe]:
    rng = np.random.default_rng([settings.seed, place])
    severity, seeds = round(float(rng.uniform(*SEVERITIES)), 4), rng.integers(2**31, size=3).tolist()
    other = Damage(DAMAGES[place % len(DAMAGES)], severity, seeds[0])
    drop, other_drop = (Damage(DROP, face_drop, seed) for seed in seeds[1:])
    return [
        Recipe(item, {"damages": [asdict(damage) for damage in done]}, (layout,), item.mesh, done)
        for done in [(), (other,), (drop,), (other, other_drop)]
    ]


def _features(recipe: Recipe, mesh: trimesh.Trimesh, size: int) -> dict:
    """Views for the image similarity, and what is measured on the mesh alone."""
    return {"views": rig_views(mesh, size), **error(recipe, mesh), **asdict(validity(mesh))}


def _measured(shelf: Shelf, role: str, recipe: Recipe) -> Measured:
    kind, line = " + ".join(damage.kind for damage in recipe.damages) or INTACT, shelf[recipe]
    features = {name: line[name] for name in FEATURES}
    return Measured(shelf.candidate(recipe), role, kind, line["error"], features)


def candidate_table(measured: Sequence[Sequence[Measured]]) -> pd.DataFrame:
    """One row a candidate: object, role, kind, view_error, and the features."""
    return pd.DataFrame(
        {"object": one.candidate.object, "role": one.role, "kind": one.kind, "view_error": one.error, **one.features}
        for item in measured
        for one in item
    )


def validity_by_kind(candidates: pd.DataFrame) -> pd.DataFrame:
    """Means of the features over the candidates of each kind of damage: for the yes-or-no ones the share valid."""
    order = [INTACT, DROP, *DAMAGES, *(f"{kind} + {DROP}" for kind in DAMAGES)]
    groups = candidates.groupby("kind")
    means = groups[["view_error", *FEATURES]].mean()
    means.insert(0, "n", groups.size())
    return means.reindex([kind for kind in order if kind in means.index]).reset_index()


def ask(
    measured: Sequence[Sequence[Measured]], judges: Mapping[str, Judge], records: Store, layout: str = "turntable24"
) -> pd.DataFrame:
    """All six pairs of every object, one a row, in both orders to both judges; X labels, Y scores (`lib.judges.roles`).

    Columns: object, subgroup, kind_a, kind_b; gap (view error of b less that of a, so that a is better where it is
    positive); of each of `FEATURES` that of a less that of b; x and y ("win" of a, "loss", "flip", "abstention").
    """
    couples = [couple for item in measured for couple in combinations(item, 2)]
    pairs = [Pair(a.candidate, b.candidate) for a, b in couples]
    x, y = TrainingJudge(judges["X"].asking(layout)), EvaluationJudge(judges["Y"].asking(layout))
    scorer = Scorer(y, x)
    said = zip(label(x, pairs, records, prepare), scorer.score(pairs, records, prepare), strict=True)
    return pd.DataFrame(
        {
            "object": a.candidate.object,
            "subgroup": SUBGROUP.get((a.role, b.role), MIXED),
            "kind_a": a.kind,
            "kind_b": b.kind,
            "gap": b.error - a.error,
            **{name: a.features[name] - b.features[name] for name in FEATURES},
            "x": by_x.outcome,
            "y": by_y.outcome,
        }
        for (a, b), (by_x, by_y) in zip(couples, said, strict=True)
    )
