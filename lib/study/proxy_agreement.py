"""Notebook 07: how often each proxy agrees with judge Y, by subgroup, beside the truth and the companion's numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.stats.bootstrap import share_by_object
from lib.stats.bradley_terry import Head, cross_fit
from lib.stats.estimands import FLIP, LOSS, WIN
from lib.stats.gates import clear_gap
from lib.stats.intervals import CONFIDENCE, wilson
from lib.study.proxies import (
    FEATURES,
    FULL,
    MIXED,
    SIMILARITY,
    SUBGROUPS,
    VALIDITY,
    WITHIN_CORRUPTED,
    WITHIN_INTACT,
)

ALL, LARGE, SMALL = "all", "large reward gap", "small reward gap"
GEOMETRY, HEAD, JUDGE_X = "geometry", "Bradley-Terry head", "judge X"
NULL, AGREES, DISAGREES, TIES = "null", "agrees", "disagrees", "only ties"
SIDE = {WIN: 1.0, LOSS: -1.0}  # nan for a flip or an abstention

# Where the companion prints the same: the subgroup with the same part in its design, and how its rows are named.
REGIMES = {
    FULL: "cross-generator, full",
    WITHIN_INTACT: "within TripoSR",  # the preferred generator
    WITHIN_CORRUPTED: "within SF3D",
    MIXED: "cross-generator, mixed",
}
ITEMS = {GEOMETRY: "geometry proxy", SIMILARITY: "CLIP proxy", JUDGE_X: "X-Y agreement", HEAD: "calibration"}


def margins(pairs: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, list[Head]]:
    """What every proxy says of every pair of `ask`: positive for a, negative for b, 0 for a tie, nan for no answer.

    One column a proxy: each of `FEATURES`; their sum without the image similarity ("geometry"); the Bradley-Terry head,
    fitted on judge X's consistent verdicts about other objects; judge X itself. Also the heads, one a fold.
    """
    features = pairs[list(FEATURES)].astype(float)
    odds, heads = cross_fit(features, pairs.x, pairs.object, seed)
    found = features[list(VALIDITY)].assign(**{GEOMETRY: features[list(VALIDITY)].sum(axis=1)})
    return found.assign(**{SIMILARITY: features[SIMILARITY], HEAD: odds, JUDGE_X: pairs.x.map(SIDE)}), heads


def agreement(
    pairs: pd.DataFrame,
    said: pd.DataFrame,
    published: pd.DataFrame,
    encoder: str,
    seed: int,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """One row a proxy and subgroup, over the pairs on which judge Y (and judge X, in its own row) did not flip.

    Columns: proxy, subgroup, n, ties (the proxy has no preference: counted as half right), agreement with Y; low, high
    (over objects, see `share_by_object`); wilson_low, wilson_high (pairs taken as independent, as the companion does);
    truth (agreement with the sign of the gap, on the same pairs); reads ("agrees", "disagrees", "null" where 0.5 is
    inside low to high, "only ties"); printed, printed_n (the companion's number of that name); encoder (`Encoder.name`,
    where the proxy uses one). The head also has its pairs of large and of small log odds, split at the median, as the
    companion's calibration has.
    """
    rows = []
    y, better = pairs.y.map(SIDE), np.sign(pairs.gap)
    for proxy in said:
        known = y.notna() & said[proxy].notna()
        size = said[proxy].abs()
        groups = {ALL: known} | {name: known & (pairs.subgroup == name) for name in SUBGROUPS}
        if proxy == HEAD:
            groups |= {LARGE: known & (size > size[known].median()), SMALL: known & (size <= size[known].median())}
        for name, chosen in groups.items():
            side = np.sign(said[proxy][chosen])
            right, true = (1 + side * y[chosen]) / 2, (1 + side * better[chosen]) / 2
            rows.append(_row(proxy, name, pairs.object[chosen], right, true, (side == 0).sum(), seed, confidence))
    frame = pd.DataFrame(rows)
    sees = frame.proxy.isin([SIMILARITY, HEAD])
    return frame.assign(**_printed(frame, published), encoder=np.where(sees, encoder, ""))


def _row(proxy, subgroup, objects, right, true, ties, seed, confidence) -> dict:
    share = share_by_object(right, np.ones(len(right)), objects, seed, confidence)
    low, high = wilson(right.sum(), len(right), confidence)
    reads = NULL if share.holds(0.5) else AGREES if share.value > 0.5 else DISAGREES
    reads = TIES if len(right) and ties == len(right) else reads
    return {
        "proxy": proxy,
        "subgroup": subgroup,
        "n": len(right),
        "ties": int(ties),
        "agreement": share.value,
        "low": share.low,
        "high": share.high,
        "wilson_low": float(low),
        "wilson_high": float(high),
        "truth": true.mean(),
        "reads": reads,
    }


def _printed(frame: pd.DataFrame, published: pd.DataFrame) -> dict:
    companion = published[published.paper == "companion"].drop_duplicates("item").set_index("item")
    names = [
        ", ".join(filter(None, [ITEMS.get(proxy, "none"), "" if group == ALL else REGIMES.get(group, group)]))
        for proxy, group in zip(frame.proxy, frame.subgroup, strict=True)
    ]
    found = companion.reindex(names)
    return {"printed": found.value.to_numpy(), "printed_n": found.n.to_numpy()}


def judge_table(pairs: pd.DataFrame, seed: int, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Each judge in each subgroup: how often it flips, and how often its consistent verdicts are true.

    Columns: judge, subgroup, pairs (with abstentions), flips, flip_rate, consistent, truth, low, high (of truth, over
    objects), clear_gap (whether it does here what `lib.stats.gates.clear_gap` asks of a judge on a control: "passes" or
    "fails").
    """
    rows = []
    for name in ("x", "y"):
        for group in (ALL, *SUBGROUPS):
            part = pairs if group == ALL else pairs[pairs.subgroup == group]
            kept = part[part[name].isin((WIN, LOSS))]
            right = kept[name].map(SIDE) == np.sign(kept.gap)
            share = share_by_object(right, np.ones(len(kept)), kept.object, seed, confidence)
            flips = int((part[name] == FLIP).sum())
            row = {"judge": name.upper(), "subgroup": group, "pairs": len(part), "flips": flips}
            row |= {"flip_rate": flips / len(part), "consistent": len(kept)}
            row |= {"truth": share.value, "low": share.low, "high": share.high}
            gate = clear_gap([*np.where(right, WIN, LOSS), *[FLIP] * (len(part) - len(kept))])
            rows.append(row | {"clear_gap": "passes" if gate.passed else "fails"})
    return pd.DataFrame(rows)


def head_weights(heads: Sequence[Head], published: pd.DataFrame) -> pd.DataFrame:
    """Weight of each feature in the heads of all folds: mean, lowest, highest, and the companion's.

    In log odds per typical (root mean square) difference of the feature, so that features can be compared; 0 where a
    feature never differed. typical: that difference, mean over the folds. What units the companion's have is not known.
    """
    scaled = np.array([head.weights * head.typical for head in heads])
    printed = published[published.quantity == "weight"].set_index("item").value
    items = {"manifold": "manifold", SIMILARITY: "CLIP"}
    values = [printed.get(f"Bradley-Terry weight, {items.get(name)}", np.nan) for name in FEATURES]
    return pd.DataFrame(
        {
            "feature": FEATURES,
            "weight": scaled.mean(0),
            "lowest": scaled.min(0),
            "highest": scaled.max(0),
            "typical": np.mean([head.typical for head in heads], axis=0),
            "printed": values,
        }
    )
