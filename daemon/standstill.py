"""A job that does not move: which job that is, and why.

A job may be called ``running`` although nothing runs it: after a reboot, say. Its state stays so
until a daemon puts that right. Whoever shows it asks the locks, which die with their holders, and
of a job on another machine its lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from daemon.runs.workspace_id import host_of, is_home
from daemon.runs.workspace_locks import daemon_lock
from daemon.store.records import JobRecord
from jobs.paths import Workspace
from jobs.state import PENDING, State
from jobs.storage.locks import is_held

if TYPE_CHECKING:
    from jobs.events import Envelope

LOOK_SECONDS = 2.0


def as_it_is(
    record: JobRecord, workspace: Workspace, now: Callable[[], float] | None = None
) -> JobRecord:
    """Return a record with ``interrupted`` set where its job says running and nothing runs it.

    A daemon that lives looks after its jobs itself, between two attempts too. A child on another
    machine ends before the lease of its attempt does, unless that was renewed.

    Args:
        now: the clock of the queue's server, in seconds; None where it is away: then nothing can be
            said of other machines.
    """
    if record.state is not State.RUNNING:
        return record
    if is_home(record.home, workspace):
        if not nothing_runs(record.id, workspace):
            return record
        record = replace(record, worker=None)
    elif now is None or record.lease_until is None or record.lease_until >= now():
        return record
    return replace(record, interrupted=True, pid=None, steps_per_second=None, eta_seconds=None)


def nothing_runs(job_id: str, workspace: Workspace) -> bool:
    """Tell whether neither a daemon nor a child looks after a job of this workspace."""
    run = workspace.run(job_id)
    with suppress(OSError):
        return run.path.is_dir() and not is_held(run.lock) and not daemon_runs(workspace)
    return False


def daemon_runs(workspace: Workspace) -> bool:
    """Tell whether the daemon of a workspace runs; where that cannot be known it does."""
    with suppress(OSError):
        return is_held(daemon_lock(workspace))
    return True


def standstill(record: JobRecord) -> str | None:
    """Return why an unfinished job does not move, where that is in the job itself."""
    if record.interrupted and record.worker is not None:
        host = host_of(record.home)
        return (
            f"interrupted at step {record.step}: {host}, which ran it, has not been heard of; "
            "`farense daemon` there goes on"
        )
    if record.interrupted:
        return f"interrupted at step {record.step}: `farense daemon` {_goes_on(record)}"
    if record.state is State.PAUSED:
        return f"paused at step {record.step}: `farense resume {record.id}` goes on from there"
    return None


def _goes_on(record: JobRecord) -> str:
    if record.evaluates:
        return "goes on after the answers it has"
    if record.checkpoint_step:
        return f"goes on from its checkpoint of step {record.checkpoint_step}"
    return "begins it anew: it has no checkpoint yet"


class StandstillReader(Protocol):
    """What is asked of a client about jobs that do not move."""

    def job(self, argument: str) -> JobRecord:
        """Return a job."""

    def why_nothing_starts(self, queue: str) -> list[str]:
        """Return why none of the queued jobs of a queue starts; nothing where some may."""

    def without_daemon(self, queue: str) -> list[str]:
        """Return that no daemon works on a queue; nothing where one does."""


def held_lines(reader: StandstillReader, records: Iterable[JobRecord]) -> list[str]:
    """Return why nothing goes on: of interrupted jobs what they wait for, of a queue what holds it.

    Nothing is said of a queue while a job runs, or none waits there.
    """
    records = list(records)
    lines = [f"{record.id} is {standstill(record)}." for record in records if record.interrupted]
    if any(record.state is State.RUNNING and not record.interrupted for record in records):
        return lines
    queued = dict.fromkeys(record.queue for record in records if record.state is State.QUEUED)
    later = dict.fromkeys(record.queue for record in records if record.state in PENDING)
    for queue in queued:
        lines += reader.why_nothing_starts(queue)
    for queue in later:
        lines += [] if queue in queued else reader.without_daemon(queue)
    return lines


class StandstillWatch:
    """Tells who follows a job, once each time, why it does not move.

    Args:
        say: is given the event that tells so.
    """

    def __init__(
        self, reader: StandstillReader, job_id: str, say: Callable[[Envelope], object]
    ) -> None:
        self._reader, self._job_id, self._say = reader, job_id, say
        self._said: str | None = None
        self._next = 0.0

    def look(self) -> None:
        """Look, at most every two seconds, and say what is new."""
        from jobs.events import Envelope, StoodStill  # noqa: PLC0415 - `status` needs none of it
        from jobs.state import now  # noqa: PLC0415

        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        record = self._reader.job(self._job_id)
        why = why_still(self._reader, record)
        if why and why != self._said:
            event = StoodStill(record.step, str(record.state), record.interrupted, why)
            self._say(Envelope(event, record.id, record.attempt, now()))
        self._said = why


def why_still(reader: StandstillReader, record: JobRecord) -> str | None:
    """Return in sentences why a job does not move; None where it does, or has ended."""
    if record.finished:
        return None
    own = None if record.interrupted else standstill(record)
    if record.state in (*PENDING, State.QUEUED) and record.reason:
        own = f"{record.state}: {record.reason}"
    lines = [f"{record.id} is {own}."] if own else []
    return " ".join([*lines, *held_lines(reader, [record])]) or None
