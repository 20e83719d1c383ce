"""A trial of a sweep: what was tried, by which jobs, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.state import FINISHED, FINISHED_WELL, State
from jobs.storage.values import well_typed
from jobs.verdict import verdict

Curve = list[list[float]]
"""Validations as pairs of step and loss, in order; the baseline of step 0 is left out."""

# Complete trials, below which importances of settings are noise.
FEWEST_FOR_IMPORTANCES = 4


@dataclass(frozen=True)
class Trial:
    """A trial.

    Attributes:
        number: from 0, in the order in which they were asked for.
        params: what the sampler chose, by the names of the settings.
        settings: the same as values of the config, with what followed from them.
        state: as of a job: ``queued`` until its first job runs.
        jobs: its trainings, one for each seed, in order; as far as they were enqueued.
        evaluations: of those, where the objective needs them.
        curves: the validations of each job.
        baseline_val_loss: the validation loss before training; None where it is not known.
        values: the objective of each job that has ended.
        value: the objective: their mean; of a pruned trial the best it came to.
        pruned_by: who had it end early: ``median``, ``hyperband``, ``time``; None for nobody.
        reason: why it is where it is, for a person.
        failure: the class of its failure (:mod:`daemon.lifecycle.failures`).
        asked_at, ended_at: ISO 8601, UTC.
        seconds: the durations of its jobs, evaluations among them
            (:meth:`jobs.state.JobState.ran_until`).
        step, total_steps: of the job under way.
    """

    number: int
    params: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    state: State = State.QUEUED
    jobs: list[str] = field(default_factory=list)
    evaluations: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    value: float | None = None
    pruned_by: str | None = None
    reason: str | None = None
    failure: str | None = None
    asked_at: str = ""
    ended_at: str | None = None
    seconds: float = 0.0
    step: int = 0
    total_steps: int | None = None
    baseline_val_loss: float | None = None

    @property
    def learned(self) -> bool:
        """Whether its lowest loss is below the one before training, as far as is known."""
        losses = [loss for curve in self.curves if (loss := lowest(curve)) is not None]
        found = verdict(baseline=self.baseline_val_loss, best=min(losses, default=None), gap=None)
        return found is None or found.learned

    @property
    def newest_job(self) -> str | None:
        """The job it is at: a training, or the evaluation of one; None before the first."""
        evaluated = self.jobs and len(self.evaluations) == len(self.jobs)
        return next(reversed(self.evaluations if evaluated else self.jobs), None)

    @property
    def ended(self) -> bool:
        """Whether the trial has ended, well or not."""
        return self.state in FINISHED

    @property
    def pruned(self) -> bool:
        """Whether the trial was ended early."""
        return self.pruned_by is not None

    @property
    def complete(self) -> bool:
        """Whether the trial came to an end of its own, with a value."""
        return self.state in FINISHED_WELL and not self.pruned and self.value is not None


def trial_from(values: Mapping[str, Any]) -> Trial:
    """Return the trial in what JSON holds of it.

    Raises:
        ValueError, KeyError, TypeError: it holds none.
    """
    trial = Trial(**{**values, "state": State(values["state"])})
    if not well_typed(trial):
        raise TypeError("a value has another type than it should have")
    return trial


def curve_of(losses: Mapping[int, float]) -> Curve:
    """Return the curve of validation losses by their steps."""
    return [[step, losses[step]] for step in sorted(losses) if step > 0]


def lowest(curve: Curve) -> float | None:
    """Return the lowest finite loss of a curve; None where there is none."""
    # A point that is no pair was damaged on disk.
    losses = (point[1] for point in curve if len(point) == 2)
    return min(filter(math.isfinite, losses), default=None)


def mean(values: Iterable[float]) -> float | None:
    """Return the mean of some numbers; None of none."""
    found = list(values)
    return sum(found) / len(found) if found else None


def leaderboard(trials: Iterable[Trial], *, maximizes: bool) -> list[Trial]:
    """Return the trials that came to a value, best first; of equal ones that of the lower loss.

    Pruned ones stand among them by the best they came to, but one that another objective than the
    loss is sought for has none. Those that have not learned come last.
    """
    found = [trial for trial in trials if trial.ended and trial.value is not None]
    sign = -1 if maximizes else 1

    def rank(trial: Trial) -> tuple[bool, float, float, int]:
        losses = [loss for curve in trial.curves if (loss := lowest(curve)) is not None]
        worth = sign * (trial.value or 0.0)
        return not trial.learned, worth, min(losses, default=math.inf), trial.number

    return sorted(found, key=rank)


def best_trial(trials: Iterable[Trial], *, maximizes: bool) -> Trial | None:
    """Return the best trial with an adapter to show; None where none has one, or has learned."""
    ranked = leaderboard(trials, maximizes=maximizes)
    return next((trial for trial in ranked if trial.jobs and trial.learned), None)


def best_job(trial: Trial, *, maximizes: bool) -> str:
    """Return the best of a trial's jobs: with several seeds, each has an adapter of its own."""
    scored = list(zip(trial.values, trial.jobs, strict=False))
    if not scored:
        return trial.jobs[0]
    return (max if maximizes else min)(scored, key=lambda pair: pair[0])[1]


def failures_in_a_row(trials: Iterable[Trial]) -> int:
    """Return how many of the trials that ended last have failed; cancelled ones do not count."""
    ended = [t for t in trials if t.ended and t.state is not State.CANCELLED and t.jobs]
    count = 0
    for trial in sorted(ended, key=lambda trial: trial.ended_at or "", reverse=True):
        if trial.state is not State.FAILED:
            break
        count += 1
    return count


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
