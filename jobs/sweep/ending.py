"""How a sweep has ended, once nothing of it is under way any more."""

from __future__ import annotations

from collections.abc import Collection

from jobs.state import State
from jobs.sweep.trial import Trial, failures_in_a_row


def outcome(
    trials: Collection[Trial], most: int | None, give_up_after: int, *, exhausted: bool
) -> tuple[State, str]:
    """Return the state a sweep with some value comes to, and why, for a person.

    Args:
        most: how many trials there were to be.
        give_up_after: failures in a row that end it.
        exhausted: nothing else was left to be tried.
    """
    failures = failures_in_a_row(trials)
    if failures >= give_up_after:
        last = max((t for t in trials if t.ended), key=lambda trial: trial.ended_at or "")
        what = f"{failures} trials in a row" if failures > 1 else "a trial"
        return State.FAILED, f"{what} failed, the last: {last.reason}"
    if most is not None and len(trials) >= most:
        return State.COMPLETED, f"all {most} trials have ended"
    if exhausted:
        return State.COMPLETED, "no other trial was left to be tried"
    return State.COMPLETED, "its time was up"


def without_a_value(trials: Collection[Trial]) -> str:
    """Return why a sweep in which no trial had a result has failed."""
    if not trials:
        return "its time was up before a trial was started"
    if any(trial.value is not None and not trial.learned for trial in trials):
        return "no trial has learned: no validation loss came below the one before training"
    reasons = [trial.reason for trial in trials if trial.reason]
    return "no trial had a result" + (f": {reasons[-1]}" if reasons else "")
