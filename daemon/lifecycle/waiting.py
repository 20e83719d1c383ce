"""Jobs that are not to start yet: at a time, or after another job.

What becomes of such a job is a pure function of its state, the clock, and the state of the job it
waits for; :class:`Pending` asks it again and again for the jobs of a workspace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from daemon.lifecycle.decisions import begin, come_to
from daemon.lifecycle.transitions import Lifecycle
from daemon.queue.broker import Broker
from daemon.runs.files import verdict_of_files
from daemon.runs.snapshot import Where, snapshot_of
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.state import FINISHED, FINISHED_WELL, PENDING, JobState, State

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5


def begun(
    workspace: Workspace, broker: Broker, state: JobState, job_id: str | None = None
) -> JobState:
    """Return :func:`begin` of a job now, after a look at the one that it is to follow.

    Args:
        job_id: of the job; None of one that is about to be enqueued.

    Raises:
        RedisError: the server is away.
    """
    other = dependency_state(workspace, broker, state)
    asked = state.after is not None and other in FINISHED_WELL and not state.after_any
    unlearned = why_unlearned(workspace, broker, state.after) if asked and state.after else None
    new = begin(state, datetime.now(UTC), other, unlearned)
    if new.state is not State.FAILED or job_id is None:
        return new
    return replace(new, reason=f"{new.reason}. To start it all the same: farense retry {job_id}")


def why_unlearned(workspace: Workspace, broker: Broker, job_id: str) -> str | None:
    """Return why a training that has ended counts as not learned, its losses; else None.

    Of a job of another machine its record says so.

    Raises:
        RedisError: the server is away.
    """
    found = verdict_of_files(workspace, job_id)
    if found is None and (record := broker.store.get(job_id)) is not None:
        found = record.verdict
    return None if found is None or found.learned else f"{found.word}: {found.why}"


class Pending:
    """The scheduled and waiting jobs of a workspace that a daemon knows of.

    There may be thousands, and they are asked about twice a second. So what their files said is
    kept, and of a job that others wait for no more than the file's times are looked at.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self.workspace, self.broker = lifecycle.workspace, lifecycle.broker
        # As last read; None where it has to be read.
        self._states: dict[str, JobState | None] = {}
        self._others = Others(self.workspace, self.broker)
        self._look_at = 0.0

    def add(self, job_id: str) -> None:
        """Look after a job, which may have changed since the last look."""
        self._states[job_id] = None

    def tick(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Queue the jobs whose time has come.

        Raises:
            RedisError: the server is away.
        """
        if not self._states or clock() < self._look_at:
            return
        self._look_at = clock() + LOOK_SECONDS
        self._others.look_again()
        now = datetime.now(UTC)
        for job_id, state in sorted(self._states.items(), key=lambda item: item[0]):
            try:
                if state is None or self._may_begin(state, now):
                    self._look(job_id)
            except FarenseError as error:
                log.error("pending_job_not_moved", job=job_id, reason=error.message)

    def _may_begin(self, state: JobState, now: datetime) -> bool:
        """Tell whether a job's time may have come, without a look at its own file."""
        if state.state is State.WAITING:
            other = self._others.state(state)
            return other is None or other in FINISHED
        return state.schedule is None or datetime.fromisoformat(state.schedule) <= now

    def _look(self, job_id: str) -> None:
        seen = snapshot_of(self.workspace, job_id)
        if (state := seen.own) is None or state.state not in PENDING:
            del self._states[job_id]
            return
        self._states[job_id] = state
        new = begun(self.workspace, self.broker, state, job_id)
        if new.state is state.state:
            return
        self._states[job_id] = None
        if self.lifecycle.settle(seen, come_to(state.to(new.state, reason=new.reason))):
            log.info("job_due", job=job_id, state=new.state, reason=new.reason)


class Others:
    """The states of the jobs that others wait for; a file is read again once it has changed."""

    def __init__(self, workspace: Workspace, broker: Broker) -> None:
        self.workspace, self.broker = workspace, broker
        # By the job: its file, the file's times when it was read, and what it said.
        self._read: dict[str, tuple[Path, tuple[int, int], State | None]] = {}
        self._seen: dict[str, State | None] = {}

    def look_again(self) -> None:
        """Let the next question after each job be answered anew, and forget those not asked for."""
        self._read = {name: found for name, found in self._read.items() if name in self._seen}
        self._seen = {}

    def state(self, waits: JobState) -> State | None:
        """Return the state of the job that ``waits`` is to follow; None where there is none.

        Raises:
            RedisError: the server is away.
        """
        after = waits.after
        if after is None:
            return None
        if after not in self._seen:
            self._seen[after] = self._state(after, waits)
        return self._seen[after]

    def _state(self, after: str, waits: JobState) -> State | None:
        known = self._read.get(after)
        try:
            path = known[0] if known else self.workspace.run(after).state
            found = path.stat()
        except (OSError, FarenseError):
            return dependency_state(self.workspace, self.broker, waits)
        mark = found.st_mtime_ns, found.st_ino
        if known is None or known[1] != mark:
            known = path, mark, dependency_state(self.workspace, self.broker, waits)
            self._read[after] = known
        return known[2]


def dependency_state(workspace: Workspace, broker: Broker, state: JobState) -> State | None:
    """Return the state of the job that ``state`` says to follow, here or on another machine."""
    if state.after is None:
        return None
    record = broker.store.get(state.after)
    seen = snapshot_of(workspace, state.after, record).known()
    if seen.where is Where.DAMAGED and record is None:
        # Not judged before the daemon has made its state again.
        return State.WAITING
    other = seen.own or record or seen.state
    return other.state if other else None
