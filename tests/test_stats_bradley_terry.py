"""The Bradley-Terry head: finds planted weights, never judges what it saw, and finds nothing where nothing is."""

import numpy as np
import pytest

from lib.errors import BadInput
from lib.stats.bootstrap import share_by_object
from lib.stats.bradley_terry import cross_fit, fit_head

WEIGHTS = np.array([2.0, -1.0, 0.0])


def simulated(seed, n_objects=400, weights=WEIGHTS, flips=0.2):
    """Four pairs an object; verdicts drawn by Bradley-Terry from the features, some of them flips."""
    rng = np.random.default_rng(seed)
    objects = np.repeat(np.arange(n_objects), 4)
    differences = rng.normal(size=(len(objects), 3)) * [1, 1, 10]
    won = rng.random(len(objects)) < 1 / (1 + np.exp(-differences @ weights))
    outcomes = np.where(won, "win", "loss").astype("<U4")
    outcomes[rng.random(len(objects)) < flips] = "flip"
    return differences, outcomes, objects


def agreement(odds, outcomes):
    consistent = outcomes != "flip"
    return ((odds > 0) == (outcomes == "win"))[consistent].mean()


def test_planted_weights_are_recovered_in_the_units_of_the_features():
    head = fit_head(*simulated(1, n_objects=4000))
    np.testing.assert_allclose(head.weights, WEIGHTS, atol=0.1)
    np.testing.assert_allclose(head.typical, [1, 1, 10], rtol=0.05)


def test_it_predicts_held_out_objects_about_as_well_as_the_planted_weights_do():
    differences, outcomes, objects = simulated(2)
    odds, heads = cross_fit(differences, outcomes, objects, seed=0)
    assert len(heads) == 5
    assert agreement(odds, outcomes) > agreement(differences @ WEIGHTS, outcomes) - 0.02 > 0.7


def test_every_object_is_held_out_once_and_judged_by_the_head_that_did_not_see_it():
    differences, outcomes, objects = simulated(3, n_objects=30)
    odds, heads = cross_fit(differences, outcomes, objects, seed=0)
    for index, own in enumerate(objects):
        (unseen,) = [head for head in heads if own not in head.trained_on]
        assert odds[index] == pytest.approx(differences[index] @ unseen.weights)


def test_judging_an_object_that_was_trained_on_is_an_error():
    differences, outcomes, objects = simulated(4, n_objects=20)
    head = fit_head(differences, outcomes, objects)
    assert head.log_odds(differences[:1], [99]).shape == (1,)
    with pytest.raises(BadInput, match="trained on"):
        head.log_odds(differences, np.where(objects == 7, 7, 99))


def test_verdicts_that_have_nothing_to_do_with_the_features_are_at_chance():
    """Twenty studies of 40 objects: the 95% interval holds .5 in nearly all, though in training the fit looks good."""
    holds, fitted = 0, []
    for seed in range(20):
        differences, outcomes, objects = simulated(seed, n_objects=40, weights=np.zeros(3), flips=0)
        odds, _ = cross_fit(differences, outcomes, objects, seed)
        right = (odds > 0) == (outcomes == "win")
        holds += share_by_object(right, np.ones(len(right)), objects, seed, n_resamples=999).holds(0.5)
        fitted.append(
            ((differences @ fit_head(differences, outcomes, objects).weights > 0) == (outcomes == "win")).mean()
        )
    assert holds >= 17
    assert np.mean(fitted) > 0.53


def test_swapping_the_candidates_swaps_the_odds_and_changes_no_weight():
    differences, outcomes, objects = simulated(5, n_objects=50)
    swapped = np.array([{"win": "loss", "loss": "win", "flip": "flip"}[outcome] for outcome in outcomes])
    first, second = fit_head(differences, outcomes, objects), fit_head(-differences, swapped, objects)
    np.testing.assert_allclose(first.weights, second.weights, atol=1e-5)


def test_the_order_of_the_pairs_does_not_matter():
    differences, outcomes, objects = simulated(6, n_objects=30)
    order = np.random.default_rng(0).permutation(len(objects))
    odds, _ = cross_fit(differences, outcomes, objects, seed=1)
    shuffled, _ = cross_fit(differences[order], outcomes[order], objects[order], seed=1)
    np.testing.assert_allclose(shuffled, odds[order], atol=1e-4)


def test_a_feature_that_decides_everything_or_never_differs_gets_a_finite_weight():
    differences = np.column_stack([np.tile([1.0, -1.0], 20), np.zeros(40)])
    head = fit_head(differences, np.where(differences[:, 0] > 0, "win", "loss"), np.arange(40))
    assert 1 < head.weights[0] < 20
    assert head.weights[1] == pytest.approx(0)


def test_flips_teach_nothing():
    differences, outcomes, objects = simulated(7, n_objects=50)
    kept = outcomes != "flip"
    every, some = fit_head(differences, outcomes, objects), fit_head(differences[kept], outcomes[kept], objects[kept])
    np.testing.assert_array_equal(every.weights, some.weights)


def test_what_cannot_be_fitted_is_said():
    differences, outcomes, objects = simulated(8, n_objects=4)
    with pytest.raises(BadInput, match="4 for 5 folds"):
        cross_fit(differences, outcomes, objects, seed=0)
    with pytest.raises(BadInput, match="consistent"):
        fit_head(differences, ["flip"] * len(objects), objects)
    with pytest.raises(BadInput, match="'draw'"):
        fit_head(differences, ["draw"] * len(objects), objects)
