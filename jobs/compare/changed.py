"""Which answers changed most from one adapter to the other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.compare.paired import Pair

# In each direction.
MOST = 10


@dataclass(frozen=True)
class Changed:
    """A question that B answered better, or worse, than A; ``change`` is of the token F1."""

    question: str
    reference: str
    answer_a: str
    answer_b: str
    token_f1_a: float
    token_f1_b: float
    change: float


def changed_most(pairs: Sequence[Pair]) -> tuple[tuple[Changed, ...], tuple[Changed, ...]]:
    """Return the questions whose token F1 rose most, and those whose fell most, most first.

    Of equal changes the one with the larger change in chrF comes first, then the earlier one.
    """
    ranked = sorted(pairs, key=lambda pair: (_change(pair), _change(pair, "chrf")), reverse=True)
    better = [_changed(pair) for pair in ranked if _change(pair) > 0]
    worse = [_changed(pair) for pair in reversed(ranked) if _change(pair) < 0]
    return tuple(better[:MOST]), tuple(worse[:MOST])


def _change(pair: Pair, metric: str = "token_f1") -> float:
    return float(pair[1][metric]) - float(pair[0][metric])


def _changed(pair: Pair) -> Changed:
    a, b = pair
    return Changed(
        question=a["question"],
        reference=a["reference"],
        answer_a=a["answer"],
        answer_b=b["answer"],
        token_f1_a=float(a["token_f1"]),
        token_f1_b=float(b["token_f1"]),
        change=_change(pair),
    )
