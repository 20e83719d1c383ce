"""Which of two adapters to use. Pure.

The rule, in this order:

1. A run that left no adapter loses against one that did.
2. Where both were evaluated, on at least :data:`FEWEST` questions that can be paired, the 95%
   interval of the difference in token F1 decides: above 0, B is better; below 0, worse; else they
   are similar.
3. Else the best validation losses decide: B is better or worse where they differ by more than
   :data:`LOSS_MARGIN`, else similar. Losses that were measured in another way, of another model or
   over other tokens, decide nothing, and no more does a gap between them.
4. Of similar ones B is used if it generalizes better: its gap at the best step is smaller than A's
   by more than :data:`GAP_MARGIN`, a gap below 0 counting as 0, and its best validation loss is not
   higher by more than :data:`LOSS_MARGIN`: what has learned less has a smaller gap, too. Where that
   cannot be told, A stays. The gap of a run that has not learned (:mod:`jobs.verdict`) says
   nothing: it never speaks for that run.
5. Where losses decide, and neither is below the one before training, there is nothing to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobs.compare.criteria import GAP_TARGET
from jobs.compare.paired import ScoreDifference
from jobs.compare.side import Side, measured_otherwise

# Nats per token: 1% of the perplexity.
LOSS_MARGIN = 0.01
GAP_MARGIN = 0.01
# If all of five pairs differ in one direction, chance does that in 2 of 2^5 cases: over 5%.
FEWEST = 6
PRIMARY = "token_f1"


class Relation(StrEnum):
    """What B is beside A."""

    BETTER = "better"
    SIMILAR = "similar"
    WORSE = "worse"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What to do."""

    USE_B = "use B"
    KEEP_A = "keep A"
    NONE = "no decision"


class Basis(StrEnum):
    """What a verdict rests on."""

    F1 = "token_f1"
    LOSS = "validation_loss"
    ADAPTER = "adapter"


@dataclass(frozen=True)
class Recommendation:
    """What to do, what that rests on (None: nothing was measured of both), and why."""

    verdict: Relation
    action: Action
    basis: Basis | None
    reasons: tuple[str, ...]


def decide(a: Side, b: Side, token_f1: ScoreDifference, unpaired: str | None) -> Recommendation:
    """Return which of two runs to use.

    Args:
        token_f1: how it differs, with the interval where ``unpaired`` is None.
        unpaired: why answers cannot decide.
    """
    if not (a.usable and b.usable):
        return _by_adapter(a, b)
    other = ", ".join(measured_otherwise(a, b))
    if unpaired is None and token_f1.low is not None and token_f1.high is not None:
        verdict, basis = _by_interval(token_f1.low, token_f1.high), Basis.F1
        reasons = [_interval_reason(token_f1), *([] if other else _loss_reason(a, b))]
    elif other:
        reason = f"Losses do not compare (other {other}), so only answers can decide: {unpaired}."
        return Recommendation(Relation.UNKNOWN, Action.NONE, None, (reason,))
    elif a.curve.best_val_loss is not None and b.curve.best_val_loss is not None:
        verdict, basis = _by_loss(a.curve.best_val_loss, b.curve.best_val_loss), Basis.LOSS
        alone = f"That rests on validation losses alone: {unpaired}."
        reasons = [*_loss_reason(a, b), alone]
    else:
        reason = f"{_without_loss(a, b)} validation loss, so nothing compares: {unpaired}."
        return Recommendation(Relation.UNKNOWN, Action.NONE, None, (reason,))
    action = Action.USE_B if verdict is Relation.BETTER else Action.KEEP_A
    if basis is Basis.LOSS and not (a.curve.learned or b.curve.learned):
        reasons.append("Neither has learned: no validation loss is below the one before training.")
        return Recommendation(verdict, Action.NONE, basis, tuple(reasons))
    if verdict is Relation.SIMILAR:
        action, reason = _by_gap(a, b)
        reasons.append(reason)
    cautions = _cautions(b) if action is Action.USE_B else []
    return Recommendation(verdict, action, basis, (*reasons, *cautions))


def _by_adapter(a: Side, b: Side) -> Recommendation:
    without = {name: side for name, side in (("A", a), ("B", b)) if not side.usable}
    reasons = tuple(f"{name} has no adapter: it {s.ending}." for name, s in without.items())
    if len(without) == 2 or not all(side.has_ended for side in without.values()):
        return Recommendation(Relation.UNKNOWN, Action.NONE, None, reasons)
    if a.usable:
        return Recommendation(Relation.WORSE, Action.KEEP_A, Basis.ADAPTER, reasons)
    return Recommendation(Relation.BETTER, Action.USE_B, Basis.ADAPTER, (*reasons, *_cautions(b)))


def _by_interval(low: float, high: float) -> Relation:
    if low > 0:
        return Relation.BETTER
    return Relation.WORSE if high < 0 else Relation.SIMILAR


def _by_loss(a: float, b: float) -> Relation:
    if abs(b - a) <= LOSS_MARGIN:
        return Relation.SIMILAR
    return Relation.BETTER if b < a else Relation.WORSE


def _by_gap(a: Side, b: Side) -> tuple[Action, str]:
    """Return what to do with similar runs, and why."""
    if other := ", ".join(measured_otherwise(a, b)):
        return Action.KEEP_A, f"Their gaps do not compare: other {other}."
    before, after = a.curve.gap, b.curve.gap
    if not b.curve.learned:
        return Action.KEEP_A, f"B has not learned, so its gap says nothing: {_not_below(b)}."
    if not a.curve.learned:
        return Action.USE_B, f"A has not learned, so its gap says nothing: {_not_below(a)}."
    if before is None or after is None:
        without = " and ".join(n for n, gap in (("A", before), ("B", after)) if gap is None)
        return Action.KEEP_A, f"Which generalizes better is not known: no gap of {without}."
    if not b.curve.like_with_like:
        # A's gap may be rough, too: that can only speak for A.
        rough = "B's gap is only rough, and may be larger"
        return Action.KEEP_A, f"Which generalizes better is not known: {rough}."
    figures = f"gap {after:.3f} with B, {before:.3f} with A"
    smaller = max(after, 0.0) < max(before, 0.0) - GAP_MARGIN
    if smaller and _has_higher_loss(a, b):
        return Action.KEEP_A, f"B has learned less, so its gap says little: {figures}."
    if smaller:
        return Action.USE_B, f"B generalizes better: {figures}."
    return Action.KEEP_A, (
        f"B does not generalize better: {figures}. It would have to be smaller by more than "
        f"{GAP_MARGIN:g}; below 0 counts as 0."
    )


def _not_below(side: Side) -> str:
    best, before = side.curve.best_val_loss, side.curve.baseline_val_loss
    return f"its best validation loss, {best:.4f}, is not below {before:.4f} before training"


def _has_higher_loss(a: Side, b: Side) -> bool:
    before, after = a.curve.best_val_loss, b.curve.best_val_loss
    return before is None or after is None or _by_loss(before, after) is Relation.WORSE


def _interval_reason(score: ScoreDifference) -> str:
    low, high = score.low or 0.0, score.high or 0.0
    sense = {
        Relation.BETTER: "all of it above 0",
        Relation.WORSE: "all of it below 0",
        Relation.SIMILAR: "with 0 in it: the difference may be chance",
    }[_by_interval(low, high)]
    return (
        f"Token F1 over {score.pairs} questions: {score.b:.3f} with B, {score.a:.3f} with A. "
        f"The 95% interval of the difference is {low:+.3f} to {high:+.3f}, {sense}."
    )


def _loss_reason(a: Side, b: Side) -> list[str]:
    before, after = a.curve.best_val_loss, b.curve.best_val_loss
    if before is None or after is None:
        return []
    margin = f"the margin of {LOSS_MARGIN:g} nats per token"
    sense = {
        Relation.BETTER: f"lower by more than {margin}",
        Relation.WORSE: f"higher by more than {margin}",
        Relation.SIMILAR: f"within {margin}",
    }[_by_loss(before, after)]
    return [f"Best validation loss: {after:.4f} with B, {before:.4f} with A: {sense}."]


def _without_loss(a: Side, b: Side) -> str:
    lacking = [n for n, side in (("A", a), ("B", b)) if side.curve.best_val_loss is None]
    return "Neither has a finite" if len(lacking) == 2 else f"{lacking[0]} has no finite"


def _cautions(b: Side) -> list[str]:
    """Return what to know of a run that is to be used all the same."""
    found = []
    if b.state is not None and b.has_ended and not b.ended_well:
        found.append(f"B {b.ending}; its adapter is the best of what came before.")
    if not b.curve.learned:
        found.append(f"But B has not learned ({b.curve.gap_status}): {_not_below(b)}.")
    elif b.curve.gap is not None and b.curve.gap >= GAP_TARGET:
        found.append(f"But B overfits: its gap is {b.curve.gap:.3f}, {b.curve.gap_status}.")
    return found
