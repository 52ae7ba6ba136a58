"""Made-up tables of the study, in the columns of the real ones, for the tests of figures, claims and report."""

import numpy as np
import pandas as pd

from lib.profiles import load_profile
from lib.stats.estimands import estimands
from lib.study import labels
from lib.study.cells import METHODS
from lib.study.gallery import Entry
from lib.study.generated import BUDGET, SEEDS
from lib.study.published import load_published

N = 40
SMOKE = load_profile("smoke")


def cell(method, regime, severity, stage, wins, losses, seed=0, **more):
    """A row of Table 1: N objects with so many wins and losses, the rest flips."""
    outcomes = ["win"] * wins + ["loss"] * losses + ["flip"] * (N - wins - losses)
    row = {"method": method, "regime": regime, "severity": severity, "stage": stage}
    row |= {"wins": wins, "losses": losses, "flips": N - wins - losses, "n": N}
    for name, one in zip(
        ("win_all", "win_consistent", "win_half"), estimands(outcomes, range(N), seed).values(), strict=True
    ):
        row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    row |= {"p_half": 0.5, "p_065": 0.2, "p_holm": 1.0, "p_parity": 0.3, "power_065": 0.5, "n_needed": 69}
    row |= {"truth_win": 0.5, "truth_low": 0.4, "truth_high": 0.6}
    row |= {"geometry_delta": 0.0, "geometry_delta_low": -0.02, "geometry_delta_high": 0.02}
    row |= {"clear_gap": "passed", "no_gap": "passed", "interpretable": True, "seconds": 60.0}
    return row | {"paper_win": np.nan, "paper_geometry_delta": np.nan} | more


def table1(full=False):
    """The nine cells of the paper, or with `full` every method everywhere and what goes beyond it."""
    published = load_published()
    cells = published[published.quantity.eq("win_rate") & published.printed.fillna("").str.contains("Table 1")]
    key = {name: key for key, name in labels.PAPER.items()}
    printed = {(key[one.method], one.regime, one.severity): one.value for one in cells.itertuples()}
    where = list(printed)
    if full:
        where = [
            (method, *condition)
            for condition in (("clean", ""), *(("hard", severity) for severity in labels.SEVERITIES))
            for method in METHODS
        ]
    rows = []
    for index, (method, regime, severity) in enumerate(where):
        made = cell(
            method,
            regime,
            severity,
            METHODS[method].stage,
            8 + index % 9,
            12,
            paper_win=printed.get((method, regime, severity)),
        )
        if severity == "medium":
            made |= {"clear_gap": "failed", "interpretable": False}
        rows.append(made)
    if full:
        rows.append(cell("dpo_0.1", "clean", "", "structure", 20, 10))
    return pd.DataFrame(rows)


def table2():
    """Repair by severity, all degradations together and each alone."""
    rows = []
    for kinds in ("all", "crop", "occlusion", "downscale", "blur"):
        for index, severity in enumerate(labels.SEVERITIES):
            row = cell("conditioner_repair", "hard", severity, "condition", 6 + 8 * index, 10)
            row |= {"kinds": kinds, "headroom": 0.6 + 0.15 * index, "headroom_low": 0.5, "headroom_high": 0.97}
            row |= {"headroom_truth": 0.8, "headroom_truth_low": 0.7, "headroom_truth_high": 0.9}
            row |= {"feature_mse_before": 0.1 + 0.25 * index, "feature_mse_after": 0.08 + 0.2 * index, "trend_p": 0.01}
            row |= {"paper_clear_gap": np.nan, "paper_mse_before": np.nan, "paper_mse_after": np.nan}
            if kinds == "all":
                row |= {"paper_win": (0.125, 0.25, 0.5)[index], "paper_clear_gap": (1.0, 0.5, 0.83)[index]}
                row |= {"paper_geometry_delta": (0.06, 0.0, 0.06)[index]}
                row |= {
                    "paper_mse_before": (0.077, 0.284, 0.668)[index],
                    "paper_mse_after": (0.047, 0.226, 0.503)[index],
                }
            if severity == "medium":
                row |= {"no_gap": "failed", "interpretable": False}
            rows.append(row)
    return pd.DataFrame(rows)


def mechanism():
    """Curves against scale and steps, and one number for each cause."""
    rows = []
    for method, strength in (("sft_best", 0.3), ("dpo_0.5", 0.9)):
        for by, places in (("scale", (0, 0.5, 1, 2)), ("steps", (2, 4, 8, 25))):
            for x in places:
                for index, quantity in enumerate(("latent shift", "occupancy shift", "surface shift")):
                    value = strength * (x if by == "scale" else 1 / np.sqrt(x)) / (index + 1)
                    ends = {"low": 0.8 * value, "high": 1.2 * value, "n": N}
                    row = {
                        "cause": "wash-out",
                        "quantity": quantity,
                        "method": method,
                        "stage": "slat",
                        "severity": "clean",
                        "by": by,
                        "x": x,
                    }
                    rows.append(row | {"value": value} | ends)
    for cause, quantity, method, severity, value in (
        ("wash-out", "probe", "sft_best", "clean", 0.9),
        ("wash-out", "probe", "dpo_0.5", "clean", 40.0),
        ("saturation", "flips", "sft_best", "clean", 0.6),
        ("locus", "feature MSE", "conditioner_repair", "severe", 0.7),
        ("locus", "truth gained", "conditioner_repair", "severe", 0.2),
    ):
        row = {"cause": cause, "quantity": quantity, "method": method, "stage": METHODS[method].stage}
        row |= {"severity": severity, "by": "", "x": np.nan}
        rows.append(row | {"value": value, "low": 0.9 * value, "high": 1.1 * value, "n": N})
    return pd.DataFrame(rows)


def generated():
    """What both judges say of the base's own samples."""
    flips, wins = (
        ("flip_rate", "flip_rate_low", "flip_rate_high"),
        ("win_consistent", "win_consistent_low", "win_consistent_high"),
    )
    rows = [
        {"judge": judge, "pairs": pairs, "n": N}
        | dict(zip(flips, flip, strict=True))
        | dict(zip(wins, win, strict=True))
        for judge in "XY"
        for pairs, flip, win in (
            (SEEDS, (0.9, 0.85, 0.95), (0.5, 0.4, 0.6)),
            (BUDGET, (0.1, 0.05, 0.2), (0.6, 0.5, 0.7)),
        )
    ]
    return pd.DataFrame(rows)


def entries():
    """Three pairs: a win, a flip and a loss, in two rows of Table 1."""
    rng = np.random.default_rng(0)
    shade = rng.integers(0, 255, (3, 3, 3), np.uint8)
    pictures = [[np.broadcast_to(color, (32, 32, 3)).copy() for color in colors] for colors in shade]
    facts = [
        ("chair <1>", "ORPO, clean", "win", 0.9, 0.2, "A"),
        ("lamp", "ORPO, clean", "flip", 0.7, 0.6, "equal"),
        ("sofa", "conditioner repair, hard, severe", "loss", 0.1, 0.8, ""),
    ]
    return [Entry(name, *shown, *rest) for (name, *rest), shown in zip(facts, pictures, strict=True)]
