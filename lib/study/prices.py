"""What a plan is priced by: the sizes of the study, and what a profile's models take for a sample or question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from lib.judges.prompts import Prompt, prompt
from lib.study.cells import BOTH, SLAT, STRUCTURE, Cell
from lib.study.inventory import SERVED, Model


@dataclass(frozen=True)
class StudySize:
    """What notebooks 04 to 06 make. layout: of their questions; steps: of an adapter; cells, sweep: of 04 and of 05."""

    layout: str
    n_eval: int
    n_train: int
    steps: int
    cells: Sequence[Cell]
    sweep: Sequence[Cell] = ()

    @property
    def asked(self) -> Prompt:
        return prompt(self.layout)

    def seen(self, pairs: float) -> float:
        """Images of so many pairs, photos among them where the layout has one."""
        return (2 + self.asked.layout.photo) * pairs


@dataclass(frozen=True)
class Prices:
    """What samples and questions cost: a profile's models by role, and the settings of the generator's samplers."""

    models: Mapping[str, Model]
    samplers: Mapping[str, dict]

    @property
    def generator(self):
        """Its cost, or None; `sample` and `flows` are nan then."""
        return self.models["generator"].cost if self.samplers else None

    def sample(self, budget: dict | None = None) -> float:
        return self.generator.sample(self.samplers, budget) if self.generator else nan

    def encode(self) -> float:
        return self.generator.encode if self.generator else nan

    def repair(self) -> float:
        """One condition through the adapter of conditioner repair."""
        return self.generator.repair if self.generator else nan

    def flow(self, stage: str) -> float:
        """One call of the flows that an adapter of that stage changes."""
        if self.generator is None:
            return nan
        both = {SLAT: self.generator.slat, STRUCTURE: self.generator.structure}
        return sum(both.values()) if stage == BOTH else both[stage]

    def kept(self) -> int:
        """Bytes of a sample's mesh and latents."""
        return self.generator.kept if self.generator else 0

    def ask(self, asked: Prompt, questions: float, images: float = 0, judges: str = "XY") -> float:
        """Of questions, and of images that were not seen before, for each of the judges."""
        models = [self.models[f"judge {name}"] for name in judges]
        own = [model.cost for model in models if not model.name.startswith(SERVED)]
        return sum(cost.question(asked) * questions + cost.image * images if cost else nan for cost in own)
