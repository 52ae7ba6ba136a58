"""How good a judge is where the truth is known: both orders, every case, beside the bar that it has to reach."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from lib.judges.candidates import ORDERS, Question
from lib.judges.training.cases import Case, distinct_layouts
from lib.judges.verdicts import Verdict
from lib.judges.vlm import VLMJudge
from lib.stats.bootstrap import share_by_object

BARS = {
    ("montage", "error gap > .2"): "raw >= .95, flips <= .06",
    ("montage", "error gap .1 to .2"): "raw >= .82",
    ("montage", "holes, high severity, against intact"): "raw >= .90",
    ("montage", "floaters, high severity, against intact"): "raw >= .90",
    ("montage", "missing_part, high severity, against intact"): "raw >= .90",
    ("montage_ref", "right but damaged against clean but wrong instance"): "raw >= .95",
    ("montage_ref", "right but damaged against clean but wrong category"): "raw >= .95",
    ("montage", "real furniture, corrupted against intact"): "raw >= .85",
    ("montage", "identical images"): "flips = 1, mean p of A .4 to .6",
}
BATCH = 32  # questions in a call


def ask(folder: Path, cases: Sequence[Case], batch: int = BATCH) -> pd.DataFrame:
    """One row a case: judge, layout, case, object, gap, p_ab and p_ba (of the first label), right (share of the two
    orders), outcome ("win" of the better, "loss", "flip")."""
    judge, rows = VLMJudge(folder, batch=batch), []
    for layout in distinct_layouts(cases):
        mine = [case for case in cases if case.layout == layout]
        asked = judge.asking(layout)
        questions = [Question(case.pair, asked.layout, order) for case in mine for order in ORDERS]
        answers = []
        for start in tqdm(range(0, len(questions), 8 * batch), desc=f"{Path(folder).name}, {layout}", mininterval=1):
            answers += asked.ask(questions[start : start + 8 * batch])
        for case, ab, ba in zip(mine, answers[::2], answers[1::2], strict=True):
            right = ((ab.pick == 0) + (ba.pick == 1)) / 2
            row = {"judge": Path(folder).name, "layout": layout, "case": case.name, "object": case.pair.object}
            row |= {"gap": case.gap, "p_ab": ab.p[0], "p_ba": ba.p[0]}
            rows.append(row | {"right": right, "outcome": Verdict(ab, ba).outcome})
    return pd.DataFrame(rows)


def summarize(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table: judge, layout, case, n pairs, raw accuracy over both orders, flips, accuracy of the consistent
    verdicts, 95% interval of raw over objects, and the bar where there is one.

    For identical images, where nothing is right, `raw` is the mean probability of the first label.
    """
    rows = []
    for (judge, layout, case), part in answers.groupby(["judge", "layout", "case"], sort=False):
        of_nothing = case == "identical images"
        value = (part.p_ab + part.p_ba) / 2 if of_nothing else part.right
        estimate = share_by_object(value, value * 0 + 1, part.object, seed)
        decided = part[part.outcome != "flip"]
        rows.append(
            {
                "judge": judge,
                "layout": layout,
                "case": case,
                "n": len(part),
                "raw": estimate.value,
                "flips": (part.outcome == "flip").mean(),
                "consistent": float("nan") if of_nothing else (decided.outcome == "win").mean(),
                "low": estimate.low,
                "high": estimate.high,
                "bar": BARS.get((layout, case), ""),
            }
        )
    return pd.DataFrame(rows).sort_values(["judge", "bar", "layout"], ascending=[True, False, True], kind="stable")
