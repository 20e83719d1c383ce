"""The life of a job: its states, the transitions between them, and ``state.json``."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jobs.errors import JobFailed
from jobs.paths import RunDirectory
from jobs.storage.files import read_json, write_json
from jobs.storage.values import well_typed

# Of a job, as Huey keeps it: a float, which must stay exact; and more than anybody needs.
LOWEST_PRIORITY, HIGHEST_PRIORITY = -1_000_000, 1_000_000


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

    @property
    def verb(self) -> str:
        """The state as a sentence says it: ``is running``, ``has failed``."""
        return VERBS.get(self, f"is {self}")


VERBS = {State.FAILED: "has failed", State.EARLY_STOPPED: "has stopped early"}

FINISHED = frozenset({State.COMPLETED, State.EARLY_STOPPED, State.FAILED, State.CANCELLED})

# States of a job that has not begun, or not gone on, for a reason of its own.
PENDING = frozenset({State.SCHEDULED, State.WAITING})
# Those of one that starts by itself.
UNSTARTED = PENDING | {State.QUEUED}
# Those of one that neither runs nor has ended, in the order in which they are listed.
IDLE = (State.QUEUED, State.SCHEDULED, State.WAITING, State.PAUSED)
FINISHED_BADLY = frozenset({State.FAILED, State.CANCELLED})
FINISHED_WELL = FINISHED - FINISHED_BADLY

DEFAULT_QUEUE = "default"

# Endings that ``state.json`` keeps.
HISTORY_LENGTH = 20

# Numbers that count something, and more than any of them ever will be.
COUNTS = ("attempt", "lost_attempts", "splits")
MOST = 1_000_000

# From each state, where a job may go. `running -> queued` is a job whose worker stopped or died; a
# job whose files turn out to be damaged fails wherever it stands.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.PAUSED, State.FAILED}),
    State.SCHEDULED: FINISHED_BADLY | {State.QUEUED, State.WAITING, State.PAUSED},
    State.WAITING: FINISHED_BADLY | {State.QUEUED, State.SCHEDULED, State.PAUSED},
    State.RUNNING: FINISHED | {State.QUEUED, State.PAUSED},
    State.PAUSED: PENDING | FINISHED_BADLY | {State.QUEUED},
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
        schedule: not to be started before this moment, ISO 8601 in UTC.
        after: the id of the job that is to end first: well, or in any way with ``after_any``.
        splits: how often each micro-batch is halved, after attempts that ran out of memory.
        failure: the class of the last ending; None where it was not a failure.
        history: the attempts that failed, newest last: ``attempt``, ``class``, ``how`` (a signal,
            say), ``reason`` and ``at``.
        boot: names the time since the machine was started in which the last attempt began.
        queue: the name of the queue it stands on.
        home: the workspace (``host:path#id``) that has taken the job over; what stands here is then
            a copy of what was last heard of it. None where it is this one.
        started_at: when the first attempt began, ISO 8601 in UTC; None before it.
        attempt_started_at: when the last one did.
        ran_seconds: how long those attempts ran that have ended; None of a job begun by a version
            that did not note it.
    """

    state: State
    attempt: int = 0
    lost_attempts: int = 0
    priority: int = 0
    schedule: str | None = None
    after: str | None = None
    after_any: bool = False
    reason: str | None = None
    updated_at: str = ""
    splits: int = 0
    failure: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    boot: str | None = None
    queue: str = DEFAULT_QUEUE
    home: str | None = None
    started_at: str | None = None
    attempt_started_at: str | None = None
    ran_seconds: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.state in FINISHED

    def to(self, state: State, *, ended_at: str | None = None, **changes: Any) -> JobState:
        """Return the state after a transition.

        Args:
            ended_at: when the attempt under way ended, where that is known to have been earlier.

        Raises:
            JobFailed: the transition table does not allow it.
        """
        if state not in TRANSITIONS[self.state]:
            raise JobFailed(f"A job that is {self.state} cannot become {state}.")
        if state in FINISHED_WELL:
            changes["failure"] = None
        moment = now()
        if self.state is State.RUNNING:
            earlier = _within(ended_at, self.attempt_started_at, moment)
            changes["ran_seconds"] = self.ran_until(earlier or moment)
            if state in FINISHED and earlier:
                moment = earlier
        new = replace(self, state=state, updated_at=moment, **changes)
        return new.begun() if state is State.RUNNING else new

    def ran_until(self, moment: str) -> float | None:
        """Return how many seconds the attempts had run on the clock by then; None if unknown.

        This is what every screen calls the duration of a job: pauses, and waits between attempts,
        are not in it.
        """
        if self.ran_seconds is None or self.attempt_started_at is None:
            return None
        if self.state is not State.RUNNING:
            return self.ran_seconds
        since = max(0.0, seconds_between(self.attempt_started_at, moment))
        return round(self.ran_seconds + since, 3)

    def begun(self) -> JobState:
        """Return the state with the times of an attempt that begins at its ``updated_at``."""
        first = self.started_at is None
        return replace(
            self,
            started_at=self.updated_at if first else self.started_at,
            attempt_started_at=self.updated_at,
            ran_seconds=0.0 if first and self.attempt <= 1 else self.ran_seconds,
        )


def seconds_between(first: str, last: str) -> float:
    """Return the seconds from one moment to another, both ISO 8601; 0 where one of them is none."""
    try:
        return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _within(moment: str | None, first: str | None, last: str) -> str | None:
    """Return a moment that lies between two others; None where it does not."""
    if moment is None or first is None:
        return None
    inside = seconds_between(first, moment) > 0 and seconds_between(moment, last) >= 0
    return moment if inside else None


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
        return checked(JobState(**{**values, "state": State(values["state"])}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobFailed(f"{run.state} is missing or damaged: {error}") from error


def is_history(value: Any) -> bool:
    """Tell whether ``value`` can be read as the history of a job."""
    return isinstance(value, list) and all(
        isinstance(entry, dict)
        and all(item is None or isinstance(item, str | int | float) for item in entry.values())
        for entry in value
    )


def checked(state: JobState) -> JobState:
    """Return ``state``, which decides what becomes of the job.

    Raises:
        TypeError, ValueError: a value is not what it should be.
    """
    if not well_typed(state):
        raise TypeError("a value has another type than it should have")
    for name in COUNTS:
        if not 0 <= getattr(state, name) <= MOST:
            raise ValueError(f"{name} is not between 0 and {MOST}")
    if not is_history(state.history):
        raise TypeError("history is not a list of objects")
    if state.ran_seconds is not None and not 0 <= state.ran_seconds < math.inf:
        raise ValueError("ran_seconds is no length of time")
    if state.schedule is not None and datetime.fromisoformat(state.schedule).tzinfo is None:
        raise ValueError("schedule has no zone")
    return state


def write_state(run: RunDirectory, state: JobState) -> None:
    """Replace ``state.json``, atomically."""
    write_json(run.state, state_values(state))


def state_values(state: JobState) -> dict[str, Any]:
    """Return what ``state.json`` holds for ``state``."""
    return {"version": 1, **asdict(state)}
