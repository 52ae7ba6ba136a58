"""How good stated probabilities are: the Brier score and the reliability curve."""

import numpy as np
import pandas as pd

from lib.stats.bootstrap import share_by_object
from lib.stats.intervals import CONFIDENCE, Estimate


def brier(p, happened, objects, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """Mean squared distance (Brier 1950) of probabilities from what happened; 0 is perfect, .25 is always saying .5.

    p, happened, objects: (n,); interval as `share_by_object`.
    """
    score = (np.asarray(p, float) - np.asarray(happened, float)) ** 2
    return share_by_object(score, np.ones(len(score)), objects, seed, confidence)


def reliability(p, happened, objects, seed: int, bins: int = 10, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """How often what was said to have a probability happened, for equal bins of the probability that are not empty.

    p, happened, objects: (n,). Columns: n, said (mean of p), share (that happened), low, high (as `share_by_object`).
    """
    frame = pd.DataFrame({"p": np.asarray(p, float), "y": np.asarray(happened, float), "object": np.asarray(objects)})
    place = np.minimum((frame.p * bins).astype(int), bins - 1)  # 1 belongs to the last bin
    rows = []
    for _, part in frame.groupby(place):
        share = share_by_object(part.y, np.ones(len(part)), part.object, seed, confidence)
        rows.append({"n": len(part), "said": part.p.mean(), "share": share.value, "low": share.low, "high": share.high})
    return pd.DataFrame(rows, columns=["n", "said", "share", "low", "high"])
