import joblib
import numpy as np
import pytest

from lib.stats.bootstrap import FEW, mean_by_object, share_by_object
from lib.stats.intervals import clopper_pearson


def draws(seed=0, n_objects=40, pairs=3):
    rng = np.random.default_rng(seed)
    objects = np.repeat([f"object {i}" for i in range(n_objects)], pairs)
    return rng.random(len(objects)) < 0.6, np.ones(len(objects)), objects


def test_value_is_the_share_over_pairs_and_the_seed_decides_the_interval():
    win, ones, objects = draws()
    first = share_by_object(win, ones, objects, seed=1)
    assert first.value == pytest.approx(win.mean())
    assert first.low < first.value < first.high
    assert (first.n, first.method) == (120, "bootstrap over objects")
    assert first == share_by_object(win, ones, objects, seed=1)
    assert first.high > share_by_object(win, ones, objects, seed=1, confidence=0.5).high
    assert len({share_by_object(win, ones, objects, seed, n_resamples=99).low for seed in range(5)}) > 1


def test_neither_the_order_of_pairs_nor_global_state_nor_workers_matter():
    win, ones, objects = draws()
    expected = share_by_object(win, ones, objects, seed=1)
    order = np.random.default_rng(5).permutation(len(win))
    np.random.seed(7)  # noqa: NPY002 the point is that it has no effect
    assert share_by_object(win[order], ones, objects[order], seed=1) == expected
    task = joblib.delayed(share_by_object)
    for workers in (1, 3):
        many = joblib.Parallel(workers, prefer="threads")(task(win, ones, objects, seed) for seed in (0, 1, 2))
        assert many[1] == expected


def test_resampling_objects_widens_the_interval_when_pairs_of_an_object_agree():
    win, ones, objects = draws(n_objects=60, pairs=1)
    once = share_by_object(win, ones, objects, 0)
    repeated = share_by_object(np.repeat(win, 9), np.ones(540), np.repeat(objects, 9), 0)
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.15)


def test_all_or_none_gives_the_exact_interval_over_objects():
    for share in (0, 1):
        estimate = share_by_object(np.full(90, share), np.ones(90), np.repeat(np.arange(30), 3), 0)
        assert (estimate.value, estimate.low, estimate.high) == (share, *clopper_pearson(share * 30, 30))
        assert estimate.method == "Clopper-Pearson over objects"


def test_objects_that_all_split_alike_do_not_give_an_interval_of_no_width():
    estimate = share_by_object(np.tile([1, 0], 30), np.ones(60), np.repeat(np.arange(30), 2), 0)
    assert (estimate.low, estimate.high) == clopper_pearson(15, 30)


def test_one_pair_an_object_is_exact_at_any_size():
    estimate = share_by_object(np.arange(100) < 65, np.ones(100), np.arange(100), 0)
    assert (estimate.low, estimate.high) == clopper_pearson(65, 100)
    assert estimate.method == "Clopper-Pearson"


def test_objects_without_a_trial_are_left_out():
    win, ones, objects = draws()
    padded = [np.concatenate(pair) for pair in ((win, [0, 0]), (ones, [0, 0]), (objects, ["x", "y"]))]
    assert share_by_object(*padded, seed=0) == share_by_object(win, ones, objects, seed=0)
    nothing = share_by_object([0, 0], [0, 0], ["x", "y"], seed=0)
    assert np.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n) == (0, 1, 0)


def test_no_data_gives_a_broken_interval():
    """Lopsided, sparse and tiny samples: ends are numbers in order, in [0, 1], around the value."""
    rng = np.random.default_rng(11)
    for _ in range(200):
        n_pairs = rng.integers(1, 120)
        objects = rng.integers(0, rng.integers(1, 3 * FEW), n_pairs)
        below = rng.random(n_pairs) < rng.uniform(0.1, 1)
        above = below & (rng.random(n_pairs) < rng.choice([0.02, 0.5, 0.98]))
        estimate = share_by_object(above, below, objects, 0, n_resamples=199)
        if below.any():
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert estimate.low < estimate.high


def test_mean_by_object_keeps_sign_and_scale():
    values = np.repeat([-1.0, 0.0, 1.0], [10, 20, 30])
    estimate = mean_by_object(values, 1, np.arange(60), 0)
    wider = mean_by_object(values, 2, np.arange(60), 0)
    assert (estimate.value, wider.value) == pytest.approx((1 / 3, 1 / 3))
    assert (estimate.low, estimate.high) == pytest.approx((wider.low, wider.high))
    standard_error = values.std() / np.sqrt(60)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
