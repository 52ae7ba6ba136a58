"""Brier score and reliability curve: known answers, and a calibrated forecaster that has to look like one."""

import numpy as np
import pytest

from lib.stats.scores import brier, reliability


def test_brier_of_a_constant_is_what_the_formula_says():
    happened = np.repeat([1, 0], [30, 10])
    objects = np.arange(40)
    assert brier(np.full(40, 0.5), happened, objects, 0).value == 0.25
    assert brier(np.full(40, 0.9), happened, objects, 0).value == pytest.approx(0.75 * 0.1**2 + 0.25 * 0.9**2)
    assert brier(happened, happened, objects, 0).value == 0
    assert brier(1 - happened, happened, objects, 0).value == 1


def test_brier_interval_takes_objects_as_the_units():
    rng = np.random.default_rng(1)
    p, happened = rng.random(30), rng.random(30) < 0.5
    one = brier(p, happened, np.arange(30), 0)
    copies = brier(np.repeat(p, 9), np.repeat(happened, 9), np.repeat(np.arange(30), 9), 0)
    assert copies.value == pytest.approx(one.value)
    assert copies.high - copies.low > 0.1


def calibrated(seed, n=3000, objects=100):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, rng.random(n) < p, np.arange(n) % objects


def test_a_calibrated_forecaster_lies_on_the_diagonal():
    curves = [reliability(*calibrated(seed), seed) for seed in range(10)]
    held = np.concatenate([(one.low <= one.said) & (one.said <= one.high) for one in curves])
    assert len(held) == 100
    assert held.mean() > 0.88


def test_an_overconfident_forecaster_does_not():
    p, happened, objects = calibrated(0)
    curve = reliability(np.clip(0.5 + 2 * (p - 0.5), 0, 1), happened, objects, 0)
    assert curve.share.iloc[0] > curve.said.iloc[0] + 0.05
    assert curve.high.iloc[-1] < curve.said.iloc[-1]


def test_bins_hold_what_they_say():
    curve = reliability([0.0, 0.04, 0.1, 0.55, 1.0], [0, 1, 1, 0, 1], list("abcde"), 0)
    assert curve.n.tolist() == [2, 1, 1, 1]
    assert curve.said.tolist() == pytest.approx([0.02, 0.1, 0.55, 1.0])
    assert curve.share.tolist() == [0.5, 1, 0, 1]
