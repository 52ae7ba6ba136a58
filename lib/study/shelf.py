"""Candidates of known damage: what is known of each is on record, and its mesh is made where its pictures are needed.

A candidate is a function of its recipe. Its numbers and the digests of its pictures are in `records/candidates.jsonl`,
so tables need no mesh, and a judge that is new to the records gets the pictures it must see. Records outlive the code:
delete the file after a change to what makes meshes or pictures.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import trimesh
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from lib.data.corrupt import Corruption
from lib.data.objects import Object
from lib.judges.candidates import Candidate, Pair, Picture, render_candidate
from lib.judges.known import INTACT, Damage, Known, damaged, view_error
from lib.profiles import Profile
from lib.renderers.splats import surface_splats
from lib.study.records import Records


@dataclass(frozen=True, eq=False)
class Recipe:
    """One candidate. facts: as the records say it; layouts: in which it is shown; whole: the mesh before damages."""

    item: Object
    facts: dict
    layouts: tuple[str, ...]
    whole: trimesh.Trimesh
    damages: tuple[Damage, ...] = ()


def after(item: Object, damage: Damage, layouts: Sequence[str]) -> Recipe:
    """The object's own mesh after a damage; its fields are the facts."""
    return Recipe(item, asdict(damage), tuple(layouts), item.mesh, (damage,))


def instead(item: Object, other: Corruption, layouts: Sequence[str]) -> Recipe:
    """Another mesh in the object's place."""
    return Recipe(item, {"kind": other.kind, "did": other.did}, tuple(layouts), other.mesh)


def error(recipe: Recipe, mesh: trimesh.Trimesh) -> dict:
    """What is measured of a candidate where nothing else is asked for."""
    return {"error": view_error(recipe.item, mesh)}


class Shelf:
    """A profile's candidates. workers: processes, -1 for one a core; also: what else changes what is measured."""

    def __init__(self, settings: Profile, workers: int = -1, **also):
        self.settings, self.workers, self.also = settings, workers, also
        self.records = Records(settings.records_dir / "candidates.jsonl")
        self._keys: dict[Recipe, str] = {}
        self._made: dict[str, dict] = {}  # pictures of what was made here

    def known(self, groups: Sequence[Sequence[Recipe]]) -> list[list[Known]]:
        """The candidates of every object and their errors. What has no record is made and measured first."""
        for recipes, measured in self.make(groups, error):
            self.put(recipes, measured)
        return [[Known(self.candidate(one), self[one]["error"]) for one in recipes] for recipes in groups]

    def make(
        self, groups: Sequence[Sequence[Recipe]], measure: Callable[[Recipe, trimesh.Trimesh], dict]
    ) -> Iterator[tuple[list[Recipe], list[dict]]]:
        """Makes what is not on record. Yields, object by object, the recipes and what was measured of each mesh."""
        missing = [[one for one in group if self.key(one) not in self.records] for group in groups]
        jobs = [(group, self.settings, measure) for group in missing if group]
        for (group, *_), made in _run(jobs, "damaging and rendering", self.workers):
            self._made |= {self.key(one): images for one, (images, _) in zip(group, made, strict=True)}
            yield group, [measured for _, measured in made]

    def put(self, recipes: Sequence[Recipe], measured: Sequence[dict]):
        """Records what was measured (JSON values) of candidates that were made, and the digests of their pictures."""
        self.records.add([self._line(*both) for both in zip(recipes, measured, strict=True)])

    def _line(self, recipe: Recipe, measured: dict) -> dict:
        key, setting = self.key(recipe), self.records.constant("setting", self._setting(recipe))
        images = {name: [Picture(one).digest for one in shown] for name, shown in self._made[key].items()}
        of = {"object": recipe.item.id, "facts": recipe.facts}
        return {"key": key, "setting": setting, **of, "images": images, **measured}

    def _setting(self, recipe: Recipe) -> dict:
        n_splats = self.settings.n_splats if "splat" in recipe.layouts else 0
        return {"tile": self.settings.tile, "n_splats": n_splats, "layouts": list(recipe.layouts), **self.also}

    def key(self, recipe: Recipe) -> str:
        """What the candidate is on record under."""
        if recipe not in self._keys:
            meshes = [mesh_digest(recipe.item.mesh), mesh_digest(recipe.whole)]
            self._keys[recipe] = Records.key(recipe.item.id, meshes, recipe.facts, self._setting(recipe))
        return self._keys[recipe]

    def __getitem__(self, recipe: Recipe) -> dict:
        """Its line on record."""
        return self.records[self.key(recipe)]

    def candidate(self, recipe: Recipe) -> Candidate:
        """A candidate that is on record; pictures that were not made here are made when a judge looks at them."""
        images = _Pictures(recipe, self.settings, self._made.get(self.key(recipe)))
        return Candidate(recipe.item.id, images, recipe.facts, self[recipe]["images"])


def prepare(pairs: Sequence[Pair], workers: int = -1):
    """Makes all pictures of these pairs that a shelf has not made yet (`lib.judges.protocol.judge_pairs`)."""
    shown = {id(one.images): one.images for pair in pairs for one in (pair.a, pair.b)}
    missing = [one for one in shown.values() if isinstance(one, _Pictures) and one.made is None]
    jobs = [([one.recipe], one.settings) for one in missing]
    for one, (_, ((images, _),)) in zip(missing, _run(jobs, "rendering", workers), strict=True):
        one.made = images


class _Pictures(Mapping):
    """A candidate's images by layout, made when they are asked for."""

    def __init__(self, recipe: Recipe, settings: Profile, made: dict | None):
        self.recipe, self.settings, self.made = recipe, settings, made

    def __getitem__(self, layout: str):
        if layout not in self.recipe.layouts:
            raise KeyError(layout)
        if self.made is None:
            ((self.made, _),) = _make([self.recipe], self.settings)
        return self.made[layout]

    def __iter__(self) -> Iterator[str]:
        return iter(self.recipe.layouts)

    def __len__(self) -> int:
        return len(self.recipe.layouts)


def _run(jobs: Sequence[tuple], name: str, workers: int) -> Iterator[tuple]:
    """Yields the arguments of each call of `_make`, and what came of it."""
    run = Parallel(workers if len(jobs) > 1 else 1, return_as="generator")(delayed(_make)(*job) for job in jobs)
    yield from zip(jobs, tqdm(run, name, len(jobs), mininterval=1, disable=not jobs), strict=True)


def _make(recipes: Sequence[Recipe], settings: Profile, measure: Callable = lambda *_: {}) -> list[tuple[dict, dict]]:
    """Of each candidate its images by layout and what was measured."""
    made = []
    for one in recipes:
        mesh, seed = damaged(one.whole, one.damages), (*one.damages, INTACT)[0].seed
        splats = surface_splats(mesh, settings.n_splats, seed) if "splat" in one.layouts else None
        images = render_candidate(one.item.id, mesh, settings.tile, one.layouts, splats).images
        made.append((images, measure(one, mesh)))
    return made


def mesh_digest(mesh: trimesh.Trimesh) -> str:
    """16 hex digits of a mesh to a millionth of its box: processors differ in the last digits and in a zero's sign."""
    parts = (np.round(mesh.vertices, 6) + 0.0, mesh.faces, mesh.visual.vertex_colors)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:16]
