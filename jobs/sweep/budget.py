"""What time is left, and what can still be done in it: arithmetic over what trials have taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from jobs.sweep.trial import Trial

# Kept for evaluating the best, of all the time there was, where no evaluation was timed yet.
EVALUATION_SHARE = 0.1
LONGEST_EVALUATION = 1_800.0
# An evaluation may take so much longer than the longest seen: other answers, other lengths.
EVALUATION_MARGIN = 1.5
# A run that is told to end measures once more, saves and exits.
ENDING_SECONDS = 5.0


@dataclass(frozen=True)
class Budget:
    """The time of a sweep.

    Attributes:
        began: when it was started, with a zone.
        until: when it is to have ended; None where no time is set.
        evaluation_seconds: the longest evaluation seen; None where there was none.
    """

    began: datetime
    until: datetime | None
    evaluation_seconds: float | None = None

    @property
    def reserve(self) -> float:
        """Seconds kept for evaluating the best."""
        if self.until is None:
            return 0.0
        if self.evaluation_seconds is not None:
            return EVALUATION_MARGIN * self.evaluation_seconds
        whole = (self.until - self.began).total_seconds()
        return min(EVALUATION_SHARE * whole, LONGEST_EVALUATION)

    @property
    def trained_by(self) -> datetime | None:
        """When all trials have to have ended."""
        if self.until is None:
            return None
        return self.until - timedelta(seconds=self.reserve + ENDING_SECONDS)

    def left(self, now: datetime) -> float | None:
        """Return the seconds that are left for trials; None where no time is set."""
        return None if self.trained_by is None else (self.trained_by - now).total_seconds()

    def is_over(self, now: datetime) -> bool:
        """Tell whether trials that still run have to end."""
        left = self.left(now)
        return left is not None and left <= 0

    def allows(self, seconds: float | None, now: datetime) -> bool:
        """Tell whether a trial of so many seconds may be started; None: nobody knows yet."""
        left = self.left(now)
        return left is None or left > (seconds or 0.0)


def trial_seconds(trials: Sequence[Trial]) -> float | None:
    """Return what a trial takes, by the speed seen so far; None before anything was seen.

    The median of those that came to an end of their own. Where there are none, what others took is
    scaled to their whole length, which early stopping may never let them reach: that is cautious.
    """
    whole = [trial.seconds for trial in trials if trial.complete and trial.seconds > 0]
    if whole:
        return median(whole)
    parts = [
        trial.seconds * trial.total_steps / trial.step
        for trial in trials
        if trial.step and trial.total_steps and trial.seconds > 0
    ]
    return median(parts) if parts else None


def seconds_left(
    trials: Sequence[Trial], planned: int | None, workers: int, budget: Budget, now: datetime
) -> float | None:
    """Return how long the sweep will still take; None where nobody can know.

    Args:
        planned: how many trials there are to be; None for as many as the time allows.
        workers: how many trials run at a time.
    """
    at_most = None if budget.until is None else max(0.0, (budget.until - now).total_seconds())
    each = trial_seconds(trials)
    if planned is None or each is None:
        return at_most
    running = sum(1 - _share(trial) for trial in trials if not trial.ended)
    to_come = max(0, planned - len(trials))
    work = each * (running + to_come) / max(1, workers) + (budget.evaluation_seconds or 0.0)
    return work if at_most is None else min(work, at_most)


def _share(trial: Trial) -> float:
    """Return which share of a trial is done, from 0 to 1."""
    return min(1.0, trial.step / trial.total_steps) if trial.total_steps else 0.0
