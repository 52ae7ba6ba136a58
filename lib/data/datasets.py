"""Folders of meshes as data sets: 3D-FUTURE, Google Scanned Objects, or any folder of mesh files."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from lib.data.meshes import UP_AXES, check_up_axis, load_mesh
from lib.data.objects import Object
from lib.errors import BadInput

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Entry:
    """Where an object lies: its mesh, category as the data set spells it ("/" included), up axis, catalogue image."""

    mesh: Path
    category: str = UNKNOWN
    up_axis: str | None = None
    image: Path | None = None


@dataclass
class Dataset:
    """Objects of one folder, in the order of their ids; meshes are read when asked for.

    layout: "3D-FUTURE", "Google Scanned Objects" or "folder". skipped: what the last iteration could not read, each
    a BadInput with file, problem and remedy.
    """

    layout: str
    entries: dict[str, Entry]
    skipped: list[BadInput] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return list(self.entries)

    @property
    def categories(self) -> dict[str, str]:
        """Category of each id."""
        return {id: entry.category for id, entry in self.entries.items()}

    def load(self, id: str) -> Object:
        """Raises BadInput where there is no such object or its mesh cannot be used."""
        entry = self._entry(id)
        return Object(id, entry.category, load_mesh(entry.mesh, entry.up_axis))

    def image(self, id: str) -> Path | None:
        """The catalogue picture that came with the object, if there is one."""
        image = self._entry(id).image
        return image if image and image.is_file() else None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Object]:
        """Every object that can be used; the others go to `skipped`, which starts empty."""
        self.skipped = []
        for id in self.ids:
            try:
                yield self.load(id)
            except BadInput as problem:
                self.skipped.append(problem)

    def subset(self, n: int, seed: int) -> "Dataset":
        """n objects drawn by a digest of (seed, id), so that neither order nor other objects matter; nested in n.

        Raises BadInput where n is not between 1 and the number of objects.
        """
        if not 1 <= n <= len(self):
            raise BadInput("n", f"{n} objects asked for", f"Give 1 to {len(self)}, or a larger folder.")
        drawn = sorted(self.ids, key=lambda id: hashlib.sha256(f"{seed} {id}".encode()).digest())[:n]
        return Dataset(self.layout, {id: self.entries[id] for id in sorted(drawn)})

    def _entry(self, id: str) -> Entry:
        if id not in self.entries:
            raise BadInput(id, "is not in this data set", f"Its ids look like {self.ids[0]!r}; see `ids`.")
        return self.entries[id]


def open_dataset(folder: str | PathLike, up_axis: str | None = None) -> Dataset:
    """Finds out the layout and lists what is there, without reading a mesh.

    3D-FUTURE: `model_info.json` beside (or one folder down, as its zip files unpack) `<model_id>/raw_model.obj`; the
    category falls back to the super-category. Google Scanned Objects: `<name>/meshes/model.obj`, z up, with
    `metadata.pbtxt`. Any other folder: every mesh file below it, its id the relative path without suffix, its category
    the name of the folder that holds it. up_axis: "x", "y" or "z" for all meshes, where the layout's or format's own
    (see load_mesh) is wrong. Raises BadInput for a folder that is missing or without meshes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(folder, "is not a folder", "Give a folder of meshes.")
    check_up_axis(up_axis)
    readers = {"3D-FUTURE": _future, "Google Scanned Objects": _scanned, "folder": _any}
    for layout, reader in readers.items():
        if entries := reader(folder, up_axis):
            return Dataset(layout, dict(sorted(entries.items())))
    raise BadInput(folder, "holds no meshes", f"Put {', '.join(UP_AXES)} files there, or give another folder.")


def _future(folder: Path, up_axis: str | None) -> dict[str, Entry]:
    """Folders with a raw_model.obj, and those that model_info.json lists: one without a mesh is a problem to report."""
    roots = {path.parent.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/raw_model.obj")}
    entries = {}
    for root in sorted(roots):
        info = _model_info(root / "model_info.json")
        for model in root.iterdir():
            if model.name in info or (model / "raw_model.obj").is_file():
                category = info.get(model.name, UNKNOWN)
                entries[model.name] = Entry(model / "raw_model.obj", category, up_axis, model / "image.jpg")
    return entries


def _model_info(path: Path) -> dict[str, str]:
    """Category of each model id; nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        return {m["model_id"]: m.get("category") or m.get("super-category") or UNKNOWN for m in models}
    except (ValueError, TypeError, KeyError) as error:
        remedy = "Put 3D-FUTURE's own file there (3D-FRONT-ToolBox has another of this name), or none."
        raise BadInput(path, f"is not 3D-FUTURE's list of models ({error!r})", remedy) from error


def _scanned(folder: Path, up_axis: str | None) -> dict[str, Entry]:
    models = {path.parent.parent for path in folder.glob("*/meshes/model.obj")}
    if models:
        models |= {path.parent for path in folder.glob("*/metadata.pbtxt")}
    entries = {}
    for model in models:
        metadata = model / "metadata.pbtxt"
        text = metadata.read_text(encoding="utf-8", errors="replace") if metadata.is_file() else ""
        first = re.search(r'categories\s*\{[^}]*?first:\s*"([^"]+)"', text)
        mesh, image = model / "meshes/model.obj", model / "thumbnails/0.jpg"
        entries[model.name] = Entry(mesh, first[1] if first else UNKNOWN, up_axis or "z", image)
    return entries


def _any(folder: Path, up_axis: str | None) -> dict[str, Entry]:
    """Hidden files are left out; two files that differ in their suffix only keep it in their ids."""
    files = [
        path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in UP_AXES and path.is_file()
    ]
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    count = Counter(file.with_suffix("") for file in files)
    entries = {}
    for file in files:
        id = file if count[file.with_suffix("")] > 1 else file.with_suffix("")
        entries[id.as_posix()] = Entry(folder / file, file.parent.name or UNKNOWN, up_axis)
    return entries
