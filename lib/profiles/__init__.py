"""Profiles: what a run is, read from one TOML file each, so that notebooks share every line of code."""

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lib.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Profile:
    """Settings of one run; each field is a line of the TOML file, and notebooks override them by name."""

    name: str
    seed: int  # root of every random draw
    n_objects: int  # objects of the test split that notebooks show
    tile: int  # side of one view of the montage that a judge sees, pixels
    picture: int  # side of a picture drawn for people, pixels
    n_splats: int  # Gaussians on a mesh shown as splats
    n_judged: int  # objects of the test split whose candidates judges compare
    n_evaluated: int  # objects of the test split whose generated meshes judges compare
    n_train: int  # objects whose samples train the adapters, none of them judged
    train_steps: int  # of an adapter on a flow; conditioner repair takes several times as many
    photo: int  # side of the photo that the generator is given, pixels
    fill_interior: bool  # whether meshes lose their inner shell (`lib.trellis.mesh_extraction.extract_mesh`)
    generator: str  # a folder, from the repository's root, or a hub id
    judge_x: str  # the training judge, likewise, or a server as http://host:8000/v1#model
    judge_y: str  # the evaluation judge, likewise
    layout: str  # in which generated samples are judged: a name of `lib.judges.prompts.LAYOUTS`
    data_dir: str  # folder of meshes to take objects from; "" is procedural furniture

    @property
    def tables_dir(self) -> Path:
        return ROOT / "results" / self.name / "tables"

    @property
    def figures_dir(self) -> Path:
        return ROOT / "figures" / self.name

    @property
    def records_dir(self) -> Path:
        return ROOT / "results" / self.name / "records"

    @property
    def cache_dir(self) -> Path:
        """What can be made again at any time."""
        return ROOT / "results" / self.name / "cache"

    @property
    def executed_dir(self) -> Path:
        return ROOT / "results" / self.name / "executed"


def find_folder(name: str) -> Path | str:
    """The folder of a model, from the caller's place or the repository's root, or `name` itself, then a hub id."""
    return next((folder for folder in (Path(name), ROOT / name) if folder.is_dir()), name)


def profile_names() -> list[str]:
    """Names that `load_profile` knows, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(name: str, **overrides) -> Profile:
    """The profile `name`, with every override that is not None put in place of the file's value.

    A file may hold `extends = "other"` and then lists only what differs. Raises BadInput for an unknown profile,
    an unknown or missing setting, a value that is not of the setting's type, and a number of things below 1.
    """
    if name not in profile_names():
        raise BadInput("profile", f"there is no profile {name!r}", f"Use one of: {', '.join(profile_names())}")
    path = FOLDER / f"{name}.toml"
    values = _read(path)
    kinds = {field.name: field.type for field in fields(Profile) if field.name != "name"}
    if missing := sorted(kinds.keys() - values.keys()):
        raise BadInput(path, f"lacks {', '.join(missing)}", "Add a line for each")
    profile = Profile(name=name, **_checked(path, values, kinds))
    chosen = {key: value for key, value in overrides.items() if value is not None}
    return replace(profile, **_checked("parameter", chosen, kinds))


def _read(path: Path) -> dict:
    values = tomllib.loads(path.read_text())
    base = values.pop("extends", None)
    return values if base is None else _read(FOLDER / f"{base}.toml") | values


def _checked(source, values: dict, kinds: dict) -> dict:
    for key, value in values.items():
        if key not in kinds:
            raise BadInput(source, f"there is no setting {key!r}", f"Use one of: {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise BadInput(source, f"{key} = {value!r} is not of type {kinds[key].__name__}", "Correct the value")
        if key != "seed" and type(value) is int and value < 1:
            raise BadInput(source, f"{key} = {value} is less than 1", "Correct the value")
    return values
