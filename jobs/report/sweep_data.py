"""A sweep to be shown: its trials in their order, and what their jobs left behind.

Trials come from files that may tell of a sweep under way, or be damaged: a value may be missing, or
not finite. Pure, but for :func:`swept`, which reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from jobs.errors import InvalidInput
from jobs.past_run import read_run
from jobs.paths import Workspace
from jobs.report.run_data import DRAWN, Measured, Series, measured
from jobs.state import State
from jobs.sweep.folder import SweepSpec, SweepState
from jobs.sweep.trial import Curve, Trial, best_job, best_trial, leaderboard

# Trials whose jobs are read, and that tables show: more would nobody read.
MOST = 500


class Kind(StrEnum):
    """What became of a trial, for who looks at many."""

    BEST = "best"
    COMPLETE = "complete"
    PRUNED = "pruned"
    WITHOUT = "failed or cancelled"
    UNDER_WAY = "under way"


@dataclass(frozen=True)
class Swept:
    """A sweep as it stands.

    Attributes:
        trials: by number.
        seconds_left: how long it will still take; None where nobody can know.
        runs: what is left of its jobs, by their ids; only of those whose files are here.
        interrupted: the numbers of the trials that were under way, and that nothing runs now.
    """

    spec: SweepSpec
    state: SweepState
    trials: Sequence[Trial]
    seconds_left: float | None = None
    runs: Mapping[str, Measured] = field(default_factory=dict)
    interrupted: frozenset[int] = frozenset()

    @cached_property
    def ranked(self) -> list[Trial]:
        """The trials that came to a finite value, best first."""
        finite = [t for t in self.trials if t.value is not None and math.isfinite(t.value)]
        return leaderboard(finite, maximizes=self.spec.plan.maximizes)

    @cached_property
    def best(self) -> Trial | None:
        """The best trial with an adapter to show."""
        return best_trial(self.ranked, maximizes=self.spec.plan.maximizes)

    @property
    def unranked(self) -> list[Trial]:
        """The trials that came to no value, or not yet, by number."""
        known = {trial.number for trial in self.ranked}
        return [trial for trial in self.trials if trial.number not in known]

    @property
    def best_job(self) -> str | None:
        """The job of the best trial whose adapter is to be used."""
        return self.job_of(self.best) if self.best else None

    @property
    def best_run(self) -> Measured | None:
        """What is left of that job; None where its files are elsewhere."""
        return self.run_of(self.best) if self.best else None

    def job_of(self, trial: Trial) -> str | None:
        """Return the job that stands for a trial: the best of several seeds."""
        return best_job(trial, maximizes=self.spec.plan.maximizes) if trial.jobs else None

    def run_of(self, trial: Trial) -> Measured | None:
        """Return what is left of that job."""
        return self.runs.get(self.job_of(trial) or "")

    def kind(self, trial: Trial) -> Kind:
        """Return what became of a trial."""
        if self.best is not None and trial.number == self.best.number:
            return Kind.BEST
        if not trial.ended:
            return Kind.UNDER_WAY
        if trial.state in (State.FAILED, State.CANCELLED):
            return Kind.WITHOUT
        return Kind.PRUNED if trial.pruned else Kind.COMPLETE

    def state_word(self, trial: Trial) -> str:
        """Return the state of a trial, or that it was interrupted where nothing runs it."""
        return "interrupted" if trial.number in self.interrupted else str(trial.state)

    def count(self, kind: Kind) -> int:
        """Return how many trials are of a kind; the best is complete or pruned, too."""
        found = sum(self.kind(trial) is kind for trial in self.trials)
        if self.best is None or kind not in (Kind.COMPLETE, Kind.PRUNED):
            return found
        return found + (self.best.pruned is (kind is Kind.PRUNED))

    def seconds(self, at: str) -> float:
        """Return what the sweep took, waits and pauses included; so far, where it goes on.

        Args:
            at: the present moment, ISO 8601.
        """
        until = at if self.state.active else self.state.updated_at or at
        span = datetime.fromisoformat(until) - datetime.fromisoformat(self.spec.created_at)
        return max(0.0, span.total_seconds())

    def steps_per_epoch(self, trial: Trial) -> int | None:
        """Return the micro-batches in a pass of a trial over its data; None where unknown."""
        if "data.train" in self.spec.plan.space:
            run = self.run_of(trial)
            return run.steps_per_epoch if run else None
        specs = (run.run.spec for run in self.runs.values())
        examples = next((spec.train.examples for spec in specs if spec), None)
        batch = trial.settings.get("batch_size", self.spec.base.batch_size)
        if not examples or isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            return None
        return math.ceil(examples / batch)


def swept(
    workspace: Workspace,
    spec: SweepSpec,
    state: SweepState,
    trials: Sequence[Trial],
    seconds_left: float | None = None,
    interrupted: frozenset[int] = frozenset(),
) -> Swept:
    """Return a sweep with what its jobs left in a workspace."""
    found = Swept(spec, state, trials, seconds_left, interrupted=interrupted)
    runs = {}
    for trial in [*found.ranked, *found.unranked][:MOST]:
        job = found.job_of(trial)
        try:
            if job is not None:
                runs[job] = measured(read_run(workspace.run(job).path))
        except InvalidInput:
            # On another machine, or removed: what the sweep itself keeps is shown.
            continue
    return replace(found, runs=runs)


def series_of(curve: Curve) -> Series:
    """Return the validations of a training, those that are not finite apart."""
    pairs = [pair for pair in curve if len(pair) == 2]
    drawn = [(step, loss) for step, loss in pairs if abs(loss) < DRAWN]
    odd = [step for step, loss in pairs if not abs(loss) < DRAWN]
    return Series([step for step, _ in drawn], [loss for _, loss in drawn], odd)
