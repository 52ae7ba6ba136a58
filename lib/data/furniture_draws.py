"""Random choices and colors of procedural furniture."""

import colorsys
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")
STRIPES = 64
HARMONIES = (0.08, -0.08, 1 / 3, -1 / 3, 1 / 2)  # hue steps, of a full turn


class Paint(NamedTuple):
    """Colors (3,) of one object, multiples of 1/255 so that 8-bit vertex colors are exact."""

    frame: np.ndarray
    main: np.ndarray
    accent: np.ndarray
    trim: np.ndarray


class Draw:
    """Random draws for one object, a pure function of (split, index).

    Splits never share the value of a continuous parameter: its range is cut into 3 * STRIPES stripes, dealt to the
    splits in turn, and a draw keeps to the middle half of a stripe of its split. So the draws of one parameter in two
    splits differ by at least 1/384 of its range.
    """

    def __init__(self, split: str, index: int):
        self._split = SPLITS.index(split)
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._split, index)))).random

    def uniform(self, low: float, high: float) -> float:
        stripe = int(self._random() * STRIPES) * len(SPLITS) + self._split
        return low + (high - low) * (stripe + 0.25 + 0.5 * self._random()) / (STRIPES * len(SPLITS))

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def choice(self, *options):
        return options[int(self._random() * len(options))]

    def paint(self) -> Paint:
        """Frame in wood, paint or a neutral; main of any hue; accent in harmony with it; dark or pale trim."""
        hue = self.uniform(0, 1)
        frame = {
            "wood": lambda: (self.uniform(0.05, 0.11), self.uniform(0.4, 0.75), self.uniform(0.3, 0.85)),
            "painted": lambda: (hue + self.choice(*HARMONIES), self.uniform(0.3, 0.8), self.uniform(0.35, 0.9)),
            "plain": lambda: (hue, self.uniform(0, 0.12), self.choice(0.2, 0.45, 0.75, 0.93)),
        }[self.choice("wood", "wood", "wood", "painted", "painted", "plain", "plain")]()
        main = (hue, self.uniform(0.35, 0.95), self.uniform(0.5, 0.95))
        accent = (hue + self.choice(*HARMONIES), self.uniform(0.3, 0.9), self.uniform(0.55, 0.98))
        trim = (hue, self.uniform(0, 0.15), 0.2 if frame[2] > 0.5 else 0.88)
        return Paint(*(eight_bit(colorsys.hsv_to_rgb(h % 1, s, v)) for h, s, v in (frame, main, accent, trim)))


def eight_bit(color) -> np.ndarray:
    return np.round(255 * np.clip(color, 0, 1)) / 255


def tinted(color: np.ndarray, amount: float) -> np.ndarray:
    """Mixed with white (amount > 0) or black (amount < 0)."""
    return eight_bit(color + abs(amount) * ((amount > 0) - color))
