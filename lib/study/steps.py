"""The steps of a run counted ahead: objects, samples, questions, trainings, and the operations that they take.

Counts are upper bounds: what is on record is not asked or drawn again, and pairs without a gap are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, comb

from lib.adapters.objectives import METHODS as OBJECTIVES
from lib.adapters.repair import RepairRecipe
from lib.adapters.train import LoraRecipe
from lib.generator.examine import LARGE, SMALL
from lib.judges.prompts import WORDINGS, prompt
from lib.judges.protocol import ORDERS
from lib.profiles import Profile
from lib.study.adaptation import GATED
from lib.study.cells import BEST_OF, METHODS, SAMPLING, Cell, is_full
from lib.study.failures import MODES
from lib.study.generated import COMPARED
from lib.study.lessons import RECIPES, REPAIR_PHOTOS, REPAIR_STEPS
from lib.study.mechanism import FLOWS, LOCUS, PROBED, REPAIRS, SCALES, SEEDS, SHARE, STEPS
from lib.study.online import EVERY, PHOTOS
from lib.study.pairs import N_GRADED, N_TWINS
from lib.study.prices import Prices, StudySize
from lib.study.proxies import ROLES
from lib.study.subjects import CLEAN

RECORD = 300  # bytes of an answer on record
N_OPTIONS = 24  # objects of notebook 02's other ways of asking, as that notebook has it
GENERATED = "samples of the generator"
PASSES = 4  # of a gradient: forward, again on a GPU, backward is two
UNCOUNTED = {
    "10": "the reader's own meshes: not estimated",
    "A1": "trains the generator: hours, not estimated",
    "A2": "trains the judges: hours, not estimated",
}


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


def count(numbers: Sequence[str], settings: Profile, overrides: Mapping, prices: Prices, size: StudySize) -> list[Step]:
    """The steps of notebooks by their numbers; one that asks no model has a line without counts.

    overrides: parameters of the notebooks; read are layout, n_options and coverage. Raises BadInput for an unknown
    layout or coverage.
    """
    layout = overrides.get("layout")
    normals, turntable = layout or "montage", layout or "turntable24"
    n_options = overrides.get("n_options", N_OPTIONS)
    seen = [Step("03", "the answers of 02", settings.n_judged)]
    first = size.cells if "04" in numbers else []
    full = is_full(overrides.get("coverage") or "paper")
    before = [*first, *(size.sweep if "05" in numbers else [])]
    makers = {
        "01": lambda: _protocol(settings, prices),
        "02": lambda: [*_calibration("02", settings, prices, normals), _options(settings, prices, normals, n_options)],
        "03": lambda: seen if "02" in numbers else _calibration("03", settings, prices, normals),
        "04": lambda: _cells("04", size.cells, [], size, prices),
        "05": lambda: _cells("05", size.sweep, first, size, prices),
        "06": lambda: _mechanism(before, size, prices, full),
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
    walk = Step("01", "walk through the generator", 1, 1, 0, 0, prices.sample())
    return [walk, Step("01", "one verdict, three failure modes", n, 0, questions, 0, spent, RECORD * questions)]


CONTROL_PAIRS = comb(1 + N_GRADED, 2) + N_TWINS + 1  # of an object; see `lib.study.pairs.cases`


def _calibration(number: str, settings: Profile, prices: Prices, layout: str) -> list[Step]:
    """Controls of known damage, and the generator's pairs; see `lib.study.generated.compared`."""
    n, layouts = settings.n_evaluated, {"02": ("montage", "montage_ref")}.get(number, (settings.layout,))
    each = len(ORDERS) * n * len(COMPARED)
    spent = n * (3 * prices.sample() + prices.sample(LARGE) + prices.sample(SMALL))
    spent += sum(prices.ask(prompt(one), each, 5 * n) for one in layouts)
    asked = 2 * each * len(layouts)
    generated = Step(number, GENERATED, n, 5 * n, asked, 0, spent, 5 * n * prices.kept() + asked * RECORD)
    return [_controls(number, settings, prices, layout), generated]


def _controls(number: str, settings: Profile, prices: Prices, layout: str) -> Step:
    n, asked = settings.n_judged, prompt(layout)
    images = n * ((1 + N_GRADED + N_TWINS) * asked.layout.count + asked.layout.photo)
    each = len(ORDERS) * n * CONTROL_PAIRS
    kept = 2 * each * RECORD + images * 3 * (2 * settings.tile) ** 2
    return Step(number, "controls", n, 0, 2 * each, 0, prices.ask(asked, each, images), kept)


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


def _cells(number: str, cells: Sequence[Cell], done: Sequence[Cell], size: StudySize, prices: Prices) -> list[Step]:
    """What cells learn from, their trainings and evaluation; `done` were made before (`lib.study.lessons`)."""
    new = [cell for cell in cells if cell not in done]
    if not new:
        return [Step(number, "the samples and answers of 04", size.n_eval)]
    learning = [_examples(number, new, done, size, prices), _trainings(number, new, size, prices)]
    return [*learning, _evaluation(number, new, done, size, prices)]


def _examples(number: str, cells: Sequence[Cell], done: Sequence[Cell], size: StudySize, prices: Prices) -> Step:
    def new(what: str) -> int:
        """Regimes whose samples are drawn to learn from."""
        learning, learned = ([c for c in part if METHODS[c.method].learns == what] for part in (cells, done))
        return len(_regimes(learning) - _regimes(learned))

    pairs, photos = size.n_train * new("pairs"), size.n_train * (bool(new("clean")) + new("online"))
    questions = len(ORDERS) * pairs
    spent = pairs and pairs * prices.sample(SMALL) + prices.ask(size.asked, questions, size.seen(pairs), "X")
    spent += (pairs + photos) and (pairs + photos) * prices.sample(LARGE)
    samples = 2 * pairs + photos
    kept = samples * prices.kept() + questions * RECORD
    return Step(number, "training examples", size.n_train, samples, questions, 0, spent, kept)


def _trainings(number: str, cells: Sequence[Cell], size: StudySize, prices: Prices) -> Step:
    trained = [(cell, learns) for cell in cells if (learns := METHODS[cell.method].learns)]
    spent, rounds, n = 0.0, 0, size.n_train
    for cell, learns in trained:
        if learns == "conditions":
            spent += 2 * REPAIR_PHOTOS * n * prices.encode()
            spent += (PASSES - 1) * REPAIR_STEPS * size.steps * RepairRecipe.batch * prices.repair()
        else:
            asks = OBJECTIVES[RECIPES[cell.method].method]
            passes = len(asks.reads) * (PASSES + asks.base)
            spent += n * prices.encode() + size.steps * LoraRecipe.batch * passes * prices.flow(cell.stage)
        rounds += ceil(size.steps / EVERY) if learns == "online" else 0
    drawn = 2 * rounds * min(PHOTOS, n)  # two of a photo, compared in both orders
    spent += drawn and drawn * prices.sample() + prices.ask(size.asked, drawn, size.seen(drawn / 2), "X")
    return Step(number, "training", n, drawn, drawn, len(trained), spent, drawn * RECORD)


def _evaluation(number: str, cells: Sequence[Cell], done: Sequence[Cell], size: StudySize, prices: Prices) -> Step:
    """For every regime the base and another seed; for every cell the adapted, or `BEST_OF` of the base."""
    regimes, best = _regimes(cells) - _regimes(done), sum(cell.stage == SAMPLING for cell in cells)
    others = set() if done else {CLEAN, GATED} - {severity for severity, _ in regimes}  # the controls compare these
    samples = size.n_eval * (len(cells) - best + 2 * len(regimes) + len(others) + (BEST_OF - 2) * best)
    pairs = size.n_eval * (len(cells) + sum(2 + (severity != CLEAN) for severity, _ in regimes))
    rivals = size.n_eval * comb(BEST_OF, 2) * best
    spent = samples * prices.sample() + prices.ask(size.asked, len(ORDERS) * pairs, samples + size.n_eval, "Y")
    spent += prices.ask(size.asked, len(ORDERS) * rivals, BEST_OF * size.n_eval * best, "X") if best else 0
    questions = len(ORDERS) * (pairs + rivals)
    kept = samples * prices.kept() + questions * RECORD
    return Step(number, "evaluation", size.n_eval, samples, questions, 0, spent, kept)


def _mechanism(done: Sequence[Cell], size: StudySize, prices: Prices, full: bool) -> list[Step]:
    """Adapters that the notebooks before have not made, and samples at other scales and budgets. full: of coverage."""
    new = [cell for cell in dict.fromkeys([*FLOWS, *LOCUS, *PROBED, *REPAIRS]) if cell not in done]
    again = (SEEDS - 1) * FLOWS if full else []
    steps = [_examples("06", new, done, size, prices)] if new else []
    steps.append(_trainings("06", [*new, *again], size, prices))
    if drawn := size.n_eval * len(again):
        spent, kept = drawn * prices.sample(), drawn * prices.kept()
        steps.append(Step("06", "other training seeds", size.n_eval, drawn, 0, 0, spent, kept))
    drawn = size.n_eval * len(set(new) & {*LOCUS, *REPAIRS} | _regimes([*LOCUS, *REPAIRS]) - _regimes(done))
    questions = len(ORDERS) * size.n_eval * len(set(new) & {*FLOWS})
    spent = drawn and drawn * prices.sample()
    spent += questions and prices.ask(size.asked, questions, size.seen(questions / len(ORDERS)), "Y")
    kept = drawn * prices.kept() + questions * RECORD
    if drawn:
        steps.append(Step("06", "saturation, locus", size.n_eval, drawn, questions, 0, spent, kept))
    some = ceil(size.n_eval / SHARE)
    scaled, each = some * (len(FLOWS) * (len(SCALES) - 1) + (not done)), some * (len(FLOWS) + 2)
    spent = scaled * prices.sample() + each * sum(prices.sample({"steps": number}) for number in STEPS)
    samples = scaled + each * len(STEPS)  # adapted, and of the base with two seeds
    return [*steps, Step("06", "wash-out", some, samples, 0, 0, spent, samples * prices.kept())]
