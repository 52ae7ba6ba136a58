"""One training object: its photo, its candidates, and what each layout shows of them.

A function of the index and, where samples are among the candidates, of the generator.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import trimesh
from PIL import Image

from lib.data import damage
from lib.data.corrupt import CORRUPTIONS, DAMAGES, corrupt
from lib.data.photos import render_photo
from lib.data.procedural import CATEGORIES, Furniture, furniture
from lib.data.refine import mesh_of, refine
from lib.judges.candidates import Picture
from lib.judges.training.layers import Layers, eight_bit_depth
from lib.judges.training.recipes import GENERATED, KINDS, SIZE, Recipe
from lib.judges.training.variety import EDGE, bent, generated
from lib.renderers.cameras import judge_views, turntable
from lib.renderers.montage import grid, splat_montage
from lib.renderers.raycast import normal_images, render, shaded_images
from lib.renderers.splats import surface_splats

IMAGE_SIZE = SIZE.image
CANDIDATES = 10  # for each object; the first is intact
PLAIN = 864  # so many objects are as they were drawn; of those after them every other shard is bent
SAMPLES = 6  # of the generator, among the candidates of the others
EXTRA = ("seven_images", "turntable24", "splat")  # an object shows its candidates in one of these besides the montage
SPLATS, SPLATTED = 5_000, 4  # Gaussians on a mesh; candidates shown so (each costs as much as ten montages)
RIGS = {"montage": (judge_views(), IMAGE_SIZE // 2), "seven_images": (turntable(3), IMAGE_SIZE)}
RIGS["turntable24"] = (turntable(24), IMAGE_SIZE // 5)


def fine_parts(item: Furniture) -> list[trimesh.Trimesh]:
    """A mesh of each primitive, with edges short enough to be cut and bent."""
    ends = list(accumulate(len(part.mesh()[1]) for part in item.primitives))
    whole, colors = item.mesh.vertices, item.mesh.visual.vertex_colors
    return [refine(mesh_of(whole, faces, colors), EDGE) for faces in np.split(item.mesh.faces, ends[:-1])]


def joined(parts: Sequence[trimesh.Trimesh]) -> trimesh.Trimesh:
    """Parts side by side as one mesh."""
    start = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return mesh_of(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + offset for part, offset in zip(parts, start[:-1], strict=True)]),
        np.concatenate([part.visual.vertex_colors for part in parts]),
    )


def sample(recipe: Recipe, index: int) -> dict[str, np.ndarray]:
    """Object number `index` of a judge. K candidates, M of them in the extra layout with c images each.

    photo (112,112,3) uint8; category (), extra_layout () int; kinds (K,) int, place in KINDS; severity (K,) float32;
    normals (K,112,112,3) and depth (K,112,112) uint8, montages; extra (M,c,112,112,3) uint8, of candidates 0 to M - 1.
    """
    item, rng = furniture("train", recipe.first + index), np.random.default_rng([recipe.seed, index])
    turn, parts, mesh = index // len(CATEGORIES), fine_parts(item), item.mesh
    if index >= PLAIN and turn % 2 == 0:
        parts = bent(parts, rng)
        mesh = joined(parts)
    photo = render_photo(mesh, IMAGE_SIZE, rng.uniform(-60, 60), rng.uniform(5, 35))
    kinds = ["intact", *rng.choice(CORRUPTIONS, CANDIDATES - 1, p=list(recipe.chances.values()))]
    severity = np.where(np.arange(CANDIDATES) > 0, rng.uniform(0.03, 1, CANDIDATES), 0)
    made = {}
    if index >= PLAIN and turn % 2 == 1:
        made = dict(zip(rng.permutation(CANDIDATES - 1)[:SAMPLES] + 1, generated(item, SAMPLES, rng), strict=True))
    shown, place, seen = _Object(mesh, parts, EXTRA[turn % len(EXTRA)]), turn % len(EXTRA), []
    for number in range(CANDIDATES):
        if number in made:
            kinds[number], severity[number] = GENERATED, 0
            seen.append(shown.pictures(made[number], number, rng))
        else:
            seen.append(shown.candidate(kinds[number], severity[number], number, rng))
    normals, depth, extra = zip(*seen, strict=True)
    return {
        "photo": Picture(photo).pixels,
        "category": np.array(CATEGORIES.index(item.category)),
        "extra_layout": np.array(place),
        "kinds": np.array([KINDS.index(kind) for kind in kinds]),
        "severity": severity.astype(np.float32),
        "normals": np.stack(normals),
        "depth": np.stack(depth),
        "extra": np.stack([images for images in extra if images is not None]),
    }


class _Object:
    """What is worked out once for an object, for all of its candidates."""

    def __init__(self, mesh: trimesh.Trimesh, parts: Sequence[trimesh.Trimesh], extra: str):
        self.mesh, self.extra, self.rigs = mesh, extra, ["montage"] + [extra] * (extra in RIGS)
        self.fine, self.part = joined(parts), np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
        self.layers = {name: Layers(self.fine, *RIGS[name], name == "turntable24") for name in self.rigs}

    def candidate(self, kind: str, severity: float, number: int, rng: np.random.Generator):
        """normals and depth of the montage, and the extra layout's images or None."""
        if kind not in REMOVALS and kind != "intact":
            return self.pictures(corrupt(self.mesh, kind, severity, int(rng.integers(2**31))).mesh, number, rng)
        keep = np.ones(len(self.part), bool)
        if kind != "intact":
            keep = ~self._removed(kind, severity, rng)
            if rng.random() < 0.2:  # two kinds of damage at once
                keep &= ~self._removed(rng.choice(list(REMOVALS)), rng.uniform(0, 0.4), rng)
        mesh = mesh_of(self.fine.vertices, self.fine.faces[keep], self.fine.visual.vertex_colors)
        return self._laid_out({name: layers.views(keep) for name, layers in self.layers.items()}, mesh, number, rng)

    def pictures(self, mesh: trimesh.Trimesh, number: int, rng: np.random.Generator):
        """The same of any mesh."""
        views = {}
        for name in self.rigs:
            seen = render(mesh, *RIGS[name])
            shaded = [Picture(view).pixels for view in shaded_images(seen)] if name == "turntable24" else None
            views[name] = (shaded or normal_images(seen), eight_bit_depth(seen.depth, RIGS[name][0][0]))
        return self._laid_out(views, mesh, number, rng)

    def _laid_out(self, views: dict, mesh: trimesh.Trimesh, number: int, rng: np.random.Generator):
        normals, depth = views["montage"]
        montage = grid(normals), grid(depth[..., None])[..., 0]
        if self.extra == "splat":
            if number >= SPLATTED:
                return *montage, None
            splats = surface_splats(mesh, SPLATS, int(rng.integers(2**31)))
            return *montage, splat_montage(splats, IMAGE_SIZE // 2)[None]
        if self.extra == "seven_images":
            return *montage, np.stack(list(views["seven_images"][0]))
        sheet = Image.fromarray(grid(list(views["turntable24"][0]), columns=5))
        return *montage, np.asarray(sheet.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))[None]

    def _removed(self, kind: str, severity: float, rng: np.random.Generator) -> np.ndarray:
        return REMOVALS[kind](self, DAMAGES[kind][2] * severity, rng)


# What `corrupt` does to a mesh, as faces that go: they need no mesh of their own to be seen.
REMOVALS = {
    "face_drop": lambda shown, amount, rng: damage.dropped(shown.fine, amount, rng),
    "holes": lambda shown, amount, rng: damage.cut(shown.fine, amount, rng, rng.uniform(0.5, 1.2))[0],
    "missing_part": lambda shown, amount, rng: damage.severed(shown.fine, shown.part, amount, rng)[0],
}
