"""The judge on a server: against a real HTTP server that serves the mini judge, fails, stalls and answers prose."""

import json
import math
import warnings
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from served import JudgeServer, Reply, brighter, by_model

from lib.data.corrupt import corrupt
from lib.data.procedural import furniture
from lib.errors import BadInput
from lib.judges.candidates import Candidate, Pair, Question, render_candidate
from lib.judges.models import family
from lib.judges.open import open_judge
from lib.judges.prompts import LAYOUTS, prompt
from lib.judges.protocol import judge_pairs
from lib.judges.roles import EvaluationJudge, Scorer, TrainingJudge
from lib.judges.served import ServedJudge, label_shares, read_letter
from lib.judges.training.cases import Case
from lib.judges.vlm import VLMJudge
from lib.profiles import ROOT, load_profile
from lib.study import own, own_tables
from lib.study.own_folders import open_folders
from lib.study.pairs import CLEAR, answered, ask
from lib.study.records import Records

MINI = ROOT / "weights" / "mini" / "judge_y"
PROSE = "The first object looks better to me."


def candidate(level, layout="montage"):
    return Candidate("chair", {layout: [np.full((4, 4, 3), level, np.uint8)] * LAYOUTS[layout].count})


def pairs(count=4):
    """Of rising gap, b darker than a."""
    return [Pair(candidate(200), candidate(190 - 10 * index)) for index in range(count)]


def questions(count=4):
    return [Question(pair, LAYOUTS["montage"], order) for pair in pairs(count) for order in ("ab", "ba")]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Without a key, and without a proxy before the loopback interface."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server():
    with JudgeServer(brighter) as one:
        yield one


def served(server, **options):
    """A judge that has asked its first question, with the server's counts set back."""
    judge = ServedJudge(server.address, **({"pause": 0.01, "timeout": 5.0} | options))
    server.asked.clear()
    server.times.clear()
    return judge


def poisoned(level, reply):
    """Every question that shows a picture of the level gets the reply."""
    return lambda number, images: reply if any(np.asarray(image).flat[0] == level for image in images) else None


@pytest.mark.parametrize("layout", ["montage", "montage_ref"])
def test_the_served_mini_judge_says_what_the_local_one_says(layout, tmp_path):
    local, asked = VLMJudge(MINI, layout), []
    for index in range(3):
        item = furniture("test", index)
        broken = corrupt(item.mesh, "face_drop", 0.8, index).mesh
        a, b = (render_candidate(item.id, mesh, 56, (layout,)) for mesh in (item.mesh, broken))
        asked.append(Pair(a, b, np.full((112, 112, 3), 200 - index, np.uint8)))
    with JudgeServer(by_model(local)) as server:
        judge = ServedJudge(server.address, layout)
        assert judge.sampling["top_logprobs"] == 20
        there = judge_pairs(judge, asked, Records(tmp_path / "there.jsonl"))
    here = judge_pairs(local, asked, Records(tmp_path / "here.jsonl"))
    assert [one.outcome for one in there] == [one.outcome for one in here]
    assert len({one.ab.p for one in here}) == 3
    for one, other in zip(there, here, strict=True):
        for order in ("ab", "ba"):
            answers = [getattr(verdict, order) for verdict in (one, other)]
            assert answers[0].p == pytest.approx(answers[1].p, abs=1e-3)
            assert answers[0].mass == pytest.approx(answers[1].mass, abs=1e-3)


def test_the_parts_of_the_prompt_and_the_images_arrive_in_their_order(server):
    seen = []
    server.misbehave = lambda number, images: seen.append([int(np.asarray(image)[0, 0, 0]) for image in images])
    judge = served(server, layout="montage_ref")
    pair = Pair(candidate(10, "montage_ref"), candidate(20, "montage_ref"), np.full((4, 4, 3), 99, np.uint8))
    judge.ask([Question(pair, judge.layout, "ba")])
    assert seen[-1] == [99, 20, 10]
    (turn,) = server.asked[0]["messages"]
    parts = ["image" if part["type"] == "image_url" else part["text"] for part in turn["content"]]
    assert parts == [{"<": "image"}.get(part[0], part) for part in prompt("montage_ref").parts]
    assert (server.asked[0]["model"], server.asked[0]["temperature"], server.asked[0]["max_tokens"]) == (
        "judge_y",
        0,
        1,
    )


def test_probabilities_are_the_labels_share_of_the_likeliest_tokens(server):
    (answer, *_) = served(server).ask(questions(1))
    p = 1 / (1 + math.exp(-1))  # the first is brighter by 10
    assert answer.p == pytest.approx((p, 1 - p), abs=1e-6)
    assert answer.mass == pytest.approx(0.9, abs=1e-6)
    assert label_shares({"A": math.log(0.5), " A\n": math.log(0.25), "a": -1.0, "AB": -1.0}, ("A", "B")) == [0.75, 0]


@pytest.mark.parametrize(
    ("most", "refuses", "sampling"),
    [
        (20, True, {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}),
        (8, True, {"max_tokens": 1, "logprobs": True, "top_logprobs": 5}),
        (8, False, {"max_tokens": 1, "logprobs": True, "top_logprobs": 5}),
        (0, True, {"max_tokens": 8}),
        (0, False, {"max_tokens": 8}),
    ],
)
def test_log_probabilities_are_used_where_offered_else_a_letter_is_read(server, most, refuses, sampling):
    server.most, server.refuses = most, refuses
    judge = served(server)
    assert judge.sampling == {"temperature": 0} | sampling
    answer, other = judge.ask(questions(1))
    if "logprobs" in sampling:
        assert 0.5 < answer.p[0] < 1
    else:
        assert (answer.p, answer.mass, other.p) == ((1, 0), 1, (0, 1))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(
            (text, "A")
            for text in ("A", " A.", "A\n", "**A**", "(A)", '"A"', "Image A", "Answer: A", "A\nIt is better")
        ),
        *(
            (text, "B")
            for text in ("B", "The answer is B.", "the correct answer is: **B**", "**Answer:** B", "Object B")
        ),
        *((text, None) for text in ("", "C", "a", "A chair with", "A or B", "AB", "Neither", "Image A is", PROSE)),
    ],
)
def test_a_letter_is_read_strictly(text, letter):
    assert read_letter(text, ("A", "B")) == letter


def test_prose_is_an_abstention_on_record_and_not_asked_again(server, tmp_path):
    server.most = 0
    judge = served(server)
    server.misbehave = poisoned(170, Reply(text=PROSE))
    with pytest.warns(UserWarning, match="looks better to me.*abstention"):
        verdicts = judge_pairs(judge, pairs(), Records(tmp_path / "r.jsonl"))
    assert [one.outcome for one in verdicts] == ["win", "win", "abstention", "win"]
    assert verdicts[2].averaged == "abstention"
    assert (verdicts[2].ab.pick, verdicts[2].ab.mass, len(verdicts[2].ab.p)) == (None, 0, 2)
    lines = [line for line in map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines()) if "key" in line]
    assert [line["p"] for line in lines].count([None, None]) == 2
    server.asked.clear()
    assert judge_pairs(judge, pairs(), Records(tmp_path / "r.jsonl")) == verdicts
    assert server.asked == []


def test_no_label_among_the_likeliest_tokens_is_an_abstention(server):
    judge = served(server)
    server.tokens = lambda messages, images: {"Both": -0.1, "Neither": -2.0}
    (answer,) = judge.ask(questions(1)[:1])
    assert (answer.pick, answer.mass) == (None, 0)


def test_an_abstention_in_one_order_alone_is_no_flip(server, tmp_path):
    server.most = 0
    judge = served(server)
    server.misbehave = lambda number, images: Reply(text=PROSE) if np.asarray(images[0]).flat[0] < 200 else None
    with warnings.catch_warnings(action="ignore"):
        (verdict,) = judge_pairs(judge, pairs(1), Records(tmp_path / "r.jsonl"))
    assert (verdict.ab.pick, verdict.ba.pick, verdict.outcome) == (0, None, "abstention")


def test_wordings_are_averaged_over_those_that_name_a_label(server):
    server.most = 0
    judge = served(server, wordings=("better", "faults", "choose"), concurrency=1)
    server.misbehave = lambda number, images: Reply(text=("A", "B", PROSE)[(number - 1) % 3])
    with warnings.catch_warnings(action="ignore"):
        (answer,) = judge.ask(questions(1)[:1])
    assert (answer.p, answer.mass) == ((0.5, 0.5), pytest.approx(2 / 3, abs=1e-6))
    assert [one["id"] for one in judge.settings["prompts"]] == ["montage/better", "montage/faults", "montage/choose"]


def test_a_tie_label_is_a_third_probability(server):
    judge = served(server).asking(tie=True)
    server.tokens = lambda messages, images: {"C": math.log(0.5), "A": math.log(0.25), "B": math.log(0.25)}
    assert judge.ask(questions(1))[0].p == (0.25, 0.25, 0.5)


def test_a_server_that_fails_for_a_while_is_asked_again(server):
    judge = served(server, concurrency=1)
    server.misbehave = lambda number, images: Reply(status=500 if number == 1 else 503) if number < 3 else None
    assert judge.ask(questions(1)[:1])[0].pick == 0
    first, second, third = server.times
    assert third - first > second - first >= 0.01


def test_a_server_that_keeps_failing_gets_so_many_attempts_and_is_named(server):
    judge = served(server, attempts=3)
    server.misbehave = lambda number, images: Reply(status=500)
    (failure,) = judge.ask(questions(1)[:1])
    assert isinstance(failure, BadInput)
    assert len(server.asked) == 3
    assert failure.source == server.url
    assert "500" in failure.problem
    assert "told to" in failure.problem


@pytest.mark.parametrize("as_date", [False, True])
def test_a_busy_server_says_when_to_come_back_and_is_left_alone_until_then(server, as_date):
    judge = served(server)
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    wait = {"Retry-After": then if as_date else "1"}
    server.misbehave = lambda number, images: Reply(status=429, headers=wait) if number == 1 else None
    assert judge.ask(questions(1)[:1])[0].pick == 0
    assert server.times[1] - server.times[0] >= 0.9


def test_a_server_that_asks_for_an_hour_is_given_up_at_once(server):
    judge = served(server)
    server.misbehave = lambda number, images: Reply(status=429, headers={"Retry-After": "3600"})
    (failure,) = judge.ask(questions(1)[:1])
    assert "429" in failure.problem
    assert len(server.asked) == 1


def test_a_stalling_server_is_asked_again_and_then_named(server):
    judge = served(server, timeout=0.3, attempts=2)
    server.misbehave = lambda number, images: Reply(seconds=1.0) if number != 2 else None
    assert judge.ask(questions(1)[:1])[0].pick == 0
    (failure,) = judge.ask(questions(1)[:1])
    assert "no answer in 0.3 s" in failure.problem


def test_one_question_that_fails_loses_no_other_and_a_rerun_asks_only_the_rest(server, tmp_path):
    judge = served(server, attempts=2, concurrency=2)
    server.misbehave = poisoned(180, Reply(status=500))
    with pytest.raises(BadInput, match=r"failed several times.*500.*only the rest is asked"):
        judge_pairs(judge, pairs(4), Records(tmp_path / "r.jsonl"))
    assert len(Records(tmp_path / "r.jsonl").answers) == 6
    server.misbehave = lambda number, images: None
    server.asked.clear()
    verdicts = judge_pairs(judge, pairs(4), Records(tmp_path / "r.jsonl"))
    assert [one.outcome for one in verdicts] == ["win"] * 4
    assert len(server.asked) == 2


def test_batches_after_a_failure_are_not_asked(server, tmp_path):
    judge = served(server, attempts=1, concurrency=1)  # batches of four questions
    server.misbehave = poisoned(180, Reply(status=500))
    with pytest.raises(BadInput):
        judge_pairs(judge, pairs(6), Records(tmp_path / "r.jsonl"))
    assert len(server.asked) == judge.batch == 4


def test_no_more_questions_are_on_their_way_than_allowed(server):
    judge = served(server, concurrency=3)
    server.misbehave = lambda number, images: Reply(seconds=0.1)
    assert len(judge.ask(questions(6))) == 12
    assert server.at_once == 3
    with pytest.raises(BadInput, match="concurrency"):
        ServedJudge(server.address, concurrency=0)


def test_answers_keep_the_order_of_the_questions_however_they_arrive(server):
    judge = served(server)
    asked = questions(4)
    alone = [judge.ask([one])[0].p for one in asked]
    server.misbehave = lambda number, images: Reply(seconds=0.02 * (17 - number))
    assert [one.p for one in judge.ask(asked)] == alone
    assert len(set(alone)) == 8
    assert judge.ask([]) == []


def test_an_address_where_nothing_answers_is_named():
    with JudgeServer(brighter) as server:
        address = server.address
    with pytest.raises(BadInput, match=r"127\.0\.0\.1.*cannot be reached.*Start the server"):
        ServedJudge(address)
    with pytest.raises(BadInput, match="is no address"):
        ServedJudge("http://host:port/v1#model")


@pytest.mark.parametrize("name", ["other", ""])
def test_a_model_that_is_not_served_is_refused_with_those_that_are(server, name):
    with pytest.raises(BadInput, match=r"Write http://\S+/v1#MODEL with one of: judge_y"):
        ServedJudge(f"{server.url}#{name}")
    assert server.asked == []


def test_a_page_that_is_no_api_is_told_apart(server):
    for path in ("", "/version"):
        with pytest.raises(BadInput, match=r"does not speak OpenAI's API.*http://host:8000/v1#model"):
            ServedJudge(server.address.replace("/v1", path))


def test_a_server_that_takes_no_images_or_too_few_is_refused_before_any_question(server):
    server.images = 1
    with pytest.raises(BadInput, match=r"does not take 2 images.*at most 1 images.*vision-language"):
        ServedJudge(server.address)
    server.images = 2
    judge = served(server).asking("seven_images")
    pair = Pair(candidate(10, "seven_images"), candidate(20, "seven_images"), np.zeros((4, 4, 3), np.uint8))
    (failure,) = judge.ask([Question(pair, judge.layout, "ab")])
    assert "at most 2 images" in failure.problem
    assert len(server.asked) == 1


def test_the_key_is_sent_and_never_recorded(server, monkeypatch, tmp_path):
    server.key = "sk-secret-4711"
    with pytest.raises(BadInput, match=r"asks for a key \(401\).*OPENAI_API_KEY"):
        ServedJudge(server.address)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(BadInput, match="refuses the key that was sent"):
        ServedJudge(server.address)
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    judge_pairs(served(server), pairs(1), Records(tmp_path / "r.jsonl"))
    assert server.key not in (tmp_path / "r.jsonl").read_text()


def test_credentials_in_the_address_stay_out_of_settings_and_errors(server):
    address = server.address.replace("http://", "http://me:sk-secret-4711@")
    judge = ServedJudge(address, pause=0.01, attempts=1)
    assert "secret" not in json.dumps(judge.settings)
    server.misbehave = lambda number, images: Reply(status=500)
    (failure,) = judge.ask(questions(1)[:1])
    assert "secret" not in str(failure)


def test_settings_tell_what_can_change_an_answer_and_nothing_else(server):
    judge = served(server)
    settings = json.loads(json.dumps(judge.settings))
    facts = {"url": server.url, "root": "org/InternVL-mini", "parent": None, "owned_by": "test", "version": "1.2.3"}
    assert settings["server"] == facts
    assert (settings["model"], settings["family"]) == ("judge_y", "internvl")
    assert settings["prompts"] == [{"id": "montage/better", "digest": prompt().digest, "text": str(prompt())}]
    assert served(server, concurrency=2, timeout=9.0).settings == judge.settings
    assert judge.asking("splat").settings != judge.settings
    server.most = 0
    assert served(server).settings != judge.settings


@pytest.mark.parametrize(
    ("name", "lineage"),
    [
        ("Qwen2.5-VL-7B-Instruct", "qwen"),
        ("qwen2.5vl:7b", "qwen"),
        ("InternVL3-8B-hf", "internvl"),
        ("gpt-4o", "gpt"),
        ("4711", ""),
    ],
)
def test_the_family_of_a_name_is_that_of_the_model_type(name, lineage):
    assert family(name) == lineage


def test_a_served_relative_of_the_training_judge_may_not_score_under_another_name(server):
    server.root = "/models/Qwen2.5-VL-7B-Instruct/"
    judge = served(server)
    local = TrainingJudge(SimpleNamespace(family=family("qwen2_5_vl")))
    with pytest.raises(BadInput, match="family qwen"):
        Scorer(EvaluationJudge(judge), local)


def test_the_study_asks_a_served_judge_and_counts_its_abstentions_apart(server, tmp_path):
    server.most = 0
    server.misbehave = poisoned(180, Reply(text=PROSE))
    cases = [Case(CLEAR, "montage", pair, 0.3) for pair in pairs(4)]
    with warnings.catch_warnings(action="ignore"):
        answers = ask({"Y": served(server)}, cases, Records(tmp_path / "r.jsonl"))
    assert answers.outcome.tolist() == ["win", "abstention", "win", "win"]
    assert answers[["p_ab", "p_ba", "p_a", "right"]].isna().all(axis=1).tolist() == [False, True, False, False]
    assert (answered(answers).right == 1).all()


def test_notebook_10_audits_and_compares_with_a_served_judge(server, tmp_path):
    for index, side in enumerate("AB"):
        (tmp_path / side).mkdir()
        for name in "abc":
            trimesh.creation.box((0.4 + 0.2 * index, 0.5, 1)).export(tmp_path / side / f"{name}.ply")
    settings, records = load_profile("smoke"), Records(tmp_path / "own.jsonl")
    folders = open_folders(tmp_path / "A", tmp_path / "B")
    server.most = 0
    judge = own.open_judge(server.address, folders.layout, settings)
    controls = own.audit(judge, folders, settings, records)
    server.misbehave = lambda number, images: Reply(text=PROSE)
    with warnings.catch_warnings(action="ignore"):
        answers, _ = own.compare(judge, folders, settings, records)
    gates = own_tables.gates(controls, 0)
    row = own_tables.summary(judge, answers, gates, 0).iloc[0]
    assert (row.judge, row.abstained, row.n, row.flips) == ("judge_y", 3, 0, 0)
    assert own_tables.audit_table(controls, 0).abstained.sum() == 0
    server.misbehave = lambda number, images: Reply(status=500)
    again, _ = own.compare(judge, folders, settings, records)
    assert again.equals(answers)


def test_a_judge_is_opened_by_folder_hub_id_or_address(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert open_judge(server.address, "montage_ref").layout.name == "montage_ref"
    local = open_judge("weights/mini/judge_y")
    assert (type(local), local.family) == (VLMJudge, "internvl")
    opened = []
    monkeypatch.setattr("lib.judges.open.VLMJudge", lambda model, layout: opened.append(str(model)))
    (tmp_path / "mine").mkdir()
    for name in ("mine", "owner/name", tmp_path / "mine"):
        open_judge(name)
    assert opened == ["mine", "owner/name", str(tmp_path / "mine")]
    for name in ("nonsense", "some/folder/gone"):
        with pytest.raises(BadInput, match=f"'{name}' is neither a folder nor a hub id"):
            open_judge(name)
