"""One training object: its photo, its candidates, and what each layout shows of them. A pure function of the index."""

from itertools import accumulate

import numpy as np
from PIL import Image

from lib.data import damage
from lib.data.corrupt import CORRUPTIONS, DAMAGES, corrupt
from lib.data.photos import render_photo
from lib.data.procedural import CATEGORIES, Furniture, furniture
from lib.data.refine import mesh_of, refine
from lib.judges.candidates import Picture
from lib.judges.training.layers import Layers, eight_bit_depth
from lib.judges.training.recipes import KINDS, SIZE, Recipe
from lib.renderers.cameras import judge_views, turntable
from lib.renderers.montage import grid, splat_montage
from lib.renderers.raycast import normal_images, render, shaded_images
from lib.renderers.splats import surface_splats

IMAGE_SIZE = SIZE.image
CANDIDATES = 10  # for each object; the first is intact
EXTRA = ("seven_images", "turntable24", "splat")  # an object shows its candidates in one of these besides the montage
SPLATS, SPLATTED = 5_000, 4  # Gaussians on a mesh; candidates shown so (each costs as much as ten montages)
RIGS = {"montage": (judge_views(), IMAGE_SIZE // 2), "seven_images": (turntable(3), IMAGE_SIZE)}
RIGS["turntable24"] = (turntable(24), IMAGE_SIZE // 5)


def sample(recipe: Recipe, index: int) -> dict[str, np.ndarray]:
    """Object number `index` of a judge. K candidates, M of them in the extra layout with c images each.

    photo (112,112,3) uint8; category (), extra_layout () int; kinds (K,) int, place in KINDS; severity (K,) float32;
    normals (K,112,112,3) and depth (K,112,112) uint8, montages; extra (M,c,112,112,3) uint8, of candidates 0 to M - 1.
    """
    item, rng = furniture("train", recipe.first + index), np.random.default_rng([recipe.seed, index])
    photo = render_photo(item.mesh, IMAGE_SIZE, rng.uniform(-60, 60), rng.uniform(5, 35))
    kinds = ["intact", *rng.choice(CORRUPTIONS, CANDIDATES - 1, p=list(recipe.chances.values()))]
    severity = np.where(np.arange(CANDIDATES) > 0, rng.uniform(0.03, 1, CANDIDATES), 0)
    place = index // len(CATEGORIES) % len(EXTRA)
    shown = _Object(item, EXTRA[place])
    seen = [shown.candidate(*c, rng) for c in zip(kinds, severity, range(CANDIDATES), strict=True)]
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

    def __init__(self, item: Furniture, extra: str):
        self.mesh, self.extra, self.rigs = item.mesh, extra, ["montage"] + [extra] * (extra in RIGS)
        ends = list(accumulate(len(part.mesh()[1]) for part in item.primitives))
        part = np.split(item.mesh.faces, ends[:-1])
        whole, colors = item.mesh.vertices, item.mesh.visual.vertex_colors
        parts = [refine(mesh_of(whole, faces, colors), 0.03) for faces in part]
        start = np.cumsum([0, *(len(mesh.vertices) for mesh in parts)])
        self.fine = mesh_of(
            np.concatenate([mesh.vertices for mesh in parts]),
            np.concatenate([mesh.faces + offset for mesh, offset in zip(parts, start[:-1], strict=True)]),
            np.concatenate([mesh.visual.vertex_colors for mesh in parts]),
        )
        self.part = np.repeat(np.arange(len(parts)), [len(mesh.faces) for mesh in parts])
        self.layers = {name: Layers(self.fine, *RIGS[name], name == "turntable24") for name in self.rigs}

    def candidate(self, kind: str, severity: float, number: int, rng: np.random.Generator):
        """normals and depth of the montage, and the extra layout's images or None."""
        splatted = self.extra == "splat" and number < SPLATTED
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
        if splatted:
            splats = surface_splats(mesh, SPLATS, int(rng.integers(2**31)))
            return *montage, splat_montage(splats, IMAGE_SIZE // 2)[None]
        if self.extra == "splat":
            return *montage, None
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
