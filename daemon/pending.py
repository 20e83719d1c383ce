"""Jobs that are not to start yet: at a time, or after another job.

What becomes of such a job is a pure function of its state, the clock, and the state of the job it
waits for; :class:`Pending` asks it again and again for the jobs of a workspace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from daemon.broker import Broker
from daemon.lifecycle import Lifecycle
from daemon.run_files import own_state, state_of
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.state import FINISHED, FINISHED_BADLY, PENDING, JobState, State

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5


def begin(state: JobState, now: datetime, other: State | None) -> JobState:
    """Return the state of a job that is to start as soon as it may.

    Args:
        state: new, or paused before; with ``schedule`` and ``after``.
        other: the state of the job ``after``; None where there is none (any more).
    """
    if state.after is not None and other not in FINISHED:
        if other is not None:
            return replace(state, state=State.WAITING, reason=f"starts after {state.after}")
        return replace(
            state, state=State.FAILED, reason=f"{state.after}, which it was to follow, is gone"
        )
    if state.after is not None and other in FINISHED_BADLY and not state.after_any:
        reason = f"{state.after}, which it was to follow, is {other}"
        return replace(state, state=State.FAILED, reason=reason)
    if state.schedule is not None and datetime.fromisoformat(state.schedule) > now:
        return replace(state, state=State.SCHEDULED, reason=f"starts at {local(state.schedule)}")
    return replace(state, state=State.QUEUED, reason=None)


def local(moment: str) -> str:
    """Return a moment, ISO 8601, as a person reads it."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


class Pending:
    """The scheduled and waiting jobs of a workspace that a daemon knows of."""

    def __init__(self, workspace: Workspace, broker: Broker) -> None:
        self.workspace, self.broker = workspace, broker
        self.lifecycle = Lifecycle(workspace, broker.store)
        self._ids: set[str] = set()
        self._look_at = 0.0

    def add(self, job_id: str) -> None:
        """Look after a job."""
        self._ids.add(job_id)

    def tick(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Queue the jobs whose time has come.

        Raises:
            RedisError: the server is away.
        """
        if not self._ids or clock() < self._look_at:
            return
        self._look_at = clock() + LOOK_SECONDS
        for job_id in sorted(self._ids):
            try:
                self._look(job_id)
            except FarenseError as error:
                log.error("pending_job_not_moved", job=job_id, reason=error.message)

    def _look(self, job_id: str) -> None:
        state = own_state(self.workspace, job_id)
        if state is None or state.state not in PENDING:
            self._ids.discard(job_id)
            return
        new = begin(state, datetime.now(UTC), state_elsewhere(self.workspace, self.broker, state))
        if new.state is state.state:
            return
        if self.lifecycle.adopt(job_id, state, state.to(new.state, reason=new.reason)):
            log.info("job_due", job=job_id, state=new.state, reason=new.reason)
            if new.state is State.QUEUED:
                queue = self.broker.queue(new.queue)
                queue.push(job_id, new.priority, resumed=new.attempt > 0)


def state_elsewhere(workspace: Workspace, broker: Broker, state: JobState) -> State | None:
    """Return the state of the job that ``state`` says to follow, here or on another machine."""
    if state.after is None:
        return None
    record = broker.store.get(state.after)
    other = own_state(workspace, state.after, record) or record or state_of(workspace, state.after)
    return other.state if other else None
