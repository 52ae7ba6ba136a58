"""The three ways in which a judge fails (arXiv 2606.20364), each beside a layout that mends it, on the same pairs.

Against the first two the paper shows two normal montages. Against the third it has none; ours is the photo first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.data.corrupt import Corruption, wrong_category, wrong_instance
from lib.data.objects import Object
from lib.data.photos import render_photo
from lib.judges.candidates import Pair
from lib.judges.known import INTACT, Damage, Known
from lib.judges.training.cases import Case
from lib.profiles import Profile
from lib.study.shelf import Shelf, after, instead

# Splats close the gaps of a broken surface and cannot close those of a changed shape.
SURFACE, SHAPE = ("face_drop", "noise"), ("missing_part", "floaters")
SEVERITY = (0.4, 0.8)  # obvious on a montage, and the object can still be recognized
NORMALS = ("montage", "montage_ref")  # in which wrong objects are shown; damaged ones are in every layout
EVERY = (*NORMALS, "seven_images", "splat")
CLEARLY = 0.05  # by which one side of a pair is the better, in view error


@dataclass(frozen=True)
class Mode:
    """A failure on one kind of pairs: the layout that the paper warns of, the one that mends it, what goes wrong.

    claim: "flips" are more, or accuracy ("raw") is less in the layout `warned` than in the layout `fixed`. learned:
    the mini judges' label says so itself, since without a photo it is the distance to the object's own intact mesh.
    """

    failure: str
    case: str
    warned: str
    fixed: str
    claim: str
    learned: bool = False


BROKEN, CHANGED = "intact against broken surface", "intact against changed shape"
INSTANCE, CATEGORY = "right but broken against wrong instance", "right but broken against wrong category"
MODES = (
    Mode("1 seven images", BROKEN, "seven_images", "montage", "flips"),
    Mode("1 seven images", CHANGED, "seven_images", "montage", "flips"),
    Mode("2 splats", BROKEN, "splat", "montage", "raw"),
    Mode("2 splats", CHANGED, "splat", "montage", "raw"),
    Mode("3 no reference", INSTANCE, "montage", "montage_ref", "raw", learned=True),
    Mode("3 no reference", CATEGORY, "montage", "montage_ref", "raw", learned=True),
)


@dataclass(frozen=True)
class Plan:
    """What is made of one object: damage to its surface and to its shape, and clean but wrong objects in its place."""

    item: Object
    broken: Damage
    changed: Damage
    wrong: tuple[Corruption, Corruption]


def plan(objects: Sequence[Object], seed: int) -> list[Plan]:
    """For each object a damage of each of `SURFACE` and `SHAPE`, and another object of its category and of another.

    Raises BadInput where there is no such object (two of every category are enough).
    """
    plans = []
    for place, item in enumerate(objects):
        rng = np.random.default_rng([seed, place])
        damages = [
            Damage(str(rng.choice(kinds)), round(rng.uniform(*SEVERITY), 4), int(rng.integers(2**31)))
            for kinds in (SURFACE, SHAPE)
        ]
        draws = rng.integers(2**31, size=2).tolist()
        wrong = wrong_instance(objects, place, draws[0]), wrong_category(objects, place, draws[1])
        plans.append(Plan(item, *damages, wrong))
    return plans


def cases(plans: Sequence[Plan], settings: Profile, workers: int = -1) -> list[Case]:
    """One pair an object for every mode's kind of pairs, in both of its layouts; `a` is truly the better.

    Pairs with a gap under `CLEARLY` are left out. workers: processes, -1 for one a core. What is on record is not made
    (`lib.study.shelf`).
    """
    recipes = [
        [
            *(after(one.item, damage, EVERY) for damage in (INTACT, one.broken, one.changed)),
            *(instead(one.item, other, NORMALS) for other in one.wrong),
        ]
        for one in plans
    ]
    made = zip(plans, Shelf(settings, workers).known(recipes), strict=True)
    pairs = [pair for one, known in made for pair in _pairs(render_photo(one.item.mesh, 2 * settings.tile), *known)]
    return [
        Case(case, layout, pair, gap)
        for case, layout in dict.fromkeys((mode.case, layout) for mode in MODES for layout in (mode.warned, mode.fixed))
        for name, pair, gap in pairs
        if name == case and gap > CLEARLY
    ]


def _pairs(photo, intact: Known, broken: Known, changed: Known, instance: Known, category: Known) -> list:
    """[(case, pair, gap)] of an object."""
    sides = {
        BROKEN: (intact, broken),
        CHANGED: (intact, changed),
        INSTANCE: (broken, instance),
        CATEGORY: (broken, category),
    }
    return [(case, Pair(a.candidate, b.candidate, photo), b.error - a.error) for case, (a, b) in sides.items()]
