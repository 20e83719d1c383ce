"""The mean of a score, and how far another set of questions like these could have moved it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
BLOCK = 100
CONFIDENCE = 0.95


def mean_with_interval(values: Sequence[float], seed: int) -> dict[str, float]:
    """Return ``mean``, and the 95% percentile bootstrap interval around it as ``low``, ``high``.

    Depends on the values and ``seed`` alone. The same questions are drawn for every score of as
    many answers, so the interval of differences is a paired one.

    Args:
        values: one an answer, at least one.
    """
    means = resampled_means(values, seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}


def resampled_means(values: Sequence[float], seed: int) -> NDArray[np.float64]:
    """Return the means of ``RESAMPLES`` samples, each as large as ``values`` and drawn from it."""
    scores = np.asarray(values, dtype=np.float64)
    numbers = np.random.default_rng(seed)
    means = [
        scores[numbers.integers(len(scores), size=(BLOCK, len(scores)))].mean(axis=1)
        for _ in range(RESAMPLES // BLOCK)
    ]
    return np.concatenate(means)
