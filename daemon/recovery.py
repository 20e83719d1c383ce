"""After a crash: what is on disk, what Redis says, and what to do where they differ.

The decisions are pure functions over :class:`Facts`; :class:`Recovery` gathers the facts and
carries the decisions out. It runs when a daemon starts, before it takes work, and after Redis was
away. A lock, not a clock, says whether a job is alive: a job that is ``running`` while nobody holds
its ``run.lock`` has lost its worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from daemon.boot import boot_id
from daemon.broker import Broker
from daemon.joblog import LogReader
from daemon.lifecycle import CANCELLED, Lifecycle, agreement
from daemon.mirror import send
from daemon.outcome import PAUSED, outcome_of_lost
from daemon.records import JobRecord
from daemon.run_files import job_ids, state_of, summary_state
from daemon.store import Written
from jobs.errors import FarenseError
from jobs.lock import is_held
from jobs.paths import Workspace
from jobs.state import FINISHED, FINISHED_WELL, PENDING, JobState, State

log = structlog.get_logger(__name__)

FRESH_SECONDS = 60.0
# Records of jobs that have ended, in a look that takes nothing for lost.
LOOKED_AT = 100


@dataclass(frozen=True)
class Facts:
    """What is known of a job with a run directory.

    Attributes:
        state: what ``state.json`` says.
        record: what Redis says; None where it knows nothing.
        alive: some process holds ``run.lock``.
        message: a message on the queue points to the job.
        summary: the state in ``training_summary.json``, where there is one.
        boot: the time since the machine was started (:func:`daemon.boot.boot_id`).
    """

    state: JobState
    record: JobRecord | None
    alive: bool
    message: bool
    summary: str | None = None
    boot: str | None = None


@dataclass(frozen=True)
class Decision:
    """What to do with a job.

    Attributes:
        state: what ``state.json`` shall say; None to leave it.
        publish: the record shall be made to say what ``state.json`` says.
        push: a message shall be put on the queue.
        wait: a child still writes its last checkpoint; decide again when it is gone.
    """

    state: JobState | None = None
    publish: bool = False
    push: bool = False
    wait: bool = False


def decide(facts: Facts, max_attempts: int) -> Decision:
    """Return what to do with a job."""
    state, record = facts.state, facts.record
    if state.state is State.RUNNING:
        if facts.alive:
            return Decision(wait=True)
        state = _without_worker(facts, max_attempts)
    elif record is not None:
        state = agreement(state, record)
    return Decision(
        state=state if state != facts.state else None,
        publish=record is None or not record.follows(state),
        push=state.state is State.QUEUED and not facts.message,
    )


def _without_worker(facts: Facts, max_attempts: int) -> JobState:
    state, record = facts.state, facts.record
    if facts.summary in FINISHED_WELL:
        # The child came to its end; only nobody was there to write it down.
        return state.to(State(facts.summary))
    if record is not None and record.cancel_requested:
        return state.to(State.CANCELLED, reason=CANCELLED)
    if record is not None and record.pause_requested:
        return state.to(State.PAUSED, reason=PAUSED)
    outcome = outcome_of_lost(state, facts.boot, max_attempts)
    return state.to(outcome.state, **outcome.changes(state))


class Recovery:
    """Brings files, records and queue of a workspace together.

    Attributes:
        pending: the scheduled and waiting jobs that the last run has met.
    """

    def __init__(self, workspace: Workspace, broker: Broker, max_attempts: int) -> None:
        self.workspace = workspace
        self.broker = broker
        self.max_attempts = max_attempts
        self.lifecycle = Lifecycle(workspace, broker.store)
        self.pending: set[str] = set()
        self._looked_at = 0

    def run(self, busy_with: str | None = None, *, thorough: bool = True) -> bool:
        """Mend what differs; False where a job has to be looked at again shortly.

        Args:
            busy_with: the job that this daemon is running, which needs nothing.
            thorough: take nothing for granted; else jobs that Redis says have ended are passed
                over, and those that are just being enqueued.

        Raises:
            RedisError: the server is away.
        """
        settled = True
        self.pending = set()
        for job_id, facts in self._facts(busy_with, thorough=thorough):
            if facts.state.state in PENDING:
                self.pending.add(job_id)
            decision = decide(facts, self.max_attempts)
            settled &= not decision.wait
            try:
                self._carry_out(job_id, facts, decision)
            except FarenseError as error:
                log.error("job_not_recovered", job=job_id, reason=error.message)
        return settled

    def _facts(self, busy_with: str | None, *, thorough: bool) -> Iterator[tuple[str, Facts]]:
        """Yield the jobs that may need something: not those that ended on disk and in Redis.

        Not even the lock of the job under way is looked at: its child may be about to take it.
        """
        known, unfinished = set(self.broker.store.ids()), self.broker.store.unfinished()
        messages = self.broker.queue().job_ids()
        here = job_ids(self.workspace)[::-1]
        ended = [job_id for job_id in here if job_id in known and job_id not in unfinished]
        done = set(ended) - self._unreadable(ended, thorough=thorough)
        for job_id in here:
            if job_id in done and not thorough:
                continue
            state = state_of(self.workspace, job_id)
            if state is None or job_id == busy_with:
                continue
            if job_id in done and state.state in FINISHED:
                continue
            record = self.broker.store.get(job_id) if job_id in known else None
            # A record is stored together with its place in the index.
            if job_id not in known and not thorough and _is_fresh(state):
                continue
            alive = is_held(self.workspace.run(job_id).lock)
            summary = summary_state(self.workspace, job_id)
            yield job_id, Facts(state, record, alive, job_id in messages, summary, boot_id())

    def _unreadable(self, ended: list[str], *, thorough: bool) -> set[str]:
        """Return the jobs whose records cannot be read, of those that have ended: a part a time."""
        if not thorough:
            begin = self._looked_at if self._looked_at < len(ended) else 0
            self._looked_at = begin + LOOKED_AT
            ended = ended[begin : self._looked_at]
        return set(ended) - {record.id for record in self.broker.store.get_many(ended)}

    def _carry_out(self, job_id: str, facts: Facts, decision: Decision) -> None:
        state = facts.state
        if decision.state is not None:
            state = decision.state
            if state.state is not State.QUEUED:
                self._carry_log(job_id, state.attempt)
            if not self.lifecycle.adopt(job_id, facts.state, state):
                return
            log.info("job_recovered", job=job_id, state=state.state, reason=state.reason)
        elif decision.publish:
            self.lifecycle.publish(job_id)
            log.info("record_recovered", job=job_id, state=state.state)
        if decision.push:
            self.broker.queue().push(job_id, state.priority, resumed=state.attempt > 0)
            log.info("message_recovered", job=job_id)

    def _carry_log(self, job_id: str, attempt: int) -> None:
        """Carry over what a child said after its worker was gone; no attempt follows to do it."""
        store = self.broker.store
        reader = LogReader(self.workspace.job_log(job_id), store.log_offset(job_id))
        while lines := reader.read():
            if send(store, job_id, attempt, lines) is not Written.DONE:
                break


def _is_fresh(state: JobState) -> bool:
    """Tell whether a client may still be telling Redis of the job."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(state.updated_at)
    except (ValueError, TypeError):
        return False
    return abs(age.total_seconds()) < FRESH_SECONDS
