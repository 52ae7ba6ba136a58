"""A Bradley-Terry head: how good a candidate is as a weighted sum of its features, learned from which of two won.

The log odds that a beats b are weights @ (features of a - features of b) (Bradley and Terry 1952): logistic regression
without intercept, so that swapping a and b swaps the odds.
"""

from dataclasses import dataclass

import numpy as np
import statsmodels.api as sm

from lib.errors import BadInput
from lib.stats.estimands import LOSS, WIN, count

RIDGE = 1.0  # precision of the normal prior on each weight, in typical differences: finite weights where all agree
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Head:
    """weights: (F,) log odds per unit of each feature. typical: (F,) its root mean square difference in training.
    trained_on: ids of the objects whose verdicts it has seen."""

    weights: np.ndarray
    typical: np.ndarray
    trained_on: frozenset

    def log_odds(self, differences, objects) -> np.ndarray:
        """(n,) log odds that a wins, for features of a less those of b (n, F), on objects that it has not seen.

        Raises BadInput for an object that it was trained on.
        """
        if seen := sorted(self.trained_on & set(np.asarray(objects).tolist())):
            problem = f"{len(seen)} of the objects to be judged were trained on, {seen[0]!r} among them"
            raise BadInput("Bradley-Terry head", problem, "Split by object before fitting")
        return np.asarray(differences, float) @ self.weights


def fit_head(differences, outcomes, objects) -> Head:
    """The head that explains the consistent verdicts best; flips and abstentions are left out.

    differences: (n, F) features of a less those of b. outcomes: (n,) of "win", "loss", "flip", of a. objects: (n,) ids.
    Ridge-penalized maximum likelihood; a feature that never differs weighs nothing. Raises BadInput for other outcomes
    and where every pair flipped.
    """
    counts = count(outcomes)
    if not counts.consistent:
        raise BadInput("outcomes", f"none of {counts.n} verdicts is consistent", "Give more pairs, or clearer ones")
    outcomes = np.asarray(outcomes, dtype=str)
    kept = np.isin(outcomes, (WIN, LOSS))
    x, won = np.asarray(differences, float)[kept], outcomes[kept] == WIN
    typical = np.sqrt((x**2).mean(0))
    scale = np.where(typical > 0, typical, 1)
    model = sm.GLM(won.astype(float), x / scale, family=sm.families.Binomial())
    weights = model.fit_regularized(alpha=RIDGE / len(x), L1_wt=0).params / scale
    return Head(weights, typical, frozenset(np.asarray(objects)[kept].tolist()))


def cross_fit(differences, outcomes, objects, seed: int, folds: int = FOLDS) -> tuple[np.ndarray, list[Head]]:
    """(n,) log odds of every pair by a head that never saw its object, and the `folds` heads; arguments as `fit_head`.

    Objects are dealt to the folds at random; the order of the pairs does not matter. Raises BadInput for fewer objects
    than folds, and where all verdicts outside a fold flipped.
    """
    differences, outcomes, objects = np.asarray(differences, float), np.asarray(outcomes, dtype=str), np.array(objects)
    ids = np.random.default_rng(seed).permutation(np.unique(objects))
    if len(ids) < folds:
        raise BadInput("objects", f"{len(ids)} for {folds} folds", "Give more objects")
    odds, heads = np.empty(len(objects)), []
    for held_out in np.array_split(ids, folds):
        out = np.isin(objects, held_out)
        heads.append(fit_head(differences[~out], outcomes[~out], objects[~out]))
        odds[out] = heads[-1].log_odds(differences[out], objects[out])
    return odds, heads
