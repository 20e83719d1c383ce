"""Every change of a job's state: ``state.json`` first, then the record.

Clients that cancel and the daemon that claims meet in the same run directory, so changes are made
under one lock of the workspace, held for the few milliseconds of a change. Between machines that
share a Redis, the compare-and-set of the record decides.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from redis.exceptions import RedisError

from daemon.locks import FileLock
from daemon.outcome import Outcome
from daemon.private_folder import private_folder
from daemon.records import JobRecord
from daemon.run_files import record_from_files, state_of
from daemon.store import JobStore, Written
from jobs.errors import WorkspaceError
from jobs.lock import is_held
from jobs.paths import Workspace
from jobs.state import FINISHED, TRANSITIONS, JobState, State, now, write_state

log = logging.getLogger(__name__)

LOCK_SECONDS = 20.0
CANCELLED = "cancelled by the user"


@dataclass(frozen=True)
class Claim:
    """The right to run a job, for one attempt."""

    job_id: str
    attempt: int
    priority: int
    log_offset: int


def daemon_lock(workspace: Workspace) -> Path:
    """Return the lock that a workspace's daemon holds for its whole life; its pid stands in it."""
    return workspace.private / "daemon.lock"


def agreement(state: JobState, record: JobRecord) -> JobState:
    """Return the state a job has when ``state.json`` and the record are brought together.

    The file is the truth, with two exceptions, both of a job that waits: its record was ended by a
    machine that has no run directory of it, or the user asked a worker that died to cancel it.
    """
    if state.state is not State.QUEUED or state.attempt != record.attempt:
        return state
    if record.finished and record.state in TRANSITIONS[state.state]:
        return replace(state, state=record.state, reason=record.reason, updated_at=now())
    if record.cancel_requested:
        return state.to(State.CANCELLED, reason=CANCELLED)
    return state


class Lifecycle:
    """The changes of state that clients and daemons make.

    Methods that touch the record raise :class:`redis.exceptions.RedisError` where Redis is away.
    """

    def __init__(self, workspace: Workspace, store: JobStore) -> None:
        self.workspace = workspace
        self.store = store

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a queued job for its next attempt; None where it is not to be run.

        Stale and doubled messages end here. A job without a run directory in this workspace is
        failed: its data are on another machine.
        """
        with self._changing():
            old = state_of(self.workspace, job_id)
            if old is None:
                self._fail_without_files(job_id)
                return None
            record = self._record(job_id)
            if record is None:
                return None
            old = self._agreed(old, record)
            if old.state is not State.QUEUED:
                return None
            offset = self.store.log_offset(job_id)
            new = old.to(State.RUNNING, attempt=old.attempt + 1, reason=None)
            if not self._claimed(record, old, new, worker):
                return None
        return Claim(job_id, new.attempt, new.priority, offset)

    def conclude(self, job_id: str, attempt: int, outcome: Outcome) -> JobState | None:
        """Write the end of an attempt into ``state.json``; :meth:`publish` brings it to Redis.

        Returns:
            The new state; None where another attempt has taken the job over.
        """
        with self._changing():
            old = state_of(self.workspace, job_id)
            if old is None or (old.state, old.attempt) != (State.RUNNING, attempt):
                return None
            return self._write(job_id, old.to(outcome.state, **outcome.changes(old)))

    def publish(self, job_id: str) -> JobRecord | None:
        """Make the record say what ``state.json`` says, and return it."""
        with self._changing():
            state = state_of(self.workspace, job_id)
            record = self._record(job_id)
            if state is not None:
                self._publish(job_id, state, record)
        return self.store.get(job_id)

    def adopt(self, job_id: str, state: JobState) -> bool:
        """Write a state that was decided elsewhere, if the job has not moved on since.

        Returns:
            Whether it was written.
        """
        with self._changing():
            old = state_of(self.workspace, job_id)
            if old is None or old.state in FINISHED or old.attempt != state.attempt:
                return False
            self._write(job_id, state)
            self._publish(job_id, state, self._record(job_id))
            return True

    def cancel(self, record: JobRecord) -> None:
        """Cancel a job that waits, at once; ask the worker of one that runs."""
        with self._changing():
            old = state_of(self.workspace, record.id)
            if old is None:
                self._cancel_elsewhere(record)
            elif old.state is State.RUNNING and self._attended(record.id):
                self.store.request_cancel(record.id, old.attempt)
            elif old.state not in FINISHED:
                new = self._write(record.id, old.to(State.CANCELLED, reason=CANCELLED))
                self._publish(record.id, new, self._record(record.id))

    def _cancel_elsewhere(self, record: JobRecord) -> None:
        if record.state is State.RUNNING:
            self.store.request_cancel(record.id, record.attempt)
        elif not record.finished:
            old = JobState(record.state, record.attempt, priority=record.priority)
            self.store.transition(record.id, old, old.to(State.CANCELLED, reason=CANCELLED))

    def _attended(self, job_id: str) -> bool:
        """Tell whether a daemon, or a child that still writes its checkpoint, is there."""
        return is_held(daemon_lock(self.workspace)) or is_held(self.workspace.run(job_id).lock)

    def _agreed(self, state: JobState, record: JobRecord) -> JobState:
        """Return the state that both ``state.json`` and the record have afterwards."""
        agreed = agreement(state, record)
        if agreed != state:
            self._write(record.id, agreed)
        self._publish(record.id, agreed, record)
        return agreed

    def _claimed(self, record: JobRecord, old: JobState, new: JobState, worker: str) -> bool:
        started_at = record.started_at or new.updated_at
        self._write(record.id, new)
        try:
            written = self.store.transition(
                record.id, old, new, worker=worker, started_at=started_at
            )
        except RedisError:
            # Redis may have stored it all the same: this attempt is spent, the next one waits.
            reason = "the queue went away while the job was being taken"
            self._write(record.id, new.to(State.QUEUED, reason=reason))
            raise
        if written is not Written.DONE:
            changed = self.store.get(record.id)
            self._write(record.id, agreement(old, changed) if changed else old)
        return written is Written.DONE

    def _fail_without_files(self, job_id: str) -> None:
        record = self.store.get(job_id)
        if record is None or record.state is not State.QUEUED:
            log.warning("a message about the unknown job %s was dropped", job_id)
            return
        reason = (
            f"Its run directory {record.run_dir} is not in this workspace: {self.workspace.root}"
        )
        old = JobState(record.state, record.attempt, priority=record.priority)
        self.store.transition(job_id, old, old.to(State.FAILED, reason=reason))

    def _record(self, job_id: str) -> JobRecord | None:
        """Return the record, made again from the files where Redis has lost it."""
        record = self.store.get(job_id)
        if record is None and (record := record_from_files(self.workspace, job_id)):
            self.store.restore(record)
        return record

    def _publish(self, job_id: str, state: JobState, record: JobRecord | None) -> None:
        if record is not None and not record.follows(state) and record.attempt <= state.attempt:
            nobody = {} if state.state is State.RUNNING else {"worker": None, "pid": None}
            self.store.correct(record, state, **nobody)
        if state.state in FINISHED:
            self.store.expire_events(job_id)

    def _write(self, job_id: str, state: JobState) -> JobState:
        write_state(self.workspace.run(job_id), state)
        return state

    @contextmanager
    def _changing(self) -> Iterator[None]:
        path = private_folder(self.workspace) / "state.lock"
        lock = FileLock.acquire(path, LOCK_SECONDS)
        if lock is None:
            raise WorkspaceError(f"{path} is held by another process for {LOCK_SECONDS:.0f} s.")
        with lock:
            yield
