"""The cells of the study: a method, the photos it is for, the part of the generator that it changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from lib.data.degrade import KINDS, SEVERITIES
from lib.errors import BadInput
from lib.study.subjects import CLEAN

SLAT, STRUCTURE, BOTH, CONDITION, SAMPLING = "slat", "structure", "both", "condition", "sampling"
REGIMES = (CLEAN, *SEVERITIES)  # the paper's clean regime, and its hard one at three severities
BEST_OF = 4  # samples among which `best_of_k` takes the training judge's favorite


@dataclass(frozen=True)
class Method:
    """What a method is called in the paper ("" where it is not in it), and what it learns from.

    learns: "pairs" (judge X's verdicts), "online" (its verdicts while the flow learns), "clean" (what the clean photo
    gives), "conditions" (of clean and degraded photos), or "" for a method without training.
    """

    name: str
    paper: str
    learns: str
    stage: str = SLAT  # that it changes where a cell does not say otherwise


METHODS = {
    method.name: method
    for method in (
        Method("sft_best", "SFT-on-best", "pairs"),
        Method("dpo_0.1", "DPO beta 0.1", "pairs"),
        Method("dpo_0.5", "DPO beta 0.5", "pairs"),
        Method("orpo", "ORPO", "pairs"),
        Method("sft_clean", "SFT-on-clean", "clean"),
        Method("conditioner_repair", "conditioner repair", "conditions", CONDITION),
        Method("dro", "", "pairs"),
        Method("dpo_flow", "", "pairs"),
        Method("dreamdpo", "", "online"),
        Method("best_of_k", "", "", SAMPLING),
    )
}


@dataclass(frozen=True)
class Cell:
    """One row of Table 1. severity: of the photos that the adapter is trained for and judged on, or "clean"."""

    method: str
    severity: str = CLEAN
    stage: str = ""
    kinds: tuple[str, ...] = KINDS  # of degradation

    def __post_init__(self):
        for kind, value, known in (("method", self.method, METHODS), ("severity", self.severity, REGIMES)):
            if value not in known:
                raise BadInput(kind, f"there is no {kind} {value!r}", f"Use one of: {', '.join(known)}")
        if self.severity == CLEAN and METHODS[self.method].learns in ("clean", "conditions"):
            problem = f"{self.method} learns what a clean photo gives, and clean photos are given"
            raise BadInput("severity", problem, f"Use one of: {', '.join(SEVERITIES)}")
        object.__setattr__(self, "stage", self.stage or METHODS[self.method].stage)

    @property
    def regime(self) -> str:
        return CLEAN if self.severity == CLEAN else "hard"

    @property
    def name(self) -> str:
        """What its pairs are called."""
        return f"{self.method}, {self.stage}, {taken(self.severity, self.kinds)}"


def taken(severity: str, kinds: tuple[str, ...]) -> str:
    """How photos were taken, in words: the severity, and the kinds of degradation where they are not all."""
    return severity if kinds == KINDS else f"{severity}, {' '.join(kinds)}"


def paper_cells() -> list[Cell]:
    """The nine that the paper's Table 1 prints, in its order."""
    clean = [Cell(method) for method in ("sft_best", "dpo_0.1", "dpo_0.5", "orpo")]
    severe = [Cell(method, "severe") for method in ("sft_clean", "dpo_0.1")]
    return [*clean, *severe, *(Cell("conditioner_repair", severity) for severity in SEVERITIES)]


def full_cells() -> list[Cell]:
    """Every method of the paper in every regime and severity in which it means something: the coverage it claims."""
    return [cell for name, method in METHODS.items() if method.paper for cell in _everywhere(name, REGIMES)]


def further_cells() -> list[Cell]:
    """Beyond the paper: the stage that settles coarse geometry, other objectives, and no training at all."""
    ends = CLEAN, "severe"
    structure = [Cell(name, where, STRUCTURE) for name, where in product(("sft_best", "dpo_0.1", "dpo_flow"), ends)]
    structure += [Cell("sft_clean", "severe", STRUCTURE), Cell("sft_clean", "severe", BOTH)]
    others = [Cell(name, where) for name, where in product(("dpo_flow", "dreamdpo", "dro", "best_of_k"), ends)]
    return structure + others


def sweep_cells() -> list[Cell]:
    """Conditioner repair of each degradation alone, at each severity."""
    return [Cell("conditioner_repair", where, kinds=(kind,)) for kind, where in product(KINDS, SEVERITIES)]


def choose_cells(coverage: str) -> list[Cell]:
    """Table 1's cells: the paper's nine, or with "full" all, and below them those beyond the paper. Raises BadInput."""
    return full_cells() + further_cells() if is_full(coverage) else paper_cells()


def choose_sweep(coverage: str) -> list[Cell]:
    """Table 2's cells: all degradations together, with "full" also each alone. Raises BadInput."""
    together = [Cell("conditioner_repair", severity) for severity in SEVERITIES]
    return together + sweep_cells() if is_full(coverage) else together


def is_full(coverage: str) -> bool:
    """Raises BadInput where it is neither "paper" nor "full"."""
    if coverage not in ("paper", "full"):
        raise BadInput("coverage", f"there is no coverage {coverage!r}", "Use one of: paper, full")
    return coverage == "full"


def _everywhere(method: str, severities: Sequence[str]) -> list[Cell]:
    needs_degraded = METHODS[method].learns in ("clean", "conditions")
    return [Cell(method, where) for where in severities if not (needs_degraded and where == CLEAN)]
