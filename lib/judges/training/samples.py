"""One training object: its photos, its candidates, and what each layout shows of them. A pure function of the index."""

from collections.abc import Sequence

import numpy as np
import trimesh
from PIL import Image
from trimesh.util import concatenate

from lib.data import damage
from lib.data.corrupt import CORRUPTIONS, DAMAGES, corrupt
from lib.data.photos import render_photo
from lib.data.procedural import CATEGORIES, furniture
from lib.data.refine import mesh_of
from lib.judges.candidates import Picture
from lib.judges.training.layers import Layers, eight_bit_depth
from lib.judges.training.recipes import KINDS, SIZE, Recipe
from lib.judges.training.variety import bent, fine_parts
from lib.renderers.cameras import judge_views, turntable
from lib.renderers.montage import grid, splat_montage
from lib.renderers.raycast import normal_images, render, shaded_images
from lib.renderers.splats import surface_splats

IMAGE_SIZE = SIZE.image
PHOTOS, CANDIDATES = 3, 10  # of each object; the first candidate is intact
# Many objects teach more than many pictures of each, so only the first show their candidates in one more layout.
# The others are coarser and have less of the damage that takes longest to make: two of them for one of the first.
SHOWN_TWICE, EXTRA = 240, ("seven_images", "turntable24", "splat")
EDGES = 0.05, 0.03  # longest, of objects shown once and twice
THINNED = {"noise": 0.5, "smooth": 1 / 3, "voxel": 0.5}  # share of them that objects shown once keep
SPLATS, SPLATTED = 5_000, 4  # Gaussians on a mesh; candidates shown so (each costs as much as ten montages)
RIGS = {"montage": (judge_views(), IMAGE_SIZE // 2), "seven_images": (turntable(3), IMAGE_SIZE)}
RIGS["turntable24"] = (turntable(24), IMAGE_SIZE // 5)


def sample(recipe: Recipe, index: int) -> dict[str, np.ndarray]:
    """Object number `index` of a judge. K candidates, M of them in the extra layout with c images each; M may be 0.

    photo (PHOTOS,112,112,3) uint8; category (), extra_layout () int, -1 for none; kinds (K,) int, place in KINDS;
    severity (K,) float32; normals (K,112,112,3) and depth (K,112,112) uint8, montages; extra (M,c,112,112,3) uint8,
    of candidates 0 to M - 1.
    """
    item, rng = furniture("train", recipe.first + index), np.random.default_rng([recipe.seed, index])
    turn, twice = index // len(CATEGORIES), index < SHOWN_TWICE
    parts, mesh = fine_parts(item, EDGES[twice]), item.mesh
    if turn % 2:
        parts = bent(parts, rng)
        mesh = concatenate(parts)
    photos = [render_photo(mesh, IMAGE_SIZE, rng.uniform(-60, 60), rng.uniform(5, 35)) for _ in range(PHOTOS)]
    chances = recipe.chances if twice else thinned(recipe.chances)
    kinds = ["intact", *rng.choice(CORRUPTIONS, CANDIDATES - 1, p=list(chances.values()))]
    severity = np.where(np.arange(CANDIDATES) > 0, rng.uniform(0.03, 1, CANDIDATES), 0)
    place = turn // 2 % len(EXTRA) if twice else -1
    shown = _Object(mesh, parts, EXTRA[place] if twice else None)
    seen = [shown.candidate(*c, rng) for c in zip(kinds, severity, range(CANDIDATES), strict=True)]
    normals, depth, extra = zip(*seen, strict=True)
    extra = [images for images in extra if images is not None]
    return {
        "photo": np.stack([Picture(photo).pixels for photo in photos]),
        "category": np.array(CATEGORIES.index(item.category)),
        "extra_layout": np.array(place),
        "kinds": np.array([KINDS.index(kind) for kind in kinds]),
        "severity": severity.astype(np.float32),
        "normals": np.stack(normals),
        "depth": np.stack(depth),
        "extra": np.stack(extra) if extra else np.zeros((0, 1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8),
    }


def thinned(chances: dict[str, float]) -> dict[str, float]:
    """The chances of each corruption for an object shown once, from those for one shown twice."""
    left = {kind: chance * THINNED.get(kind, 1) for kind, chance in chances.items()}
    return {kind: chance / sum(left.values()) for kind, chance in left.items()}


class _Object:
    """What is worked out once for an object, for all of its candidates."""

    def __init__(self, mesh: trimesh.Trimesh, parts: Sequence[trimesh.Trimesh], extra: str | None):
        self.mesh, self.extra, self.rigs = mesh, extra, ["montage"] + [extra] * (extra in RIGS)
        self.fine, self.part = concatenate(parts), np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
        self.layers = {name: Layers(self.fine, *RIGS[name], name == "turntable24") for name in self.rigs}

    def candidate(self, kind: str, severity: float, number: int, rng: np.random.Generator):
        """normals and depth of the montage, and the extra layout's images or None."""
        if kind in REMOVALS or kind == "intact":
            keep = np.ones(len(self.part), bool)
            if kind != "intact":
                keep = ~self._removed(kind, severity, rng)
                if rng.random() < 0.2:  # two kinds of damage at once
                    keep &= ~self._removed(rng.choice(list(REMOVALS)), rng.uniform(0, 0.4), rng)
            views = {name: layers.views(keep) for name, layers in self.layers.items()}
            mesh = mesh_of(self.fine.vertices, self.fine.faces[keep], self.fine.visual.vertex_colors)
        else:
            mesh, views = corrupt(self.mesh, kind, severity, int(rng.integers(2**31))).mesh, {}
            for name in self.rigs:
                seen = render(mesh, *RIGS[name])
                shaded = [Picture(view).pixels for view in shaded_images(seen)] if name == "turntable24" else None
                views[name] = (shaded or normal_images(seen), eight_bit_depth(seen.depth, RIGS[name][0][0]))
        normals, depth = views["montage"]
        montage = grid(normals), grid(depth[..., None])[..., 0]
        if self.extra is None or (self.extra == "splat" and number >= SPLATTED):
            return *montage, None
        if self.extra == "splat":
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
