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
            seed=111,
            first=50_000,
            mix=(0.12, 0.13, 0.13, 0.1, 0.15, 0.11, 0.14, 0.12),
            charge={
                "face_drop": (0.02, 0.04),
                "holes": (0.04, 0.06),
                "missing_part": (0.02, 0.03),
                "noise": (0.01, 0.03),
                "floaters": (0.06, 0.1),
                "voxel": (0.01, 0.02),
            },
            wrong=(0.25, 0.4),
        ),
        Recipe(
            name="judge_y",
            family=mini_internvl,
            seed=129,
            first=1_050_000,
            mix=(0.11, 0.14, 0.15, 0.11, 0.14, 0.1, 0.15, 0.1),
            charge={
                "face_drop": (0.01, 0.05),
                "holes": (0.03, 0.08),
                "missing_part": (0.03, 0.02),
                "noise": (0.02, 0.02),
                "floaters": (0.08, 0.07),
                "voxel": (0.0, 0.03),
            },
            wrong=(0.2, 0.45),
        ),
    )
}
