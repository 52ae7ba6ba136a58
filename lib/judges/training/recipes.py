"""What makes the two judges two: class, seeds, objects, corruption mix and label weights, nothing shared."""

from collections.abc import Callable
from dataclasses import dataclass

from lib.data.corrupt import CORRUPTIONS
from lib.judges.mini import Size, mini_internvl, mini_qwen

SIZE = Size(init=0.06)
KINDS = ("intact", *CORRUPTIONS)


@dataclass(frozen=True)
class Recipe:
    """One judge. All amounts of error are in units of the view error of `lib.data.compare`."""

    name: str
    family: Callable  # of `lib.judges.mini`
    seed: int
    first: int  # index of its first object of the training split
    mix: tuple[float, ...]  # how often each corruption is drawn, in the order of CORRUPTIONS
    charge: dict[str, tuple[float, float]]  # added to the error of a kind: constant, and times severity
    wrong: tuple[float, float]  # added where a photo shows another object: of the same category, of another

    @property
    def chances(self) -> dict[str, float]:
        """Of each corruption, adding up to 1."""
        return {kind: share / sum(self.mix) for kind, share in zip(CORRUPTIONS, self.mix, strict=True)}

    def build(self, size: Size = SIZE):
        """The untrained model and its processor."""
        return self.family(self.seed, size)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="judge_x",
            family=mini_qwen,
            seed=11,
            first=0,
            mix=(0.19, 0.21, 0.2, 0.05, 0.2, 0.01, 0.05, 0.09),
            charge={
                "face_drop": (0.05, 0.12),
                "holes": (0.05, 0.12),
                "missing_part": (0.05, 0.05),
                "noise": (0.03, 0.1),
                "floaters": (0.12, 0.2),
                "voxel": (0.03, 0.1),
            },
            wrong=(0.25, 0.4),
        ),
        Recipe(
            name="judge_y",
            family=mini_internvl,
            seed=29,
            first=1_000_000,
            mix=(0.16, 0.23, 0.22, 0.06, 0.2, 0.015, 0.045, 0.07),
            charge={
                "face_drop": (0.06, 0.08),
                "holes": (0.08, 0.1),
                "missing_part": (0.07, 0.03),
                "noise": (0.04, 0.06),
                "floaters": (0.15, 0.15),
                "voxel": (0.04, 0.06),
            },
            wrong=(0.2, 0.45),
        ),
    )
}
