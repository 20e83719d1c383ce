"""The life of a job: its states, the transitions between them, and ``state.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jobs.errors import JobFailed
from jobs.files import read_json, write_json
from jobs.paths import RunDirectory


class State(StrEnum):
    """The states of a job; no other word stands for a state anywhere."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({State.COMPLETED, State.EARLY_STOPPED, State.FAILED, State.CANCELLED})

# From each state, where a job may go. `running -> queued` is a job whose worker stopped or died.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.PAUSED, State.FAILED}),
    State.SCHEDULED: frozenset({State.QUEUED, State.CANCELLED}),
    State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.FAILED}),
    State.RUNNING: FINISHED | {State.QUEUED, State.PAUSED},
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.EARLY_STOPPED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


@dataclass(frozen=True)
class JobState:
    """What ``state.json`` holds.

    Attributes:
        attempt: executions so far.
        lost_attempts: those of them that ended in a way nobody asked for (killed, crashed). Only
            they count against the limit: a job that is stopped every morning may go on every night.
        splits: how often each micro-batch is halved, after attempts that ran out of memory.
    """

    state: State
    attempt: int = 0
    lost_attempts: int = 0
    priority: int = 0
    schedule: str | None = None
    after: str | None = None
    reason: str | None = None
    updated_at: str = ""
    splits: int = 0

    def to(self, state: State, **changes: Any) -> JobState:
        """Return the state after a transition.

        Raises:
            JobFailed: the transition table does not allow it.
        """
        if state not in TRANSITIONS[self.state]:
            raise JobFailed(f"A job that is {self.state} cannot become {state}.")
        return replace(self, state=state, updated_at=now(), **changes)


def now() -> str:
    """Return the current time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_state(run: RunDirectory) -> JobState:
    """Return the state in a run directory.

    Raises:
        JobFailed: the file is missing or does not fit its schema.
    """
    try:
        values = read_json(run.state)
        values.pop("version", None)
        return JobState(**{**values, "state": State(values["state"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobFailed(f"{run.state} is missing or damaged: {error}") from error


def write_state(run: RunDirectory, state: JobState) -> None:
    """Replace ``state.json``, atomically."""
    write_json(run.state, {"version": 1, **asdict(state)})
