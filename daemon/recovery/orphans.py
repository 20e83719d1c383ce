"""Children whose daemon is gone: they write a last checkpoint, and one that does not is killed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from jobs.storage.locks import Holder, holder

log = structlog.get_logger(__name__)

# We cannot know when the child began its checkpoint, so allow two grace periods.
GRACES = 2


@dataclass(frozen=True)
class _Seen:
    holder: Holder | None
    since: float


class Orphans:
    """Watches over the children of daemons that died, by the locks they hold.

    A process is killed only while it holds the lock of its job, at the second look at the
    earliest; one that a person started by hand only where a person wants it.

    Args:
        grace_seconds: how long a child may take for a checkpoint.
    """

    def __init__(self, grace_seconds: float) -> None:
        self.patience = GRACES * grace_seconds
        self._seen: dict[str, _Seen] = {}

    def look(self, job_id: str, lock: Path, *, kill: bool = False) -> None:
        """Look at a job whose lock is held by a process that is not this daemon's child.

        Args:
            lock: ``run.lock`` of the job.
            kill: a person does not want to wait.
        """
        found, now = holder(lock), time.monotonic()
        seen = self._seen.get(job_id)
        if seen is None or seen.holder != found:
            self._seen[job_id] = _Seen(found, now)
            log.warning("waiting_for_run_lock", job=job_id, pid=found.pid if found else None)
        elif found is not None:
            overdue = not found.by_hand and now - seen.since > self.patience
            if kill or overdue:
                log.warning("orphan_killed", job=job_id, pid=found.pid, wanted=kill)
                _kill(found.pid)

    def keep(self, job_ids: set[str]) -> None:
        """Forget all jobs but these: the others' processes have ended."""
        for job_id in self._seen.keys() - job_ids:
            del self._seen[job_id]


def _kill(pid: int) -> None:
    """Kill a process, and what it has started where it leads a group, as a daemon's child does."""
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
