"""Damage a mesh on purpose, by a known amount: candidates whose rank against the intact mesh is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import trimesh

from lib.data import damage
from lib.data.compare import MeshError, has_surface, mesh_error
from lib.errors import BadInput

# Kind: operation, amount just above severity 0, amount at severity 1 (geometric in between where the first is not 0).
# The upper ends were chosen by eye on montages: blatant, yet still recognizably the object.
DAMAGES = {
    "face_drop": (damage.face_drop, 0, 0.8),  # share of the faces: 30% is severity 0.375; more leaves dust
    "holes": (damage.holes, 0, 0.45),  # share of the surface; more leaves shreds
    "missing_part": (damage.missing_part, 0, 0.6),  # share of the surface
    "noise": (damage.noise, 0, 0.03),  # rms displacement, in boxes: the thickness of a thin leg
    "floaters": (damage.floaters, 0, 16),  # blobs; more is a swarm that hides the object
    "smooth": (damage.smooth, 0, 1),  # how far towards the mean of the neighborhood
    "voxel": (damage.voxel, 1 / 90, 1 / 13),  # side of a cube, in boxes: from the finest that a montage shows
    "proportion": (damage.proportion, 0, 1),  # how far to the full squash, stretch and bend
}
CORRUPTIONS = tuple(DAMAGES)


@dataclass(frozen=True, eq=False)
class Corruption:
    """A corrupted mesh and what was done to it; `error` (computed when first asked for) is against the intact mesh."""

    mesh: trimesh.Trimesh
    kind: str
    severity: float
    seed: int
    did: str
    _intact: trimesh.Trimesh = field(repr=False)

    @cached_property
    def error(self) -> MeshError:
        return mesh_error(self._intact, self.mesh)


def corrupt(mesh: trimesh.Trimesh, kind: str, severity: float, seed: int) -> Corruption:
    """Damage a mesh of the house frame; severity 0 leaves it as it is, 1 is blatant. `mesh` itself is never changed.

    Raises BadInput for an unknown kind, a severity outside [0, 1], or a mesh without surface or far from the unit box.
    """
    if kind not in CORRUPTIONS:
        raise BadInput("kind", f"no corruption {kind!r}", f"Choose from {', '.join(CORRUPTIONS)}.")
    if not 0 <= severity <= 1:
        raise BadInput("severity", f"{severity} is outside [0, 1]", "Choose 0 (intact) to 1 (blatant).")
    if not (has_surface(mesh) and np.abs(mesh.bounds).max() <= 1):
        raise BadInput("mesh", "it has no surface or is not in the unit box", "Load it with lib.data.meshes.load_mesh.")
    if severity == 0:
        return Corruption(mesh.copy(), kind, severity, seed, "left it intact", mesh)
    operation, low, high = DAMAGES[kind]
    amount = low * (high / low) ** severity if low else high * severity
    damaged, did = operation(mesh, amount, np.random.default_rng(seed))
    return Corruption(damaged, kind, severity, seed, did, mesh)


def wrong_instance(objects: Sequence, i: int, seed: int) -> Corruption:
    """Clean but wrong: another of the objects (with `id`, `category`, `mesh`), of the category of `objects[i]`.

    Its `error` is against `objects[i]`. Raises BadInput where there is none.
    """
    return _another(objects, i, seed, "wrong_instance", lambda o: o.category == objects[i].category)


def wrong_category(objects: Sequence, i: int, seed: int) -> Corruption:
    """Clean but wrong: another of the objects, of another category than `objects[i]`.

    Its `error` is against `objects[i]`. Raises BadInput where there is none.
    """
    return _another(objects, i, seed, "wrong_category", lambda o: o.category != objects[i].category)


def _another(objects, i, seed, kind, fits) -> Corruption:
    others = [j for j, other in enumerate(objects) if j != i and fits(other)]
    if not others:
        raise BadInput("objects", f"nothing for {kind} of {objects[i].id}", "Give more objects.")
    other = objects[np.random.default_rng(seed).choice(others)]
    return Corruption(other.mesh, kind, 1.0, seed, f"took {other.category} {other.id} instead", objects[i].mesh)
