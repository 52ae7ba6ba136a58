"""Tables 1 and 2: one row a cell, with every estimand, test and gate that its verdicts allow, and the truth."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from lib.data.degrade import KINDS
from lib.stats import gates
from lib.stats.bootstrap import mean_by_object
from lib.stats.estimands import count, estimands
from lib.stats.power import needed_n, power_above
from lib.stats.tests import binomial_p, holm, parity_p, trend_p
from lib.study.adaptation import HEADROOM, control
from lib.study.calibration import ESTIMANDS, named
from lib.study.cells import METHODS, Cell
from lib.study.generated import truth_wins
from lib.study.pairs import CLEAR, NO_GAP
from lib.study.published import CHANCE, TARGET, load_published
from lib.study.subjects import CLEAN


def win_rates(
    answers: pd.DataFrame, truth: pd.DataFrame, cells: Sequence[Cell], seconds: Sequence[float], seed: int
) -> pd.DataFrame:
    """One row a cell of adapted against base, by judge Y.

    answers, truth: of `Study.score` on `cell_pairs` and `control_pairs`; seconds: of each cell's training.
    wins, losses, flips, n; win_all, win_consistent, win_half with intervals (`lib.stats.estimands`). Tests are exact
    and on the consistent verdicts: p_half against 0.5 (two-sided; p_holm corrected over the rows), p_065 that the share
    is below 0.65, p_parity that it lies within 0.5 +/- 0.15; power_065: chance that this many find a true 0.65;
    n_needed: consistent verdicts for 80%. truth_win: share of objects whose adapted sample has the higher F-score.
    geometry_delta: mean change of the validity features. clear_gap, no_gap: the regime's gates; a row is interpretable
    where both passed. paper_win, paper_geometry_delta: as printed.
    """
    paper = load_published()
    rows = [
        _row(answers, truth, cell, spent, seed) | _printed(paper, cell)
        for cell, spent in zip(cells, seconds, strict=True)
    ]
    table = pd.DataFrame(rows)
    table = table.assign(p_holm=holm(table.p_half))[list(rows[0])]
    return table.rename(columns={"truth": "truth_win"})


def _row(answers: pd.DataFrame, truth: pd.DataFrame, cell: Cell, seconds: float, seed: int) -> dict:
    mine, true = answers[answers.case == cell.name], truth[truth.case == cell.name]
    counts = count(mine.outcome)
    row = {"method": cell.method, "regime": cell.regime, "severity": "" if cell.severity == CLEAN else cell.severity}
    row |= {"kinds": "all" if cell.kinds == KINDS else " ".join(cell.kinds), "stage": cell.stage}
    row |= asdict(counts) | {"n": counts.n}
    for name, one in zip(ESTIMANDS, estimands(mine.outcome, mine.object, seed).values(), strict=True):
        row |= named(name, one)
    decided = counts.wins, counts.consistent
    row["p_half"] = float(binomial_p(*decided, CHANCE, "two-sided"))
    row["p_065"] = float(binomial_p(*decided, TARGET, "less"))
    row |= {"p_holm": np.nan, "p_parity": float(parity_p(*decided))}
    row |= {"power_065": float(power_above(counts.consistent)), "n_needed": needed_n()[0]}
    row |= truth_wins(true, seed)
    row |= named("geometry_delta", mean_by_object(true.validity_a - true.validity_b, 1, true.object, seed))
    return row | control_gates(answers, cell, seed) | {"seconds": seconds}


def control_gates(answers: pd.DataFrame, cell: Cell, seed: int) -> dict:
    """clear_gap and no_gap ("passed" or "failed") of the cell's regime, and whether its row may be read."""
    clear, none = (answers[answers.case == control(name, cell.severity, cell.kinds)] for name in (CLEAR, NO_GAP))
    both = gates.clear_gap(clear.outcome), gates.no_gap(none.outcome, none.object, seed)
    said = {
        name: "passed" if gate.passed else "failed" for name, gate in zip(("clear_gap", "no_gap"), both, strict=True)
    }
    return said | {"interpretable": gates.interpretable(*both)}


def _printed(paper: pd.DataFrame, cell: Cell) -> dict:
    """What the paper's Table 1 has in this cell."""
    values, method = {}, METHODS[cell.method]
    if method.paper and cell.stage == method.stage and cell.kinds == KINDS:
        here = paper[paper.printed.fillna("").str.contains("Table 1") & (paper.method == method.paper)]
        here = here[(here.regime == cell.regime) & (here.severity == ("" if cell.severity == CLEAN else cell.severity))]
        values = here.set_index("quantity").value
    return {"paper_win": values.get("win_rate"), "paper_geometry_delta": values.get("geometry_delta")}


def sweep(
    answers: pd.DataFrame, truth: pd.DataFrame, cells: Sequence[Cell], facts: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Table 2: `win_rates` of conditioner repair, with what the paper's Table 2 adds.

    facts: of the cells' adapters (`Workshop.facts`). headroom: judge Y's preference (`win_half`) for the clean photo's
    sample over the degraded one's, the paper's clear gap, and headroom_truth the truth's; feature_mse_before, _after:
    error of the condition on photos that were not trained on; trend_p: that wins rise from cell to cell of the same
    degradations, which are in the order of their severity (`lib.stats.tests.trend_p`).
    """
    table = win_rates(answers, truth, cells, facts.seconds, seed)
    paper = load_published().query("printed == 'Table 2'").set_index(["quantity", "severity"]).value
    extra = []
    for cell, fact in zip(cells, facts.itertuples(), strict=True):
        name = control(HEADROOM, cell.severity, cell.kinds)
        mine, true = answers[answers.case == name], truth[truth.case == name]
        half = estimands(mine.outcome, mine.object, seed)["win + flip/2"]
        known = truth_wins(true, seed)
        row = named("headroom", half) | {f"headroom_{key}": known[key] for key in ("truth", "truth_low", "truth_high")}
        row |= {"feature_mse_before": fact.mse_before, "feature_mse_after": fact.mse_after}
        whole = cell.kinds == KINDS
        printed = {"clear_gap": "clear_gap", "mse_before": "feature_mse_before", "mse_after": "feature_mse_after"}
        row |= {
            f"paper_{ours}": paper.get((theirs, cell.severity)) if whole else None for ours, theirs in printed.items()
        }
        extra.append(row)
    trends = {kinds: trend_p(part.wins, part.n) for kinds, part in table.groupby("kinds")}
    return table.join(pd.DataFrame(extra)).assign(trend_p=table.kinds.map(trends))
