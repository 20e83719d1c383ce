"""A job that its files call running although nothing runs it: after a reboot, say.

Its state stays ``running`` until a daemon puts that right. Whoever shows it asks the locks, which
die with their holders.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from daemon.lifecycle import daemon_lock
from daemon.machines.home import is_home
from daemon.records import JobRecord
from jobs.lock import is_held
from jobs.paths import Workspace
from jobs.state import State


def as_it_is(record: JobRecord, workspace: Workspace) -> JobRecord:
    """Return a record with ``interrupted`` set where its job says running and nothing runs it.

    A daemon that lives looks after its jobs itself, between two attempts too; and of a job at
    another machine only that machine's locks could tell.
    """
    if record.state is not State.RUNNING or not is_home(record.home, workspace):
        return record
    run = workspace.run(record.id)
    with suppress(OSError):
        if not run.path.is_dir() or is_held(run.lock) or is_held(daemon_lock(workspace)):
            return record
        return replace(
            record,
            interrupted=True,
            pid=None,
            worker=None,
            steps_per_second=None,
            eta_seconds=None,
        )
    return record


def standstill(record: JobRecord) -> str | None:
    """Return why an unfinished job does not move, where that is in the job itself."""
    if record.interrupted:
        return f"interrupted at step {record.step}: `farense daemon` goes on from there"
    if record.state is State.PAUSED:
        return f"paused at step {record.step}: `farense resume {record.id}` goes on from there"
    return None
