"""Both orders, always: pairs in, verdicts out, every answer recorded as it comes."""

import os
import random
from collections.abc import Sequence
from typing import Protocol

from tqdm.auto import tqdm

from lib.judges.candidates import ORDERS, Pair, Question
from lib.judges.engines import batches
from lib.judges.prompts import Layout
from lib.judges.verdicts import Answer, Verdict


class Judge(Protocol):
    """What answers questions: a model in process, or a server."""

    layout: Layout
    family: str
    batch: int
    settings: dict

    def ask(self, questions: Sequence[Question]) -> list[Answer]: ...


class Store(Protocol):
    """What keeps answers under keys, for several processes at once (`lib.study.records.Records`)."""

    def constant(self, kind: str, content: dict) -> str: ...
    def key(self, *parts) -> str: ...
    def refresh(self) -> None: ...
    def __contains__(self, key: str) -> bool: ...
    def __getitem__(self, key: str) -> dict: ...
    def add(self, lines: Sequence[dict]) -> int: ...


def judge_pairs(judge: Judge, pairs: Sequence[Pair], records: Store) -> list[Verdict]:
    """The verdict on every pair, in order. What is on record is not asked; the rest is recorded batch by batch.

    Safe to interrupt, and to run in several processes on the same records: they share the work. Raises BadInput, before
    the first question, where a pair lacks the pictures of the judge's layout.
    """
    who = records.constant("judge", judge.settings)
    lines, questions = [], {}
    for pair in pairs:
        a, b = (records.constant("candidate", one.describe(judge.layout)) for one in (pair.a, pair.b))
        photo = pair.reference.digest if judge.layout.photo else None
        for order in ORDERS:
            line = {"judge": who, "a": a, "b": b, "photo": photo, "order": order}
            lines.append({"key": records.key(*line.values()), **line})
            questions[lines[-1]["key"]] = Question(pair, judge.layout, order)
    _ask(judge, {line["key"]: line for line in lines}, questions, records)
    answers = [_answer(records[line["key"]]) for line in lines]
    return [Verdict(ab, ba) for ab, ba in zip(answers[::2], answers[1::2], strict=True)]


def _ask(judge: Judge, lines: dict[str, dict], questions: dict[str, Question], records: Store):
    records.refresh()
    rest = batches([key for key in lines if key not in records], judge.batch)
    with tqdm(total=sum(map(len, rest)), desc=f"asking, {judge.layout.name}", mininterval=1, disable=not rest) as bar:
        while rest:
            batch = rest.pop(0)
            records.refresh()
            if keys := [key for key in batch if key not in records]:
                answers = judge.ask([questions[key] for key in keys])
                new = records.add([lines[key] | _fields(answer) for key, answer in zip(keys, answers, strict=True)])
                if new < len(keys):  # another process was here first and works in the same order: go elsewhere
                    random.Random(os.getpid()).shuffle(rest)
            bar.update(len(batch))


def _fields(answer: Answer) -> dict:
    return {"p": answer.p, "mass": answer.mass, "pick": answer.pick, "seconds": answer.seconds}


def _answer(line: dict) -> Answer:
    return Answer(tuple(line["p"]), line["mass"], line["seconds"])
