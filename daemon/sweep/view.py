"""A sweep at a glance: from its files alone, so that it can be seen whatever runs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from daemon.runs.files import record_shown
from daemon.standstill import as_it_is
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.locks import is_held
from jobs.sweep.budget import Budget, seconds_left
from jobs.sweep.folder import (
    SweepSpec,
    SweepState,
    read_sweep,
    read_sweep_state,
    read_trials,
    sweep_ids,
)
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.trial import Trial, leaderboard


@dataclass(frozen=True)
class SweepView:
    """A sweep as it stands.

    Attributes:
        trials: by number.
        coordinated: a daemon coordinates it now.
        seconds_left: how long it will still take; None where nobody can know.
        interrupted: the numbers of the trials that were under way, and that nothing runs now.
    """

    folder: SweepFolder
    spec: SweepSpec
    state: SweepState
    trials: list[Trial]
    coordinated: bool
    seconds_left: float | None
    interrupted: frozenset[int] = frozenset()

    @property
    def ranked(self) -> list[Trial]:
        """The trials that came to a value, best first."""
        return leaderboard(self.trials, maximizes=self.spec.plan.maximizes)

    @property
    def best(self) -> Trial | None:
        """The best trial so far; None before one has come to a value, and has learned."""
        return next((trial for trial in self.ranked if trial.learned), None)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready values."""
        return {
            "id": self.spec.id,
            "name": self.spec.name,
            "created_at": self.spec.created_at,
            "objective": self.spec.plan.objective,
            **asdict(self.state),
            "planned_trials": self.state.trials,
            "coordinated": self.coordinated,
            "seconds_left": self.seconds_left,
            "folder": str(self.folder.path),
            "plan": self.spec.plan.model_dump(mode="json"),
            "leaderboard": [trial.number for trial in self.ranked],
            "trials": [
                asdict(trial)
                | {"pruned": trial.pruned, "learned": trial.learned}
                | {"interrupted": trial.number in self.interrupted}
                for trial in self.trials
            ],
        }


def view_sweep(folder: SweepFolder, now: datetime | None = None) -> SweepView:
    """Return how a sweep stands.

    Raises:
        InvalidInput, JobFailed: its files are missing or damaged.
    """
    spec, state = read_sweep(folder), read_sweep_state(folder)
    trials = read_trials(folder)
    until = datetime.fromisoformat(state.until) if state.until else None
    budget = Budget(datetime.fromisoformat(spec.created_at), until)
    running = sum(not trial.ended for trial in trials)
    left = None
    if state.active:
        left = seconds_left(trials, state.trials, running, budget, now or datetime.now(UTC))
    interrupted = _interrupted(trials, folder.workspace)
    return SweepView(folder, spec, state, trials, is_held(folder.lock), left, interrupted)


def _interrupted(trials: Iterable[Trial], workspace: Workspace) -> frozenset[int]:
    """Return the trials whose job was under way in this workspace, and that nothing runs."""
    return frozenset(
        trial.number
        for trial in trials
        if trial.state is State.RUNNING and (job := trial.newest_job) is not None
        if (record := record_shown(workspace, job)) is not None
        if not record.finished and as_it_is(record, workspace).interrupted
    )


def all_sweeps(workspace: Workspace) -> list[SweepView]:
    """Return the sweeps of a workspace, newest first; one whose files are damaged is left out."""
    views = []
    for sweep in sweep_ids(workspace):
        with suppress(FarenseError):
            views.append(view_sweep(SweepFolder(sweeps_of(workspace) / sweep)))
    return views
