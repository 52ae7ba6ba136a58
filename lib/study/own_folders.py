"""Notebook 10's objects: what two folders of meshes share, or a demonstration whose truth is known."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import trimesh
from PIL import Image
from tqdm.auto import tqdm

from lib.data.compare import has_surface, mesh_error
from lib.data.corrupt import corrupt
from lib.data.datasets import Dataset, open_dataset
from lib.data.meshes import UP_AXES, to_unit_box
from lib.data.photos import crop_to_object, load_photo
from lib.data.procedural import furniture
from lib.errors import BadInput

PHOTOS = (".jpeg", ".jpg", ".png", ".webp")
KINDS = ("face_drop", "holes", "missing_part", "floaters")  # damage that normals show well, for audit and demonstration
DEMONSTRATION = 24  # objects
LIGHT, HEAVY = (
    (0.0, 0.5),
    (0.25, 1.0),
)  # severities of the demonstration's A and B: they overlap, so A is not always best


@dataclass(frozen=True, eq=False)
class Both:
    """One object: A's mesh and B's, each in the house frame, and its photo, cropped to the object, or None."""

    id: str
    a: trimesh.Trimesh
    b: trimesh.Trimesh
    photo: Image.Image | None


@dataclass
class Folders:
    """The objects that both folders hold, in the order of their names; files are read when asked for.

    a, b: name -> id in its data set. photos: name -> file, None where the judge is shown none. left_out: what is not
    compared -> why. skipped: what the last iteration could not read, each a BadInput with file, problem and remedy.
    """

    titles: tuple[str, str]
    sets: tuple[Dataset, Dataset]
    a: dict[str, str]
    b: dict[str, str]
    names: list[str]
    photos: dict[str, Path] | None
    left_out: dict[str, str]
    skipped: list[BadInput] = field(default_factory=list)

    @property
    def layout(self) -> str:
        return "montage" if self.photos is None else "montage_ref"

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Both]:
        """Every object whose files can be used; the others go to `skipped`, which starts empty.

        Raises BadInput where that is all of them.
        """
        self.skipped = []
        for name in self.names:
            try:
                yield self._load(name)
            except BadInput as problem:
                self.skipped.append(problem)
        if len(self.skipped) == len(self.names):
            problem = f"none of the {len(self.names)} objects in both can be read"
            raise BadInput("folder_a, folder_b", problem, f"The first: {self.skipped[0]}")

    def _load(self, name: str) -> Both:
        photo = self.photos and crop_to_object(load_photo(self.photos[name]))
        meshes = []
        for dataset, ids in zip(self.sets, (self.a, self.b), strict=True):
            meshes.append(dataset.load(ids[name]).mesh)
            if not has_surface(meshes[-1]):
                raise BadInput(dataset.entries[ids[name]].mesh, "its faces have no area", "Export the mesh again")
        return Both(name, *meshes, photo)

    def left_out_table(self) -> pd.DataFrame:
        """One row for all that is not compared: what, why."""
        rows = [*self.left_out.items(), *((one.source, f"{one.problem}. {one.remedy}") for one in self.skipped)]
        return pd.DataFrame(rows, columns=["what", "why"])


def open_folders(
    folder_a: str | Path | None,
    folder_b: str | Path | None,
    photos: str | Path | None = None,
    up_axis: str | None = None,
    up_axis_b: str | None = None,
    n: int | None = None,
    seed: int = 0,
) -> Folders:
    """Matches two folders of meshes by name, without reading a mesh.

    A name is the path below the folder without suffix (of a data set known to `open_dataset`, the object's id). Of
    files that differ in their suffix only, the first of GLB, glTF, OBJ, PLY, STL, OFF counts. photos: folder of photos
    of the same names; objects without one are left out. up_axis: as for `open_dataset`; up_axis_b: where B's differs.
    n: compare so many, drawn by the seed; None for all.

    Raises BadInput for a folder that is missing, without meshes, or not given, one folder given twice, no common name,
    and an n beyond them.
    """
    for parameter, folder in (("folder_a", folder_a), ("folder_b", folder_b)):
        if folder is None:
            raise BadInput(parameter, "is not given", "Give folder_a and folder_b, or neither for the demonstration")
    sets = open_dataset(str(folder_a), up_axis), open_dataset(str(folder_b), up_axis_b or up_axis)
    paths = [Path(str(folder)).resolve() for folder in (folder_a, folder_b)]
    if paths[0] == paths[1]:
        raise BadInput("folder_b", f"is folder_a, {folder_a}", "Give the folders of two generators")
    left_out = {}
    a, b = (_by_name(dataset, side, left_out) for dataset, side in zip(sets, "AB", strict=True))
    left_out |= {
        name: f"only in {side}" for side, one, other in (("A", a, b), ("B", b, a)) for name in one if name not in other
    }
    names = _common(a, b, "folder_a", "folder_b")
    found = None if photos is None else _photos(Path(str(photos)))
    if found is not None:
        left_out |= {name: "no photo" for name in names if name not in found}
        names = _common(names, found, "the folders", "photos")
    if n is not None:
        if n > len(names):
            problem = f"{n} objects asked for, and the folders share {len(names)}"
            raise BadInput("n_judged", problem, "Ask for fewer, or leave it out to compare all")
        drawn = Dataset("", {name: sets[0].entries[a[name]] for name in names}).subset(n, seed).ids
        left_out |= {name: f"not among the {n} drawn" for name in names if name not in drawn}
        names = drawn
    return Folders((paths[0].name, paths[1].name), sets, a, b, names, found, left_out)


def _by_name(dataset: Dataset, side: str, left_out: dict[str, str]) -> dict[str, str]:
    """The id of each name; a further file of the same name goes to `left_out`."""
    formats, ids = list(UP_AXES), {}
    for id in sorted(dataset.ids, key=lambda id: formats.index(dataset.entries[id].mesh.suffix.lower())):
        name = str(PurePosixPath(id).with_suffix("")) if PurePosixPath(id).suffix.lower() in formats else id
        if ids.setdefault(name, id) != id:
            left_out[f"{id} in {side}"] = f"{ids[name]} has the same name"
    return ids


def _photos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise BadInput(folder, "is not a folder", "Give a folder of photos, or none")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOS)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in reversed(files)}


def _common(one: Iterable[str], other: Iterable[str], first: str, second: str) -> list[str]:
    names = sorted(set(one) & set(other))
    if not names:
        examples = "; ".join(
            f"{side}: {', '.join(sorted(found)[:3]) or 'none'}" for side, found in ((first, one), (second, other))
        )
        remedy = f"Name the files of one object alike, whatever their suffix. Names found in {examples}"
        raise BadInput(f"{first}, {second}", "have no name in common", remedy)
    return names


def draws(seed: int, name: str) -> np.random.Generator:
    """An object's own random draws: they do not depend on which others are compared."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def write_demonstration(folder: Path, seed: int, count: int = DEMONSTRATION) -> pd.DataFrame:
    """Furniture of the test split, each damaged twice: lightly as `folder`/A, heavily as `folder`/B, in PLY files.

    Returns the truth: object, error_a, error_b (error over the judges' views against the intact mesh, as read back).
    """
    rows = []
    for index in tqdm(range(count), desc="demonstration", mininterval=1):
        item = furniture("test", index)
        name = f"{index:02d}_{item.category}"
        rng, errors = draws(seed, name), []
        for side, severities in (("A", LIGHT), ("B", HEAVY)):
            kind, severity, draw = rng.choice(KINDS), rng.uniform(*severities), rng.integers(2**31)
            mesh = to_unit_box(corrupt(item.mesh, str(kind), float(severity), int(draw)).mesh)
            (folder / side).mkdir(parents=True, exist_ok=True)
            mesh.export(folder / side / f"{name}.ply")
            errors.append(mesh_error(item.mesh, mesh, n_points=100).view)
        rows.append((name, *errors))
    return pd.DataFrame(rows, columns=["object", "error_a", "error_b"])
