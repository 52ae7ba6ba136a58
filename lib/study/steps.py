"""The steps of a run counted ahead: objects, samples, questions, trainings, and the operations that they take.

Counts are upper bounds: what is on record is not asked or drawn again, and pairs without a gap are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import comb, nan

from lib.judges.prompts import WORDINGS, Prompt, prompt
from lib.judges.protocol import ORDERS
from lib.profiles import Profile
from lib.study.cells import BEST_OF, BOTH, METHODS, SAMPLING, SLAT, STRUCTURE, Cell, choose_cells, sweep_cells
from lib.study.failures import MODES
from lib.study.inventory import SERVED, Model
from lib.study.lessons import REPAIR_PHOTOS
from lib.study.pairs import N_GRADED, N_TWINS
from lib.study.proxies import ROLES
from lib.study.samples import LARGE, SMALL
from lib.study.subjects import CLEAN

RECORD = 300  # bytes of an answer on record
N_OPTIONS = 24  # objects of notebook 02's other ways of asking, as that notebook has it
FORWARDS = {"pairs": 8, "clean": 3}  # a training example: a backward pass is two; DPO trains two and asks a reference
UNCOUNTED = {
    "10": "the reader's own meshes: not estimated",
    "A1": "trains the generator: hours, not estimated",
    "A2": "trains the judges: hours, not estimated",
}


@dataclass(frozen=True)
class StudySize:
    """What notebooks 04 to 06 make. steps, batch: of a training; probes: settings in which 06 draws objects again."""

    n_eval: int
    n_train: int
    cells: Sequence[Cell] = field(default_factory=lambda: choose_cells("paper"))
    sweep: Sequence[Cell] = field(default_factory=sweep_cells)
    steps: int = 150
    batch: int = 8
    probes: int = 8


@dataclass(frozen=True)
class Step:
    """One line of a plan. operations: floating-point, nan where a model is unknown; kept: bytes that stay on disk."""

    notebook: str
    step: str
    objects: int = 0
    samples: int = 0
    questions: int = 0
    trainings: int = 0
    operations: float = 0.0
    kept: int = 0


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


def count(numbers: Sequence[str], settings: Profile, overrides: Mapping, prices: Prices, size: StudySize) -> list[Step]:
    """The steps of notebooks by their numbers; one that asks no model has a line without counts.

    overrides: parameters of the notebooks; read are layout and n_options. Raises BadInput for an unknown layout.
    """
    layout = overrides.get("layout")
    normals, turntable = layout or "montage", layout or "turntable24"
    n_options = overrides.get("n_options", N_OPTIONS)
    makers = {
        "01": lambda: _protocol(settings, prices),
        "02": lambda: [_controls("02", settings, prices, normals), _options(settings, prices, normals, n_options)],
        "03": lambda: [_seen(settings) if "02" in numbers else _controls("03", settings, prices, normals)],
        "04": lambda: _cells("04", size.cells, size, prices),
        "05": lambda: _cells("05", size.sweep, size, prices),
        "06": lambda: _mechanism(size, prices),
        "07": lambda: _proxies(settings, prices, turntable),
    }
    found = [makers[one]() if one in makers else [Step(one, UNCOUNTED.get(one, "no model"))] for one in numbers]
    return list(chain.from_iterable(found))


def _protocol(settings: Profile, prices: Prices) -> list[Step]:
    n, shown = settings.n_judged, {(mode.case, side) for mode in MODES for side in (mode.warned, mode.fixed)}
    images = 3 * (1 + 3 + 1) + 2 + 1  # three candidates in three layouts, two wrong objects' montages, the photo
    spent = sum(prices.ask(prompt(layout), len(ORDERS) * n) for _, layout in sorted(shown))
    spent += prices.ask(prompt(), len(ORDERS), images * n)
    questions = 2 * len(ORDERS) * (n * len(shown) + 1)
    return [Step("01", "one verdict, three failure modes", n, 0, questions, 0, spent, RECORD * questions)]


CONTROL_PAIRS = comb(1 + N_GRADED, 2) + N_TWINS + 1  # of an object; see `lib.study.pairs.cases`


def _controls(number: str, settings: Profile, prices: Prices, layout: str) -> Step:
    n, asked = settings.n_judged, prompt(layout)
    images = n * ((1 + N_GRADED + N_TWINS) * asked.layout.count + asked.layout.photo)
    each = len(ORDERS) * n * CONTROL_PAIRS
    kept = 2 * each * RECORD + images * 3 * (2 * settings.tile) ** 2
    return Step(number, "controls", n, 0, 2 * each, 0, prices.ask(asked, each, images), kept)


def _seen(settings: Profile) -> Step:
    return Step("03", "the answers of 02", settings.n_judged)


def _options(settings: Profile, prices: Prices, layout: str, n_options: int) -> Step:
    n = min(n_options, settings.n_judged)
    each = len(ORDERS) * n * CONTROL_PAIRS
    ways = [*(prompt(layout, wording) for wording in WORDINGS), prompt(layout, tie=True)]
    spent = sum(prices.ask(way, each) for way in ways)
    return Step("02", "other ways of asking", n, 0, 2 * 2 * each, 0, spent, 2 * 2 * each * RECORD)


def _proxies(settings: Profile, prices: Prices, layout: str) -> list[Step]:
    n, asked = settings.n_judged, prompt(layout)
    each = len(ORDERS) * n * comb(len(ROLES), 2)
    spent = prices.ask(asked, each, n * len(ROLES) * asked.layout.count)
    return [Step("07", "candidates of the companion study", n, 0, 2 * each, 0, spent, 2 * each * RECORD)]


def _regimes(cells: Iterable[Cell]) -> set[tuple]:
    return {(cell.severity, cell.kinds) for cell in cells}


def _cells(number: str, cells: Sequence[Cell], size: StudySize, prices: Prices) -> list[Step]:
    """What the cells learn from, their trainings, their evaluation; see `lib.study.lessons`, `lib.study.adaptation`."""
    return [
        _examples(number, cells, size, prices),
        _trainings(number, cells, size, prices),
        _evaluation(number, cells, size, prices),
    ]


def _examples(number: str, cells: Sequence[Cell], size: StudySize, prices: Prices) -> Step:
    learns = {
        what: _regimes(c for c in cells if METHODS[c.method].learns == what) for what in (*FORWARDS, "conditions")
    }
    pairs, clean = size.n_train * len(learns["pairs"]), size.n_train * bool(learns["clean"])
    photos = REPAIR_PHOTOS * size.n_train * (1 + len(learns["conditions"])) if learns["conditions"] else 0
    samples, questions = 2 * pairs + clean, len(ORDERS) * pairs
    spent = prices.ask(prompt(), questions, 2 * pairs, "X") if pairs else 0.0
    spent += clean and clean * prices.sample(LARGE)
    spent += pairs and pairs * (prices.sample(LARGE) + prices.sample(SMALL))
    spent += photos and photos * prices.encode()
    kept = samples * prices.kept() + questions * RECORD
    return Step(number, "training examples", size.n_train, samples, questions, 0, spent, kept)


def _trainings(number: str, cells: Sequence[Cell], size: StudySize, prices: Prices) -> Step:
    trained = [cell for cell in cells if METHODS[cell.method].learns]
    forwards = [(FORWARDS.get(METHODS[cell.method].learns, 0), cell.stage) for cell in trained]
    spent = sum(size.steps * size.batch * passes * prices.flow(stage) for passes, stage in forwards if passes)
    return Step(number, "training", size.n_train, 0, 0, len(trained), spent)


def _evaluation(number: str, cells: Sequence[Cell], size: StudySize, prices: Prices) -> Step:
    """For every regime the base, another seed, a small budget; for every cell the adapted, or `BEST_OF` of the base."""
    regimes, best = _regimes(cells), sum(cell.stage == SAMPLING for cell in cells)
    clean = CLEAN not in {severity for severity, _ in regimes}  # the headroom needs its samples
    whole = size.n_eval * (len(cells) - best + 2 * len(regimes) + clean + (BEST_OF - 2) * best)
    small = size.n_eval * len(regimes)
    pairs = size.n_eval * (len(cells) + sum(2 + (severity != CLEAN) for severity, _ in regimes))
    rivals = size.n_eval * comb(BEST_OF, 2) * best
    spent = whole * prices.sample() + small * prices.sample(SMALL)
    spent += prices.ask(prompt(), len(ORDERS) * pairs, whole + small, "Y")
    spent += prices.ask(prompt(), len(ORDERS) * rivals, BEST_OF * size.n_eval * best, "X") if best else 0
    questions = len(ORDERS) * (pairs + rivals)
    kept = (whole + small) * prices.kept() + questions * RECORD
    return Step(number, "evaluation", size.n_eval, whole + small, questions, 0, spent, kept)


def _mechanism(size: StudySize, prices: Prices) -> list[Step]:
    samples = size.n_eval * size.probes
    return [Step("06", "wash-out", size.n_eval, samples, 0, 0, samples * prices.sample(), samples * prices.kept())]
