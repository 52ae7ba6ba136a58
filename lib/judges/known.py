"""Candidates whose error is known: a mesh damaged on purpose, as a judge sees it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import trimesh

from lib.data.compare import mesh_error
from lib.data.corrupt import corrupt
from lib.data.objects import Object
from lib.judges.candidates import Candidate, render_candidate
from lib.renderers.splats import surface_splats

POINTS = 100  # on the surfaces; only the error over the views is read


@dataclass(frozen=True)
class Damage:
    """What is done to an intact mesh; see `lib.data.corrupt.corrupt`."""

    kind: str
    severity: float
    seed: int


INTACT = Damage("intact", 0.0, 0)


@dataclass(frozen=True, eq=False)
class Known:
    """A candidate and its error: `MeshError.view` against the intact mesh, the one that the mini judges learned."""

    candidate: Candidate
    error: float


def damaged(mesh: trimesh.Trimesh, damages: Sequence[Damage]) -> trimesh.Trimesh:
    """The mesh after one damage upon the other; `mesh` itself is never changed."""
    for one in damages:
        if one != INTACT:
            mesh = corrupt(mesh, one.kind, one.severity, one.seed).mesh
    return mesh


def view_error(item: Object, mesh: trimesh.Trimesh) -> float:
    """Of a candidate's mesh against the object's own."""
    return 0.0 if mesh is item.mesh else mesh_error(item.mesh, mesh, n_points=POINTS).view


def known(item: Object, damage: Damage, tile: int, layouts: Sequence[str] = ("montage",), n_splats: int = 0) -> Known:
    """The object's mesh after `damage`, rendered for the layouts; tile as for `render_candidate`.

    n_splats: how many Gaussians lie on the surface in the layout `splat`. The candidate's facts are the damage's.
    """
    mesh = damaged(item.mesh, [damage])
    splats = surface_splats(mesh, n_splats, damage.seed) if "splat" in layouts else None
    return Known(render_candidate(item.id, mesh, tile, layouts, splats, asdict(damage)), view_error(item, mesh))
