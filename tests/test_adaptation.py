"""The adaptation study on a tiny generator of random weights: who labels, who scores, what is on record, the tables."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_study import tiny_study, undecided, write_generator

from lib.errors import BadInput
from lib.generator.examine import LARGE
from lib.judges.roles import TrainingJudge
from lib.study import adaptation, adapters, lessons, online, samples, win_rates
from lib.study.adaptation import HEADROOM, Study, control
from lib.study.cells import METHODS, Cell, choose_cells, full_cells, further_cells, paper_cells, sweep_cells
from lib.study.online import Loop, OnlinePairs
from lib.study.pairs import CLEAR, NO_GAP


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def study(tmp_path, folder):
    with tiny_study(tmp_path, folder) as opened:
        yield opened


def table(study, cells):
    answers, truth = study.score(study.cell_pairs(cells) + study.control_pairs(cells))
    return win_rates.win_rates(answers, truth, cells, study.seconds(cells), study.settings.seed)


def test_the_papers_table_has_its_nine_cells_with_what_the_paper_printed(study, monkeypatch):
    monkeypatch.setattr(study, "subjects", study.subjects[:1])
    cells = [Cell("sft_best"), Cell("conditioner_repair", "severe"), Cell("best_of_k")]
    found = table(study, cells)
    assert found.method.tolist() == ["sft_best", "conditioner_repair", "best_of_k"]
    assert (found.wins + found.losses + found.flips == found.n).all()
    assert found.paper_win.tolist()[:2] == [0, 0.5]
    assert np.isnan(found.paper_win[2])
    assert found.paper_geometry_delta.tolist()[:2] == [-0.06, 0.06]
    assert found.seconds[2] == 0 < found.seconds[1]
    assert len(paper_cells()) == 9


def test_a_second_run_trains_draws_and_asks_nothing(study, monkeypatch):
    cells = [Cell("dpo_0.1", "severe")]
    study.subjects = study.subjects[:1]
    before, facts = table(study, cells), study.facts(cells)
    for when in ("before", "after"):
        (each,) = facts[f"each_{when}"]
        assert np.mean(each) == pytest.approx(facts[f"probe_{when}"][0], rel=1e-5)
    shutil.rmtree(study.settings.cache_dir)
    for module, name in ((samples, "draw"), (adapters, "_train")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it is on record"))
    later = replace(Study.open(study.settings, workers=1), subjects=study.subjects)
    for judge in (later.scorer.judge, later.school.judge.judge):
        monkeypatch.setattr(judge, "ask", lambda *_: pytest.fail("it is on record"))
    pd.testing.assert_frame_equal(table(later, cells), before)


def test_the_longest_training_begins_first(study, monkeypatch):
    cells = [
        Cell("conditioner_repair", "severe"),
        Cell("sft_clean", "mild"),
        Cell("sft_clean", "mild", stage="both"),
        Cell("dpo_0.1"),
        Cell("dreamdpo"),
    ]
    begun = []
    monkeypatch.setattr(adapters, "_train", lambda *job: begun.append(job[5].name) or [adapters.UNTAUGHT])
    names = [study.school.adapter(cell) for cell in cells]
    study.school.workshop.make(names)
    assert begun == names[::-1]


def test_an_adapter_is_trained_again_where_a_sample_of_it_is_needed(study):
    cell = Cell("sft_clean", "mild")
    request = study.adapted(cell)[0]
    first = study.sampler.drawn(request)
    shutil.rmtree(study.settings.cache_dir)
    again = study.sampler.drawn(request)
    assert np.array_equal(again.slat, first.slat)
    assert not np.array_equal(study.sampler.drawn(replace(request, adapter=None)).slat, first.slat)


def test_flips_are_not_lessons_and_winners_are_the_judges(study, monkeypatch):
    said = iter(["win", "flip", "loss"])

    class Said:
        def __init__(self):
            self.outcome = next(said)

    monkeypatch.setattr(lessons, "label", lambda judge, asked, *_: [Said() for _ in asked])
    monkeypatch.setattr(lessons, "make_cases", stand_in)
    monkeypatch.setattr(lessons, "LARGE", LARGE)
    labelled = study.school.labelled("severe")
    taught = labelled.lessons
    assert [one.winner.steps for one in taught] == [25, 2]
    assert all(one.photo.severity == one.loser.severity == "severe" for one in taught)
    counted = {"pairs": 3, "usable": 3, "wins": 1, "losses": 1, "flips": 1}
    assert labelled.counts() == counted | {"truth_wins": 2, "right": 2}


def stand_in(sampler, asked):
    """The larger budget is the better one of the first two objects."""
    frame = pd.DataFrame({"share_a": 1.0, "share_b": 1.0, "f_score_a": 0.5}, index=range(len(asked)))
    frame["f_score_b"] = [0.4, 0.4, *[0.6] * (len(asked) - 2)]
    return [type("Case", (), {"pair": None}) for _ in asked], frame


def test_a_method_whose_judge_only_flips_has_an_empty_row_that_says_so(study, monkeypatch):
    monkeypatch.setattr(lessons, "label", undecided)
    monkeypatch.setattr(study, "subjects", study.subjects[:1])
    cells = [Cell("orpo"), Cell("sft_best", stage="both")]
    found = table(study, cells)
    assert found.n.tolist() == found.flips.tolist() == found.seconds.tolist() == [0, 0]
    assert found[["win_all", "win_half", "truth_win", "geometry_delta"]].isna().all(axis=None)
    trained = study.training(cells)
    assert trained.note.tolist() == ["no lessons"] * 2
    assert trained.stage.tolist() == ["slat", "both"]
    assert trained.examples.tolist() == [0, 0]


def test_online_pairs_are_asked_of_judge_x_while_the_flow_learns_and_repeat(study, monkeypatch):
    cell = Cell("dreamdpo")
    name = study.school.adapter(cell)
    (fact,) = study.facts([cell]).itertuples()
    records = study.school.records
    records.refresh()
    shown = [one["is"] for one in records.constants.values() if one["kind"] == "candidate"]
    assert {(one["adapter"], one["stage"]) for one in shown} == {(name, "slat")}
    assert sorted(one["step"] for one in shown) == [0, 0, 1, 1], "one photo of two is held out"
    assert len({one["seed"] for one in shown}) == 4
    assert (fact.asked, fact.examples) == (2, 2)
    assert fact.each_after != fact.each_before
    weights = study.school.workshop.folder(name) / "slat_flow_model/adapter_model.safetensors"
    first = weights.read_bytes()
    shutil.rmtree(study.settings.cache_dir)
    monkeypatch.setattr(study.school.judge.judge, "ask", lambda *_: pytest.fail("it is on record"))
    later = Study.open(study.settings, workers=1)
    assert later.school.adapter(cell) == name
    later.school.workshop.make([name])
    assert weights.read_bytes() == first


def test_an_online_adapter_is_another_one_by_another_judge(study):
    other = TrainingJudge(type("Other", (), {"settings": {"weights": "others"}}))
    schools = study.school, replace(study.school, judge=other)
    ids = [[school.adapter(cell) for cell in (Cell("dreamdpo"), Cell("sft_clean", "mild"))] for school in schools]
    assert ids[0][0] != ids[1][0]
    assert ids[0][1] == ids[1][1], "no judge taught it"


def test_online_pairs_that_all_flip_teach_nothing(study, monkeypatch):
    monkeypatch.setattr(online, "label", undecided)
    cell = Cell("dreamdpo", "mild")
    assert study.cell_pairs([cell]) == []
    (fact,) = study.facts([cell]).itertuples()
    assert (fact.examples, fact.asked) == (0, 2)
    assert fact.each_before == fact.each_after
    assert study.training([cell]).note.tolist() == ["no lessons"]


def test_the_last_pairs_stay_where_a_round_has_none(monkeypatch):
    rounds = iter([[], ["first"], [], ["second"]])
    monkeypatch.setattr(OnlinePairs, "_round", lambda *_: next(rounds))
    pool = OnlinePairs(None, [], "slat", "", Loop("", "montage", "", None, 8, True, every=2))
    assert [pool(step) for step in range(8)] == [[]] * 2 + [["first"]] * 4 + [["second"]] * 2


def test_controls_exist_once_a_regime_and_headroom_where_the_photo_is_bad(study):
    asked = study.control_pairs([Cell("orpo"), Cell("sft_best"), Cell("orpo", "mild")])
    names = pd.Series([name for name, *_ in asked]).value_counts().to_dict()
    expected = [control(CLEAR, "clean"), control(NO_GAP, "clean")]
    expected += [control(name, "mild") for name in (CLEAR, NO_GAP, HEADROOM)]
    assert names == dict.fromkeys(expected, 2)


def test_relatives_may_not_label_and_score(study):
    settings = replace(study.settings, judge_y=study.settings.judge_x)
    with pytest.raises(BadInput, match="famil"):
        Study.open(settings, workers=1)


def test_a_plain_run_shows_what_a_run_of_full_coverage_has_finished(study):
    paper, full = choose_cells("paper"), choose_cells("full")
    assert study.and_finished(paper, full) == paper
    study.finish([*paper, Cell("orpo", "mild")])
    before, later = study.finished.path.read_bytes(), Study.open(study.settings, workers=1)
    later.finish(paper)
    assert later.finished.path.read_bytes() == before, "nothing new is nothing to write"
    found = later.and_finished(paper, full)
    assert set(found) == {*paper, Cell("orpo", "mild")}
    assert found == [cell for cell in full if cell in found], "in the order of full coverage, whatever was first"
    assert later.and_finished(full, full) == full
    other = Study.open(replace(study.settings, train_steps=3), workers=1)
    assert other.and_finished(paper, full) == paper, "with other settings it is not finished"


def test_training_and_evaluation_objects_differ(study, monkeypatch):
    assert not {one.item.id for one in study.school.subjects} & {one.item.id for one in study.subjects}
    fresh = Study.open(study.settings, workers=1)
    monkeypatch.setattr(lessons, "training_subjects", lambda *_: fresh.subjects)
    with pytest.raises(BadInput, match="in both sets"):
        fresh.school.subjects  # noqa: B018


def test_cells_that_mean_nothing_or_are_unknown_are_refused():
    with pytest.raises(BadInput, match="clean photos are given"):
        Cell("conditioner_repair")
    with pytest.raises(BadInput, match="sft_best"):
        Cell("sft")
    with pytest.raises(BadInput, match="paper, full"):
        choose_cells("all")
    everything = full_cells()
    assert len(set(everything)) == len(everything) == 22
    assert {cell.method for cell in everything} == {name for name, one in METHODS.items() if one.paper}
    assert set(paper_cells()) <= set(everything)
    assert not set(further_cells()) & set(everything)
    assert len(sweep_cells()) == 12


def test_best_of_k_takes_the_favorite(study, monkeypatch):
    """Judge X is made to like one seed of each object."""
    liked = {one.item.id: study.settings.seed + place + 1 for place, one in enumerate(study.subjects)}

    def cases(sampler, asked):
        return [type("Case", (), {"pair": (a, b)}) for _, a, b in asked], None

    def frame(judge, cases, verdicts):
        outcomes = []
        for case in cases:
            a, b = (liked[one.subject.item.id] == one.seed for one in case.pair)
            outcomes.append("win" if a else "loss" if b else "flip")
        return pd.DataFrame({"outcome": outcomes, "p_a": 0.5})

    monkeypatch.setattr(adaptation, "make_cases", cases)
    monkeypatch.setattr(adaptation, "label", lambda *_: None)
    monkeypatch.setattr(adaptation, "answer_frame", frame)
    chosen = study.adapted(Cell("best_of_k"))
    assert {one.subject.item.id: one.seed for one in chosen} == liked


def test_the_gates_of_a_row_are_those_of_its_regime():
    cell, other = Cell("orpo"), Cell("orpo", "mild")
    rows = [(control(CLEAR, "clean"), "win")] * 20 + [(control(CLEAR, "mild"), "loss")] * 20
    rows += [(control(NO_GAP, where), outcome) for where in ("clean", "mild") for outcome in ("win", "loss") * 10]
    answers = pd.DataFrame(rows, columns=["case", "outcome"]).assign(object=lambda frame: frame.index)
    good, bad = (win_rates.control_gates(answers, one, 0) for one in (cell, other))
    assert good == {"clear_gap": "passed", "no_gap": "passed", "interpretable": True}
    assert bad == {"clear_gap": "failed", "no_gap": "passed", "interpretable": False}


def test_table_2_adds_headroom_features_and_the_trend():
    cells = [Cell("conditioner_repair", severity) for severity in ("mild", "medium", "severe")]
    wins = dict(zip(cells, (2, 10, 18), strict=True))
    rows, n = [], 20
    for cell in cells:
        for name, won in (
            (cell.name, wins[cell]),
            (control(CLEAR, cell.severity), 20),
            (control(NO_GAP, cell.severity), 10),
            (control(HEADROOM, cell.severity), 15),
        ):
            rows += [(name, f"object {i}", "win" if i < won else "loss") for i in range(n)]
    answers = pd.DataFrame(rows, columns=["case", "object", "outcome"])
    truth = answers.assign(**{f"{name}_{side}": 0.5 for name in ("chamfer", "validity") for side in "ab"})
    truth = truth.assign(f_score_a=np.where(answers.outcome == "win", 0.9, 0.1), f_score_b=0.5)
    facts = pd.DataFrame({"mse_before": [0.1, 0.2, 0.3], "mse_after": [0.05, 0.1, 0.15], "seconds": 1.0})
    found = win_rates.sweep(answers, truth, cells, facts, 0)
    assert found.headroom.tolist() == found.headroom_truth.tolist() == [0.75] * 3
    assert found.win_half.tolist() == found.truth_win.tolist() == [0.1, 0.5, 0.9]
    assert found.feature_mse_after.tolist() == [0.05, 0.1, 0.15]
    assert found.paper_clear_gap.tolist() == [1, 0.5, 0.83]
    assert found.paper_mse_after.tolist() == [0.047, 0.226, 0.503]
    assert found.trend_p[0] < 1e-4
    assert found.interpretable.all()
    assert found.p_065.between(0, 1).all()
    assert (found.p_holm >= found.p_half).all()
