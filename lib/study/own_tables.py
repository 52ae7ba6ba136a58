"""Notebook 10's tables: the audit and its gates, the win-rate, what it supports, and the truth where it is known."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.judges.protocol import Judge
from lib.stats.bootstrap import share_by_object
from lib.stats.estimands import LOSS, WIN, count, estimands
from lib.stats.gates import Gate, clear_gap, interpretable, no_gap
from lib.stats.power import ALPHA, needed_n, power_above, power_parity
from lib.stats.tests import binomial_p, holm, parity_limits, parity_p
from lib.study.own import CLEAR, EQUAL, IDENTICAL, TURNED


def gates(controls: pd.DataFrame, seed: int) -> dict[str, Gate]:
    """clear_gap and no_gap (that of equal damage) of `audit`'s answers."""
    clear, equal = (controls[controls.control == name] for name in (CLEAR, EQUAL))
    return {"clear_gap": clear_gap(clear.verdict), "no_gap": no_gap(equal.verdict, equal.object, seed)}


def statement(passed: Mapping[str, Gate]) -> str:
    """ "interpretable", or "not interpretable" and why."""
    failed = [
        f"the {name.replace('_', ' ')} gate failed ({gate.reason})" for name, gate in passed.items() if not gate.passed
    ]
    return f"not interpretable: {'; '.join(failed)}" if failed else "interpretable: the judge passed both gates"


def audit_table(controls: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row a control, the clear gap also by kind of damage and by folder.

    Columns: control, pairs, n, wins, losses, flips, abstained (pairs with no answer in an order, not in n),
    win_consistent with its 95% interval over objects (low, high), p_first (mean probability of the first label), gate
    ("passed", "failed", or empty where none is set).
    """
    clear = controls[controls.control == CLEAR]
    parts = [(CLEAR, "all", clear)]
    parts += [(CLEAR, kind, part) for kind, part in clear.groupby("kind")]
    parts += [(CLEAR, f"folder {side}", part) for side, part in clear.groupby("folder")]
    parts += [(name, "all", controls[controls.control == name]) for name in (EQUAL, TURNED, IDENTICAL)]
    set_for = dict(zip(((CLEAR, "all"), (EQUAL, "all")), gates(controls, seed).values(), strict=True))
    rows = []
    for control, which, part in parts:
        counts, gate = count(part.verdict), set_for.get((control, which))
        share = estimands(part.verdict, part.object, seed)["win/consistent"]
        row = {"control": control, "pairs": which, "n": counts.n, "wins": counts.wins, "losses": counts.losses}
        row |= {"flips": counts.flips, "abstained": len(part) - counts.n}
        row |= {"win_consistent": share.value, "low": share.low, "high": share.high}
        row |= {"p_first": part[["p_ab", "p_ba"]].stack().mean()}
        rows.append(row | {"gate": "" if gate is None else "passed" if gate.passed else "failed"})
    return pd.DataFrame(rows)


def summary(judge: Judge, answers: pd.DataFrame, passed: Mapping[str, Gate], seed: int) -> pd.DataFrame:
    """One row: judge, layout, wins (of A), losses, flips, n (their sum), abstained (pairs with no answer in an order),
    win_all, win_consistent, win_half (a flip counts half), low and high (95% interval of win_consistent over objects),
    clear_gap, no_gap, interpretable (True or False)."""
    counts = count(answers.verdict)
    every, consistent, half = estimands(answers.verdict, answers.object, seed).values()
    row = {
        "judge": judge.settings["model"],
        "layout": judge.layout.name,
        "wins": counts.wins,
        "losses": counts.losses,
        "flips": counts.flips,
        "n": counts.n,
        "abstained": len(answers) - counts.n,
        "win_all": every.value,
        "win_consistent": consistent.value,
        "win_half": half.value,
        "low": consistent.low,
        "high": consistent.high,
        **{name: gate.passed for name, gate in passed.items()},
        "interpretable": interpretable(*passed.values()),
    }
    return pd.DataFrame([row])


def claims(answers: pd.DataFrame, passed: Mapping[str, Gate]) -> pd.DataFrame:
    """What the consistent verdicts support, by exact tests at 5%, and how many would have been needed.

    Columns: claim (of A's share among them), p, p_holm (corrected over the rows), supported, if_true (the share for
    which the rest is computed), power (chance of support at this number, before the correction), verdicts_needed
    (consistent verdicts from which power stays above 80%), objects_needed (the same, at this share of flips and
    abstentions; empty where no verdict is consistent), interpretable.
    """
    counts = count(answers.verdict)
    k, n = counts.wins, counts.consistent
    low, high = parity_limits()
    far = {"truth": 0.8, "null": high}
    rows = [  # a two-sided test at 5% has the power of a one-sided one at half of it
        ("differs from 0.5", binomial_p(k, n, 0.5, "two-sided"), 0.65, power_above, {"alpha": ALPHA / 2}),
        (f"above {high:g}: A is preferred", binomial_p(k, n, high, "greater"), 0.8, power_above, far),
        (f"below {low:g}: B is preferred", binomial_p(k, n, low, "less"), 0.2, power_above, far),
        (f"between {low:g} and {high:g}: parity", parity_p(k, n), 0.5, power_parity, {}),
    ]
    frame = pd.DataFrame([(claim, float(p), truth) for claim, p, truth, *_ in rows], columns=["claim", "p", "if_true"])
    frame.insert(2, "p_holm", holm(frame.p))
    frame.insert(3, "supported", frame.p_holm <= ALPHA)
    needed = np.array([needed_n(power, **options)[1] for *_, power, options in rows])
    return frame.assign(
        power=[float(power(n, **options)) for *_, power, options in rows],
        verdicts_needed=needed,
        objects_needed=pd.array(np.ceil(needed * len(answers) / n) if n else [pd.NA] * len(rows), dtype="Int64"),
        interpretable=interpretable(*passed.values()),
    )


def against_truth(answers: pd.DataFrame, truth: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row for a demonstration: objects, the share of them in which A has the smaller error (truth), A's share of
    the consistent verdicts (judged), and the share of those that are right, with its 95% interval over objects."""
    both = answers.merge(truth, on="object")
    best, consistent = both.error_a < both.error_b, both.verdict.isin((WIN, LOSS))
    right = share_by_object(consistent & ((both.verdict == WIN) == best), consistent, both.object, seed)
    judged = (both.verdict[consistent] == WIN).mean()
    row = {"objects": len(both), "truth": best.mean(), "judged": judged, "consistent": int(consistent.sum())}
    return pd.DataFrame([row | {"right": right.value, "low": right.low, "high": right.high}])
