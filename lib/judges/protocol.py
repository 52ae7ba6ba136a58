"""Both orders, always: pairs in, verdicts out, every answer recorded as it comes."""

import math
import os
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from tqdm.auto import tqdm

from lib.errors import BadInput
from lib.judges.candidates import ORDERS, Pair, Question
from lib.judges.engines import batches
from lib.judges.prompts import Layout
from lib.judges.verdicts import Answer, Verdict

Prepare = Callable[[list[Pair]], object]


class Judge(Protocol):
    """What answers questions: a model in process, or a server. A question that it failed at gets the error instead."""

    layout: Layout
    family: str
    batch: int
    settings: dict

    def asking(self, layout: str = "montage", wordings: Sequence[str] = ("better",), tie: bool = False) -> "Judge": ...
    def ask(self, questions: Sequence[Question]) -> list[Answer | BadInput]: ...


class Store(Protocol):
    """What keeps answers under keys, for several processes at once (`lib.study.records.Records`)."""

    def constant(self, kind: str, content: dict) -> str: ...
    def key(self, *parts) -> str: ...
    def refresh(self) -> None: ...
    def __contains__(self, key: str) -> bool: ...
    def __getitem__(self, key: str) -> dict: ...
    def add(self, lines: Sequence[dict]) -> int: ...


def judge_pairs(judge: Judge, pairs: Sequence[Pair], records: Store, prepare: Prepare | None = None) -> list[Verdict]:
    """The verdict on every pair, in order. What is on record is not asked; the rest is recorded batch by batch.

    prepare: called before the first question with the pairs that there are questions about, to make their pictures.
    Safe to interrupt, and to run in several processes on the same records: they share the work. Raises BadInput, before
    the first question, where a pair lacks the pictures of the judge's layout, and where the judge failed at a question,
    once the other answers of its batch are on record.
    """
    who = records.constant("judge", judge.settings)
    lines, questions = [], {}
    for pair in pairs:
        a, b = (records.constant("candidate", one.describe(judge.layout)) for one in (pair.a, pair.b))
        photo = pair.photo_digest or pair.reference.digest if judge.layout.photo else None
        for order in ORDERS:
            line = {"judge": who, "a": a, "b": b, "photo": photo, "order": order}
            lines.append({"key": records.key(*line.values()), **line})
            questions[lines[-1]["key"]] = Question(pair, judge.layout, order)
    records.refresh()
    asked = dict.fromkeys(question.pair for key, question in questions.items() if key not in records)
    if prepare and asked:
        prepare(list(asked))
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
                said = dict(zip(keys, judge.ask([questions[key] for key in keys]), strict=True))
                failed = [said.pop(key) for key in keys if isinstance(said[key], BadInput)]
                new = records.add([lines[key] | _fields(answer) for key, answer in said.items()])
                if failed:
                    raise failed[0]
                if new < len(keys):  # another process was here first and works in the same order: go elsewhere
                    random.Random(os.getpid()).shuffle(rest)
            bar.update(len(batch))


def _fields(answer: Answer) -> dict:
    p = [None if math.isnan(p) else p for p in answer.p]  # JSON knows no nan
    return {"p": p, "mass": answer.mass, "pick": answer.pick, "seconds": answer.seconds}


def _answer(line: dict) -> Answer:
    return Answer(tuple(math.nan if p is None else p for p in line["p"]), line["mass"], line["seconds"])
