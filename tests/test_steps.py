"""The steps of a plan: counts against what was recorded and asked."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lib.errors import BadInput
from lib.judges.candidates import Candidate
from lib.judges.known import Known
from lib.profiles import ROOT, load_profile
from lib.study import generated, inventory, pairs
from lib.study.cells import Cell, choose_cells, choose_sweep
from lib.study.pairs import Controls
from lib.study.prices import Prices, StudySize
from lib.study.records import Records
from lib.study.steps import CONTROL_PAIRS, GENERATED, count
from lib.study.subjects import Subject

MINI, PAPER = load_profile("mini"), load_profile("paper")


@cache
def prices(settings) -> Prices:
    """Of the profile's judges and the published generator."""
    names = {"judge X": settings.judge_x, "judge Y": settings.judge_y}
    judges = {role: inventory.judge(role, name, 2 * settings.tile) for role, name in names.items()}
    models, samplers = inventory.generator(PAPER.generator)
    return Prices(judges | {"generator": models[0]}, samplers)


def steps(numbers, settings=MINI, size=None, **overrides):
    return count(numbers, settings, overrides, prices(settings), size or of(choose_cells("paper")))


def of(cells, steps=150) -> StudySize:
    return StudySize("montage", 10, 20, steps, cells, choose_sweep("paper"))


def test_the_plan_counts_the_questions_that_the_committed_run_asked():
    asked = {"01": "01_protocol", "02": "controls", "07": "07_proxies"}
    for number, name in asked.items():
        recorded = len(Records(ROOT / f"results/mini/records/{name}.jsonl").answers)
        planned = sum(step.questions for step in steps([number]) if step.step != GENERATED)
        assert 0.95 * planned <= recorded <= planned, name


def test_an_object_has_as_many_control_pairs_as_the_study_makes_of_it():
    first, twins = pairs.plan([0])
    intact, *graded = (Known(Candidate("chair", {}), error) for error in (0.0, *np.linspace(0.1, 0.6, len(first))))
    made = Controls(None, intact, graded, [(graded[place], graded[place]) for place, _ in twins])
    assert len(pairs.cases([made])) == CONTROL_PAIRS


def test_03_asks_nothing_after_02_and_as_much_as_its_controls_alone():
    alone, again = steps(["03"])
    first, samples, _, after = steps(["02", "03"])
    assert (after.questions, after.operations, after.kept) == (0, 0, 0)
    assert (alone.questions, alone.operations) == (first.questions, first.operations)
    assert (again.samples, 2 * again.questions) == (samples.samples, samples.questions)  # one layout of two


def test_02_draws_the_samples_of_its_pairs_once():
    compared = generated.compared(Subject(None, (0, 0), 64), 0)
    _, made, _ = steps(["02"])
    assert made.samples == MINI.n_evaluated * len({request for pair in compared.values() for request in pair})
    assert made.questions == MINI.n_evaluated * 2 * 2 * 2 * len(compared)  # orders, judges, layouts


def test_overrides_of_profile_and_notebooks_change_the_counts():
    halved = load_profile("mini", n_judged=40)
    assert 2 * steps(["02"], halved)[0].questions == steps(["02"])[0].questions
    assert steps(["02"], n_options=12)[2].questions * 2 == steps(["02"], n_options=24)[2].questions
    assert steps(["03"], layout="seven_images")[0].operations > 2 * steps(["03"])[0].operations
    with pytest.raises(BadInput, match="no layout 'five'"):
        steps(["03"], layout="five")


def test_the_study_is_counted_from_its_cells():
    cells = [Cell("dpo_0.1"), Cell("sft_clean", "severe"), Cell("conditioner_repair", "severe")]
    examples, training, evaluation = steps(["04"], size=of(cells))
    assert (examples.samples, examples.questions) == (2 * 20 + 20, 2 * 20)  # a pair an object, and a clean sample
    assert training.trainings == 3
    with_photo = steps(["04"], size=replace(of(cells), layout="montage_ref"))
    assert with_photo[0].operations > examples.operations
    assert with_photo[2].operations > evaluation.operations
    # three adapted; base and other seed of two regimes; clear gap, no gap, one headroom
    assert evaluation.samples == 10 * (3 + 2 * 2)
    assert evaluation.questions == 2 * 10 * (3 + 2 + 3)


def test_best_of_k_trains_nothing_and_asks_the_training_judge():
    examples, training, evaluation = steps(["04"], size=of([Cell("best_of_k")]))
    assert (examples.samples, training.trainings, training.operations) == (0, 0, 0)
    assert evaluation.samples == 10 * (4 + 1)  # two of the four are the base and the other seed; a severe photo
    assert evaluation.questions == 2 * 10 * (1 + 2 + 6)


def test_full_coverage_and_more_steps_cost_more():
    paper, full = (steps(["04"], size=of(choose_cells(name))) for name in ("paper", "full"))
    assert [step.trainings for step in paper] == [0, 9, 0]
    assert all(more.operations > less.operations for more, less in zip(full, paper, strict=True))
    encoded = 20 * prices(MINI).encode()
    both, slat, structure = (
        steps(["04"], size=of([Cell("orpo", stage=stage)]))[1].operations - encoded
        for stage in ("both", "slat", "structure")
    )
    assert both == pytest.approx(slat + structure)
    longer = steps(["04"], size=of([Cell("orpo")], 300))[1].operations - encoded
    assert longer == pytest.approx(2 * slat)
    dpo, best = (steps(["04"], size=of([Cell(name)]))[1].operations - encoded for name in ("dpo_0.1", "sft_best"))
    assert dpo == pytest.approx(2.5 * best)  # two gradients and two answers of the base, against a gradient


def test_what_04_made_is_not_made_again_in_05_and_06():
    (nothing,) = (step for step in steps(["04", "05"]) if step.notebook == "05")
    assert (nothing.samples, nothing.questions, nothing.operations) == (0, 0, 0)
    later = {step.step: step for step in steps(["04", "06"], coverage="full") if step.notebook == "06"}
    alone = {step.step: step for step in steps(["06"], coverage="full")}
    plain = {step.step: step for step in steps(["06"])}
    assert "other training seeds" not in plain
    assert plain["training"].trainings == 8
    assert (later["training"].trainings, alone["training"].trainings) == (2 + 4, 8 + 4)  # two are of the structure
    assert later["other training seeds"].samples == alone["other training seeds"].samples == 10 * 4
    assert later["training examples"].samples == 0
    assert later["saturation, locus"].samples == 10 * 2
    assert alone["wash-out"].samples - later["wash-out"].samples == 2  # another seed of every fifth object
    sweep = StudySize("montage", 10, 20, 150, choose_cells("paper"), choose_sweep("full"))
    assert sum(step.trainings for step in steps(["04", "05"], size=sweep) if step.notebook == "05") > 3


def test_pairs_made_while_a_flow_learns_are_drawn_and_asked():
    examples, training, _ = steps(["04"], size=of([Cell("dreamdpo")], 41))
    assert (examples.samples, examples.questions) == (20, 0)  # for the probe
    assert (training.samples, training.questions) == (3 * 2 * 16, 3 * 2 * 16)  # rounds of two samples of 16 photos
