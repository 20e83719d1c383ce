"""The mean of a score, and how far another set of questions like these could have moved it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    scores = np.asarray(values, dtype=np.float64)
    numbers = np.random.default_rng(seed)
    means = [
        scores[numbers.integers(len(scores), size=(BLOCK, len(scores)))].mean(axis=1)
        for _ in range(RESAMPLES // BLOCK)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return {"mean": float(scores.mean()), "low": float(low), "high": float(high)}
