"""After a crash: what is on disk, what Redis says, and what to do where they differ.

The decisions are pure functions over :class:`daemon.lifecycle.decisions.JobSnapshot`;
:class:`Recovery` carries them out. It runs when a daemon starts, before it takes work, and after
Redis was away. A lock, not a clock, says whether a job is alive: a job that is ``running`` while
nobody holds its ``run.lock`` has lost its worker.
"""

from __future__ import annotations

import structlog

from daemon.joblog import LogReader
from daemon.lifecycle.decisions import Decision, JobSnapshot, decide
from daemon.lifecycle.transitions import Lifecycle
from daemon.queue.broker import Broker
from daemon.recovery.leases import LeaseWatch
from daemon.recovery.orphans import Orphans
from daemon.recovery.other_machines import ForeignJobs
from daemon.recovery.survey import Survey
from daemon.settings import Settings
from daemon.store.job_store import Written
from daemon.store.progress import send
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.state import PENDING, JobState, State

log = structlog.get_logger(__name__)


class Recovery:
    """Brings files, records and queue of a workspace together.

    Attributes:
        pending: the scheduled and waiting jobs that the last run has met.
    """

    def __init__(self, workspace: Workspace, broker: Broker, settings: Settings) -> None:
        self.workspace = workspace
        self.broker = broker
        self.max_attempts = settings.max_attempts
        self.lifecycle = Lifecycle(workspace, broker.store)
        self.survey = Survey(workspace, broker)
        self.watch = LeaseWatch(settings.lease_seconds)
        self.foreign = ForeignJobs(workspace, broker, self.watch, settings.max_attempts)
        self.orphans = Orphans(settings.grace_seconds)
        self.pending: set[str] = set()
        self._unsettled: set[str] = set()

    def run(self, busy_with: str | None = None, *, thorough: bool = True) -> bool:
        """Mend what differs; False where a job has to be looked at again shortly.

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
        for job_id, facts in self.survey.facts(busy_with, self._unsettled, thorough=thorough):
            decision = decide(facts, self.max_attempts)
            after = decision.state or facts.state
            if after is not None and after.state in PENDING:
                self.pending.add(job_id)
            if decision.wait:
                unsettled.add(job_id)
                kill = facts.record is not None and facts.record.kill_requested
                self.orphans.look(job_id, self.workspace.run(job_id).lock, kill=kill)
            try:
                self._carry_out(job_id, facts, decision)
            except FarenseError as error:
                log.error("job_not_recovered", job=job_id, reason=error.message)
        self.foreign.look(self.survey.foreign)
        self._unsettled = unsettled
        self.orphans.keep(unsettled)
        return not unsettled

    def _carry_out(self, job_id: str, facts: JobSnapshot, decision: Decision) -> None:
        state = facts.state
        if decision.state is not None:
            state = decision.state
            if state.state is not State.QUEUED and state.home is None:
                self._carry_log(job_id, state.attempt)
            if facts.damage is not None:
                log.warning("state_damaged", job=job_id, reason=facts.damage)
            if not self._adopted(job_id, facts, state):
                return
            log.info("job_recovered", job=job_id, state=state.state, reason=state.reason)
        elif decision.publish and self.lifecycle.publish(job_id) is not None:
            log.info("record_recovered", job=job_id, state=state.state if state else None)
        if decision.push and state is not None:
            queue = self.broker.queue(state.queue)
            queue.push(job_id, state.priority, resumed=state.attempt > 0)
            log.info("message_recovered", job=job_id)

    def _adopted(self, job_id: str, facts: JobSnapshot, state: JobState) -> bool:
        if facts.state is None:
            return self.lifecycle.rebuild(job_id, facts.record, state)
        return self.lifecycle.adopt(job_id, facts.state, state)

    def _carry_log(self, job_id: str, attempt: int) -> None:
        """Carry over what a child said after its worker was gone; no attempt follows to do it."""
        store = self.broker.store
        reader = LogReader(self.workspace.job_log(job_id), store.log_offset(job_id))
        while lines := reader.read():
            if send(store, job_id, attempt, lines) is not Written.DONE:
                break
