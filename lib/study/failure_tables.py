"""What each failure mode costs: every layout beside its fix, their difference, and what of it is no mere novelty."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.judges.protocol import Judge
from lib.stats.bootstrap import mean_by_object, share_by_object
from lib.stats.tests import holm, mcnemar_p
from lib.study.failures import BROKEN, CHANGED, MODES, Mode
from lib.study.pairs import answered

ALPHA = 0.05


def trained_shares(judges: Mapping[str, Judge]) -> pd.DataFrame:
    """What share of a judge's training prompts was in each layout; columns judge, layout, trained.

    Read from the `training.csv` beside the weights; no rows for a judge without one, or a served one.
    """
    rows = []
    for name, judge in judges.items():
        if hasattr(judge, "model") and (path := Path(judge.model.name_or_path) / "training.csv").exists():
            facts = pd.read_csv(path, index_col="fact").value
            rows += [(name, *share.rsplit(" ", 1)) for share in facts["layout shares"].split(", ")]
    return pd.DataFrame(rows, columns=["judge", "layout", "trained"]).astype({"trained": float})


def failure_table(answers: pd.DataFrame, trained: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every mode, judge and layout: raw accuracy over both orders and share of flips, each with its 95% interval.

    answers: of `lib.study.pairs.ask` on `cases`. Columns: failure, case, judge, layout, is ("warned of" or "fixed"),
    trained (see `trained_shares`), n pairs, raw, low, high, flips, flips_low, flips_high, consistent (accuracy of the
    pairs that do not flip).
    """
    rows = []
    for mode, judge, part in _parts(answers):
        for layout, role in ((mode.warned, "warned of"), (mode.fixed, "fixed")):
            mine = part[part.layout == layout]
            flip = mine.outcome == "flip"
            raw, flips = (share_by_object(values, flip * 0 + 1, mine.object, seed) for values in (mine.right, flip))
            rows.append(
                {
                    **{"failure": mode.failure, "case": mode.case, "judge": judge, "layout": layout, "is": role},
                    **{"n": raw.n, "raw": raw.value, "low": raw.low, "high": raw.high},
                    **{"flips": flips.value, "flips_low": flips.low, "flips_high": flips.high},
                    "consistent": (mine.outcome[~flip] == "win").mean(),
                }
            )
    table = pd.DataFrame(rows).merge(trained, "left", ["judge", "layout"])
    table.insert(5, "trained", table.pop("trained"))
    return table


def differences(answers: pd.DataFrame, trained: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every mode and judge: the layout warned of minus the fixed one, on the same pairs, with 95% intervals.

    p: exact McNemar test of what the paper claims, flips or, for accuracy, pairs that are right in both orders; p_holm
    corrects it for the rows. reading: whether the claim is seen, at `ALPHA` after the correction; "by its label" where
    the judge was taught it.
    """
    rows = []
    for mode, judge, part in _parts(answers):
        warned, fixed = (part[part.layout == layout].set_index("object") for layout in (mode.warned, mode.fixed))
        warned, fixed = warned.align(fixed, "inner", axis=0)
        raw = mean_by_object(warned.right - fixed.right, 1, warned.index, seed)
        flip = [side.outcome == "flip" for side in (warned, fixed)]
        flips = mean_by_object(flip[0] * 1.0 - flip[1], 1, warned.index, seed)
        p = mcnemar_p(*(flip if mode.claim == "flips" else [side.outcome == "win" for side in (warned, fixed)]))
        rows.append(
            {
                **{"failure": mode.failure, "case": mode.case, "judge": judge, "n": raw.n},
                **{"raw_change": raw.value, "raw_low": raw.low, "raw_high": raw.high},
                **{"flips_change": flips.value, "flips_low": flips.low, "flips_high": flips.high},
                **{"claim": {"flips": "more flips", "raw": "less accuracy"}[mode.claim], "p": p},
                "worse": flips.value if mode.claim == "flips" else -raw.value,
                "learned": mode.learned and judge in set(trained.judge),
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table.p)
    agrees = np.where(table.pop("learned"), "as the paper, by its label", "as the paper")
    seen = np.where(table.pop("worse") > 0, agrees, "against the paper")
    return table.assign(reading=np.where(table.p_holm < ALPHA, seen, "null: nothing shown"))


def beyond_novelty(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How much more accuracy a layout costs on broken surfaces than on changed shapes, by judge, over the objects.

    What a judge only has not learned to read costs both kinds of pairs; what the layout hides costs the kind that it
    hides. Columns: failure, judge, layout, n, broken, changed (accuracy in the layout minus that in its fix),
    difference (of the two), low, high.
    """
    rows = []
    for mode in (mode for mode in MODES if mode.case == BROKEN):
        for judge, part in answers.groupby("judge"):
            right = part.pivot_table(index="object", columns=["case", "layout"], values="right")
            broken, changed = (right[case][mode.warned] - right[case][mode.fixed] for case in (BROKEN, CHANGED))
            both = (broken - changed).dropna()
            more = mean_by_object(both, 2, both.index, seed)
            costs = {"broken": broken[both.index].mean(), "changed": changed[both.index].mean()}
            row = {"failure": mode.failure, "judge": judge, "layout": mode.warned, "n": more.n, **costs}
            rows.append(row | {"difference": more.value, "low": more.low, "high": more.high})
    return pd.DataFrame(rows)


def _parts(answers: pd.DataFrame) -> Iterator[tuple[Mode, str, pd.DataFrame]]:
    """Each mode and judge with its answers, abstentions left out."""
    for mode in MODES:
        for judge, part in answered(answers[answers.case == mode.case]).groupby("judge"):
            yield mode, judge, part
