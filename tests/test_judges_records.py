import json
import multiprocessing
import os
import subprocess
import time

import numpy as np
import pytest
from test_judges_protocol import Brightness, pairs

from lib.errors import BadInput
from lib.judges.protocol import judge_pairs
from lib.study import records
from lib.study.records import Records

PROCESSES = multiprocessing.get_context("fork")  # a second process without importing everything again
COUNT = 60  # pairs, 30 batches


class Slow(Brightness):
    """Takes its time, and notes every question that it is asked in a file of its own."""

    def __init__(self, diary, **options):
        super().__init__(**options)
        self.diary = diary

    def ask(self, questions):
        time.sleep(0.01)
        with open(self.diary, "a") as diary:
            for question in questions:
                a, b = (int(one.pictures(self.layout)[0].pixels[0, 0, 0]) for one in (question.pair.a, question.pair.b))
                print(os.getpid(), a, b, question.order, file=diary)
        return super().ask(questions)


def run(path, diary):
    judge_pairs(Slow(diary), pairs(COUNT, step=2), Records(path))


def start(path, diary):
    process = PROCESSES.Process(target=run, args=(path, diary))
    process.start()
    return process


def whole_lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def check_complete(path):
    """Nothing lost, nothing twice, and the verdicts of an undisturbed run."""
    lines = whole_lines(path)
    keys = [line["key"] for line in lines if "key" in line]
    ids = [line["id"] for line in lines if "id" in line]
    assert len(keys) == len(set(keys)) == 2 * COUNT
    assert len(ids) == len(set(ids))
    judge = Brightness()
    undisturbed = judge_pairs(Brightness(), pairs(COUNT, step=2), Records(path.with_name("undisturbed.jsonl")))
    assert judge_pairs(judge, pairs(COUNT, step=2), Records(path)) == undisturbed
    assert judge.asked == []


def test_killed_again_and_again_nothing_is_lost_and_nothing_on_record_is_asked_again(tmp_path):
    path, diary = tmp_path / "r.jsonl", tmp_path / "diary"
    draws, kills = np.random.default_rng(0), 0
    while True:
        known = set(Records(path).answers)
        size = path.stat().st_size if known else 0
        diary.unlink(missing_ok=True)
        process = start(path, diary)
        while process.is_alive() and not (path.exists() and path.stat().st_size > size):
            time.sleep(0.001)
        time.sleep(draws.uniform(0, 0.03))
        process.kill()  # SIGKILL
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
        recorded = set(Records(path).answers)
        assert known <= recorded
        asked = diary.read_text().splitlines()
        assert len(asked) - len(recorded - known) <= 4  # only the batch under way is lost
    assert kills >= 3
    check_complete(path)


def test_two_processes_at_once_share_the_work_and_write_each_answer_once(tmp_path):
    path, diary = tmp_path / "r.jsonl", tmp_path / "diary"
    processes = [start(path, diary) for _ in range(2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    check_complete(path)
    by_process = [line.split()[0] for line in diary.read_text().splitlines()]
    assert len(set(by_process)) == 2
    assert len(by_process) < 1.5 * 2 * COUNT


def write(path, name):
    records = Records(path)
    for index in range(60):
        line = {"judge": "j", "a": "a", "b": "b"}
        records.add([{"key": f"{name}{index}", **line}, {"key": f"shared{index}", **line}])


def test_writers_without_a_pause_lose_and_double_nothing(tmp_path):
    path = tmp_path / "r.jsonl"
    processes = [PROCESSES.Process(target=write, args=(path, name)) for name in "xyz"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    keys = [line["key"] for line in whole_lines(path) if "key" in line]
    assert sorted(keys) == sorted(f"{name}{index}" for name in ("x", "y", "z", "shared") for index in range(60))


def test_one_of_two_processes_is_killed_and_the_other_finishes(tmp_path):
    path, diary = tmp_path / "r.jsonl", tmp_path / "diary"
    victim, other = (start(path, diary) for _ in range(2))
    time.sleep(0.06)
    victim.kill()  # SIGKILL
    other.join(60)
    assert other.exitcode == 0
    check_complete(path)


def test_a_last_line_cut_anywhere_is_repaired_and_asked_again(tmp_path):
    path = tmp_path / "r.jsonl"
    judge_pairs(Brightness(), pairs(2), Records(path))
    text = path.read_bytes()
    last = text.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(text)):
        path.write_bytes(text[:end])
        judge = Brightness()
        judge_pairs(judge, pairs(2), Records(path))
        assert judge.asked == [1]
        lines = whole_lines(path)
        assert len({line["key"] for line in lines if "key" in line}) == 4


def test_a_file_cut_within_its_constants_gets_them_again(tmp_path):
    path = tmp_path / "r.jsonl"
    judge_pairs(Brightness(), pairs(2), Records(path))
    text = path.read_bytes()
    path.write_bytes(text[:100])
    records = Records(path)
    judge_pairs(Brightness(), pairs(2), records)
    assert len(records.frame()) == 4
    assert sorted(line["id"] for line in whole_lines(path) if "id" in line) == sorted(
        line["id"] for line in map(json.loads, text.splitlines()) if "id" in line
    )


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "r.jsonl"
    judge_pairs(Brightness(), pairs(2), Records(path))
    lines = path.read_bytes().splitlines(keepends=True)
    for broken in (b"<<<<<<< HEAD\n", lines[-1][:40] + lines[-1], b"[1]\n", b'{"p": 1}\n'):
        path.write_bytes(b"".join([*lines[:-1], broken, lines[-1]]))
        with pytest.raises(BadInput, match=r"r\.jsonl.*no record.*Delete that line"):
            Records(path)


def test_a_reader_sees_what_was_written_since_it_opened_the_file(tmp_path):
    reader = Records(tmp_path / "new" / "r.jsonl")
    judge_pairs(Brightness(), pairs(2), Records(tmp_path / "new" / "r.jsonl"))
    assert len(reader.answers) == 0
    reader.refresh()
    assert len(reader.answers) == 4


def test_the_code_of_a_run_is_its_commit_and_dirty_only_where_it_is_not_what_the_results_are(tmp_path):
    def git(*arguments):
        named = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", *named, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert records._code(tmp_path) == "unknown"
    for name in ("lib/a.py", "notebooks/a.ipynb", "weights/a", "results/a.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("old")
    git("init"), git("add", "-A"), git("commit", "-m", "m")
    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    (tmp_path / "results/a.csv").write_text("new")
    assert records._code(tmp_path) == commit
    (tmp_path / "lib/a.py").write_text("new")
    assert records._code(tmp_path) == f"{commit}-dirty"
