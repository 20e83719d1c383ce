"""Whether two adapters' answers to the same questions differ by more than chance. Pure.

The questions are resampled with replacement, the same ones for both adapters: the paired bootstrap
of Koehn, *Statistical significance tests for machine translation evaluation* (2004). The interval
is the percentile interval of the mean difference (Efron & Tibshirani, *An introduction to the
bootstrap*, 1993, section 13.3). The p-value is two-sided: the share of samples whose mean, after
all differences were shifted so that theirs is 0, is as far from 0 as the one observed (there,
section 16.4), with one added to both counts (Davison & Hinkley, *Bootstrap methods and their
application*, 1997, section 4.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.compare.curve import number
from jobs.evaluation.bootstrap import RESAMPLES, mean_with_interval, resampled_means
from jobs.evaluation.scores import METRICS

SEED = 42
# Two figures that differ by less are the same but for rounding.
ROUNDING = 1e-12

Row = Mapping[str, Any]
Pair = tuple[Row, Row]


@dataclass(frozen=True)
class ScoreDifference:
    """A score of A and B, from 0 to 1, and how they differ.

    Attributes:
        metric: its name, of ``METRICS``.
        a, b: the means; None of a run that was not evaluated.
        difference: ``b - a``.
        low, high: the 95% interval of the difference; None where answers were not paired.
        p: two-sided, of a difference as large where there is none.
        pairs: questions that were answered by both; 0 where answers were not paired.
    """

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    pairs: int = 0


def pairs_of(a: Sequence[Row], b: Sequence[Row]) -> list[Pair]:
    """Return the answers to the same question with the same reference, in the order of A.

    A question that stands in the set several times is paired as often, first with first. An answer
    without a counterpart, or without all scores, is left out.
    """
    theirs = dict(_numbered(b))
    found = ((row, theirs.get(key)) for key, row in _numbered(a))
    return [(row, other) for row, other in found if other is not None]


def paired_difference(pairs: Sequence[Pair], metric: str, seed: int = SEED) -> ScoreDifference:
    """Return how a score differs over paired answers, of which there is at least one."""
    of_a = [float(a[metric]) for a, _ in pairs]
    of_b = [float(b[metric]) for _, b in pairs]
    change = [after - before for before, after in zip(of_a, of_b, strict=True)]
    found = mean_with_interval(change, seed)
    return ScoreDifference(
        metric,
        float(np.mean(of_a)),
        float(np.mean(of_b)),
        found["mean"],
        found["low"],
        found["high"],
        two_sided_p(change, seed),
        len(pairs),
    )


def unpaired_difference(
    a: Mapping[str, float], b: Mapping[str, float], metric: str
) -> ScoreDifference:
    """Return the means of two evaluations that cannot be paired, as far as there are any."""
    before, after = a.get(metric), b.get(metric)
    change = None if before is None or after is None else after - before
    return ScoreDifference(metric, before, after, change)


def two_sided_p(differences: Sequence[float], seed: int = SEED) -> float:
    """Return the p-value of a mean difference; 1 of one that is 0."""
    observed = abs(float(np.mean(differences)))
    if observed < ROUNDING:
        return 1.0
    shifted = resampled_means(differences, seed) - np.mean(differences)
    as_far = int(np.count_nonzero(np.abs(shifted) >= observed - ROUNDING))
    return (as_far + 1) / (RESAMPLES + 1)


def _numbered(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str, int], Row]]:
    """Yield rows with a key of their own: question, reference, how often that came before."""
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        question, reference, answer = (row.get(k) for k in ("question", "reference", "answer"))
        texts = isinstance(question, str) and isinstance(reference, str)
        if not texts or not isinstance(answer, str):
            continue
        key = (str(question), str(reference))
        seen[key] += 1
        if all(number(row, metric) is not None for metric in METRICS):
            yield (*key, seen[key]), row
