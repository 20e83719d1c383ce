"""Unfinished jobs without files here: those of other workspaces that share the Redis of this one.

Every daemon looks after all of them, whoever enqueued them: the machine that did may be gone. Each
change is a compare-and-set on the record, so that of several daemons one makes it.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

from daemon.lifecycle.decisions import NO_WORKER, after_expiry
from daemon.lifecycle.transitions import Lifecycle
from daemon.lifecycle.waiting import begun
from daemon.recovery.leases import LeaseWatch
from daemon.runs.workspace_id import is_home
from daemon.store.records import JobRecord, state_from
from jobs.state import PENDING, JobState, State

log = structlog.get_logger(__name__)

GONE = (
    "Its run directory {} was removed while the job was running, and its progress was lost. "
    "Queue it again."
)


class ForeignJobs:
    """Puts right what stands wrong with jobs that have no files here.

    Methods raise :class:`redis.exceptions.RedisError` where Redis is away.
    """

    def __init__(self, lifecycle: Lifecycle, watch: LeaseWatch, max_attempts: int) -> None:
        self.lifecycle, self.watch, self.max_attempts = lifecycle, watch, max_attempts
        self.workspace, self.broker = lifecycle.workspace, lifecycle.broker

    def look(self, ids: Collection[str]) -> None:
        """Look at unfinished jobs: expired leases, times that have come, lost messages."""
        records = self.broker.store.get_many(ids)
        running = [record for record in records if record.state is State.RUNNING]
        gone = [record for record in running if self._has_lost_its_files(record)]
        for record in gone:
            self._fail(record)
        for record in self.watch.expired(record for record in running if record not in gone):
            self._lease_is_over(record)
        for record in records:
            if record.state in PENDING:
                self._is_due(record)
        self._push_those_without_a_message(records)

    def _has_lost_its_files(self, record: JobRecord) -> bool:
        """Tell whether a job ran in this workspace, whose daemon looks at it, and left nothing."""
        here = record.home is not None and is_home(record.home, self.workspace)
        return here and not self.workspace.run(record.id).path.exists()

    def _fail(self, record: JobRecord) -> None:
        new = state_from(record).to(State.FAILED, reason=GONE.format(record.run_dir))
        if self._moved(record, new):
            log.warning("run_directory_gone", job=record.id, reason=new.reason)

    def _lease_is_over(self, record: JobRecord) -> None:
        new = after_expiry(record, self.max_attempts)
        if self._moved(record, new):
            log.warning("lease_is_over", job=record.id, state=new.state, reason=new.reason)

    def _is_due(self, record: JobRecord) -> None:
        new = begun(self.workspace, self.broker, state_from(record), record.id)
        if new.state is not record.state and self._moved(record, new):
            log.info("job_due", job=record.id, state=new.state, reason=new.reason)

    def _moved(self, record: JobRecord, new: JobState) -> bool:
        return self.lifecycle.move_record(record, new, **NO_WORKER)

    def _push_those_without_a_message(self, records: Collection[JobRecord]) -> None:
        queued = [record for record in records if record.state is State.QUEUED]
        for queue in sorted({record.queue for record in queued}):
            known = self.broker.pointed_to(queue)
            for record in queued:
                if record.queue == queue and record.id not in known:
                    self.lifecycle.push(record.id, state_from(record))
                    log.info("message_recovered", job=record.id)
