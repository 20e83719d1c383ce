"""After a crash: what is on disk, what Redis says, and what to do where they differ.

The decisions are pure functions over :class:`daemon.runs.snapshot.JobSnapshot`;
:class:`Recovery` has them carried out. It runs when a daemon starts, before it takes work, and
after Redis was away. A lock, not a clock, says whether a job is alive: a job that is ``running``
while nobody holds its ``run.lock`` has lost its worker.
"""

from __future__ import annotations

import structlog

from daemon.joblog import LogReader
from daemon.lifecycle.decisions import Decision, decide
from daemon.lifecycle.transitions import Lifecycle
from daemon.recovery.leases import LeaseWatch
from daemon.recovery.orphans import Orphans
from daemon.recovery.other_machines import ForeignJobs
from daemon.recovery.survey import Survey
from daemon.runs.snapshot import JobSnapshot
from daemon.settings import Settings
from daemon.store.records import Written
from jobs.errors import FarenseError
from jobs.state import PENDING, State

log = structlog.get_logger(__name__)


class Recovery:
    """Brings files, records and queue of a workspace together.

    Attributes:
        pending: the scheduled and waiting jobs that the last run has met.
    """

    def __init__(self, lifecycle: Lifecycle, settings: Settings) -> None:
        self.lifecycle = lifecycle
        self.workspace, self.store = lifecycle.workspace, lifecycle.store
        self.max_attempts = settings.max_attempts
        self.survey = Survey(self.workspace, lifecycle.broker)
        self.watch = LeaseWatch(settings.lease_seconds)
        self.foreign = ForeignJobs(lifecycle, self.watch, settings.max_attempts)
        self.orphans = Orphans(settings.grace_seconds)
        self.pending: set[str] = set()
        self._unsettled: set[str] = set()

    def run(self, busy_with: str | None = None, *, thorough: bool = True) -> bool:
        """Reconcile files, records and queue; False where a job has to be looked at again soon.

        Args:
            busy_with: the job that this daemon is running, which needs nothing.
            thorough: take nothing for granted; else jobs that Redis says have ended are passed
                over, and those that are just being enqueued, and of very many a part is looked at.

        Raises:
            RedisError: the server is away.
        """
        if thorough:
            self.watch.forget()
        self.pending, unsettled = set(), set[str]()
        for seen in self.survey.snapshots(busy_with, self._unsettled, thorough=thorough):
            job_id, decision = seen.job, decide(seen, self.max_attempts)
            after = decision.state or seen.state
            if after is not None and after.state in PENDING:
                self.pending.add(job_id)
            if decision.wait:
                unsettled.add(job_id)
                kill = seen.record is not None and seen.record.kill_requested
                self.orphans.look(job_id, self.workspace.run(job_id).lock, kill=kill)
            try:
                self._settle(seen, decision)
            except FarenseError as error:
                log.error("job_not_recovered", job=job_id, reason=error.message)
        self.foreign.look(self.survey.foreign)
        self._unsettled = unsettled
        self.orphans.keep(unsettled)
        return not unsettled

    def _settle(self, seen: JobSnapshot, decision: Decision) -> None:
        state = decision.state
        if state is not None and state.state is not State.QUEUED and state.home is None:
            self._carry_log(seen.job, state.attempt)
        if seen.damage is not None and state is not None:
            log.warning("state_damaged", job=seen.job, reason=seen.damage)
        nothing = state is None and not decision.publish and not decision.push
        if nothing or not self.lifecycle.settle(seen, decision):
            return
        if state is not None:
            log.info("job_recovered", job=seen.job, state=state.state, reason=state.reason)
        elif decision.publish:
            log.info("record_recovered", job=seen.job, state=seen.state and seen.state.state)
        if decision.push:
            log.info("message_recovered", job=seen.job)

    def _carry_log(self, job_id: str, attempt: int) -> None:
        """Carry over what a child said after its worker was gone; no attempt follows to do it."""
        offset = self.store.events.log_offset(job_id)
        reader = LogReader(self.workspace.job_log(job_id), offset)
        while lines := reader.read():
            if self.store.events.send(job_id, attempt, lines) is not Written.DONE:
                break
