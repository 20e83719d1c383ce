"""When a training is a success: six criteria, each judged by a figure. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.compare.curve import number
from jobs.compare.side import Side
from jobs.state import State
from jobs.verdict import GAP_BANDS, NOT_LEARNED

GAP_TARGET = GAP_BANDS[1][0]
F1_TARGET = 0.93


@dataclass(frozen=True)
class Judged:
    """Whether a criterion is met (None: not known), and by which figure."""

    met: bool | None
    figure: str


@dataclass(frozen=True)
class Criterion:
    """A criterion, judged of both runs."""

    name: str
    a: Judged
    b: Judged


def criteria(a: Side, b: Side) -> tuple[Criterion, ...]:
    """Return the success criteria in the order of the procedure."""
    return tuple(Criterion(name, judge(a), judge(b)) for name, judge in CRITERIA.items())


def _no_crash(side: Side) -> Judged:
    if side.state is None:
        return Judged(None, "state not known")
    if side.state is State.FAILED:
        return Judged(False, f"failed{_why(side)}")
    if not side.ended_well:
        return Judged(None, side.state_word)
    if side.failed_attempts:
        before = ", ".join(kind.replace("_", " ") for kind in side.failed_attempts)
        return Judged(False, f"resumed after: {before}")
    return Judged(True, str(side.state))


def _loss_decreased(side: Side) -> Judged:
    first, last = side.curve.first_loss, side.curve.last_loss
    if side.curve.not_finite is not None:
        return Judged(False, f"not finite, step {side.curve.not_finite}")
    if first is None or last is None:
        return Judged(None, "not measured")
    return Judged(last < first, f"{first:.4f} to {last:.4f}")


def _gap(side: Side) -> Judged:
    gap = side.curve.gap
    if not side.curve.learned:
        return Judged(False, NOT_LEARNED)
    if gap is None:
        return Judged(None, "not measured")
    if side.curve.like_with_like:
        return Judged(gap < GAP_TARGET, f"{gap:.3f} {side.curve.gap_status}")
    # The true gap is no smaller: a rough one may be too good, but not too bad.
    return Judged(False if gap >= GAP_TARGET else None, f"{gap:.3f}, rough")


def _token_f1(side: Side) -> Judged:
    score = side.scores.get("token_f1")
    if score is None:
        return Judged(None, "not evaluated")
    if side.outdated:
        return Judged(None, f"{score:.3f}, outdated")
    return Judged(score >= F1_TARGET, f"{score:.3f}")


def _early_stopping(side: Side) -> Judged:
    if side.state is None:
        return Judged(None, "state not known")
    patience = number(side.config, "early_stopping_patience")
    if side.state is State.EARLY_STOPPED:
        return Judged(True, f"step {side.curve.steps}, best {side.curve.best_step}")
    if side.config and patience is None:
        return Judged(False, "none was set")
    if not side.has_ended:
        return Judged(None, side.state_word)
    of_patience = "" if patience is None else f" of {patience:g}"
    return Judged(False, f"{side.curve.since_improvement}{of_patience} at the end")


def _best_saved(side: Side) -> Judged:
    if not (side.has_adapter or side.has_ended):
        return Judged(None, side.state_word)
    if not side.has_adapter:
        return Judged(False if side.made_by_farense else None, "no adapters/")
    if side.curve.best_val_loss is None:
        return Judged(False, "last, not best")
    step = side.curve.best_step
    return Judged(True, "adapters/" if step is None else f"adapters/, step {step}")


def _why(side: Side) -> str:
    return f": {side.failure.replace('_', ' ')}" if side.failure else ""


CRITERIA: dict[str, Callable[[Side], Judged]] = {
    "No crash": _no_crash,
    "Loss decreased": _loss_decreased,
    f"Gap < {GAP_TARGET:.2f}": _gap,
    f"Token F1 >= {F1_TARGET:.2f}": _token_f1,
    "Early stopping engaged": _early_stopping,
    "Best model saved": _best_saved,
}
