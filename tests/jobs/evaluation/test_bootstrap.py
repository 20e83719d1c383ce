"""Means with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.evaluation.bootstrap import mean_with_interval


def test_the_interval_is_about_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, 400)
    found = mean_with_interval(values.tolist(), 42)
    half = 1.96 * values.std() / 20
    assert found["mean"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(values.mean() - half, abs=half / 10)
    assert found["high"] == pytest.approx(values.mean() + half, abs=half / 10)


def test_it_depends_on_values_and_seed_alone() -> None:
    values = np.random.default_rng(4).random(30).tolist()
    assert mean_with_interval(values, 1) == mean_with_interval(values, 1)
    assert mean_with_interval(values, 1) != mean_with_interval(values, 2)


def test_a_difference_that_is_always_the_same_has_no_width() -> None:
    """The same questions are drawn for both sides, so their difference is a paired one."""
    one, other = [0.2, 0.9, 0.4], [0.1, 0.8, 0.3]
    gain = mean_with_interval([a - b for a, b in zip(one, other, strict=True)], 5)
    assert gain["high"] - gain["low"] < 1e-12
    separate = mean_with_interval(one, 5)["low"] - mean_with_interval(other, 5)["low"]
    assert gain["low"] == pytest.approx(separate)


def test_one_answer_has_an_interval_of_one_point() -> None:
    assert mean_with_interval([0.7], 42) == {"mean": 0.7, "low": 0.7, "high": 0.7}
