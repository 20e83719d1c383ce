"""After a crash: what is on disk, what Redis says, and what to do where they differ.

The decisions are pure functions over :class:`Facts`; :class:`Recovery` gathers the facts and
carries the decisions out. It runs when a daemon starts, before it takes work, and after Redis was
away. A lock, not a clock, says whether a job is alive: a job that is ``running`` while nobody holds
its ``run.lock`` has lost its worker.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice

import structlog

from daemon.boot import boot_id
from daemon.broker import Broker
from daemon.joblog import LogReader
from daemon.lifecycle import CANCELLED, Lifecycle, agreement
from daemon.machines.foreign import ForeignJobs
from daemon.machines.leases import LeaseWatch
from daemon.mirror import send
from daemon.orphans import Orphans
from daemon.outcome import PAUSED, outcome_of_lost, pruned
from daemon.records import JobRecord, state_from
from daemon.run_files import is_elsewhere, job_ids, pruned_by, state_of, summary_state
from daemon.settings import Settings
from daemon.store import Written
from jobs.errors import FarenseError
from jobs.lock import is_held
from jobs.paths import JOB_ID, Workspace
from jobs.state import FINISHED, FINISHED_BADLY, FINISHED_WELL, PENDING, JobState, State

log = structlog.get_logger(__name__)

FRESH_SECONDS = 60.0
# Looked at in one go where nothing was lost: with many thousands waiting, a daemon would do little
# else. A look costs some 0.2 ms.
LOOKS = 1_000
# Records asked for in one exchange.
BATCH = 100


@dataclass(frozen=True)
class Facts:
    """What is known of a job with a run directory.

    Attributes:
        state: what ``state.json`` says.
        record: what Redis says; None where it knows nothing.
        alive: some process holds ``run.lock``.
        message: a message on the queue points to the job.
        summary, pruned_by: the state, and who ended the run early, in ``training_summary.json``.
        boot: the time since the machine was started (:func:`daemon.boot.boot_id`).
        elsewhere: another workspace has taken the job over.
    """

    state: JobState
    record: JobRecord | None
    alive: bool
    message: bool
    summary: str | None = None
    pruned_by: str | None = None
    boot: str | None = None
    elsewhere: bool = False


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
    if facts.elsewhere:
        return _decide_elsewhere(facts)
    if state.state is State.RUNNING:
        if facts.alive:
            return Decision(publish=record is None, wait=True)
        state = _without_worker(facts, max_attempts)
    elif record is not None:
        state = agreement(state, record)
    return Decision(
        state=state if state != facts.state else None,
        publish=record is None or not record.follows(state),
        push=state.state is State.QUEUED and not facts.message,
    )


def _decide_elsewhere(facts: Facts) -> Decision:
    """Let the file here say what the record says of a job that another workspace has."""
    state, record = facts.state, facts.record
    if record is None or facts.alive:
        # A child of ours that still runs has been told to stop.
        return Decision(publish=record is None, wait=facts.alive)
    copy = state_from(record, home=record.home)
    same = (copy.state, copy.attempt, copy.home) == (state.state, state.attempt, state.home)
    return Decision(state=None if same else copy)


def _without_worker(facts: Facts, max_attempts: int) -> JobState:
    state, record = facts.state, facts.record
    if facts.summary in FINISHED_WELL:
        # The child came to its end; only nobody was there to write it down.
        return state.to(State(facts.summary), reason=pruned(facts.pruned_by))
    if record is not None and _ended_by_others(state, record):
        return state.to(record.state, reason=record.reason, failure=record.failure)
    if record is not None and record.cancel_requested:
        return state.to(State.CANCELLED, reason=CANCELLED)
    if record is not None and record.pause_requested:
        return state.to(State.PAUSED, reason=PAUSED)
    outcome = outcome_of_lost(state, facts.boot, max_attempts)
    return state.to(outcome.state, **outcome.changes(state))


def _ended_by_others(state: JobState, record: JobRecord) -> bool:
    """Tell whether other machines, which took this one for lost, ended or paused its job."""
    stopped = record.state in FINISHED_BADLY or record.state is State.PAUSED
    return stopped and record.attempt == state.attempt


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
        self.watch = LeaseWatch(settings.lease_seconds)
        self.foreign = ForeignJobs(workspace, broker, self.watch, settings.max_attempts)
        self.orphans = Orphans(settings.grace_seconds)
        self.pending: set[str] = set()
        # Unfinished jobs of other workspaces, and those of them that have files here too.
        self._foreign: set[str] = set()
        self._copies: set[str] = set()
        self._last_look = ""
        self._looked_at = 0
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
        for job_id, facts in self._facts(busy_with, thorough=thorough):
            if facts.state.state in PENDING:
                self.pending.add(job_id)
            decision = decide(facts, self.max_attempts)
            if decision.wait:
                unsettled.add(job_id)
                kill = facts.record is not None and facts.record.kill_requested
                self.orphans.look(job_id, self.workspace.run(job_id).lock, kill=kill)
            try:
                self._carry_out(job_id, facts, decision)
            except FarenseError as error:
                log.error("job_not_recovered", job=job_id, reason=error.message)
        self.foreign.look(self._foreign)
        self._unsettled = unsettled
        self.orphans.keep(unsettled)
        return not unsettled

    def _facts(self, busy_with: str | None, *, thorough: bool) -> Iterator[tuple[str, Facts]]:
        """Yield the jobs that may need something: not those that ended on disk and in Redis.

        Not even the lock of the job under way is looked at: its child may be about to take it.
        """
        known, unfinished = set(self.broker.store.ids()), self.broker.store.unfinished()
        here = list(reversed(job_ids(self.workspace)))
        self._copies &= set(here)
        foreign = (unfinished - set(here)) | (unfinished & self._copies)
        self._foreign = {job_id for job_id in foreign - {busy_with} if JOB_ID.fullmatch(job_id)}
        messages = cache(self.broker.pointed_to)
        ended = [job_id for job_id in here if job_id in known and job_id not in unfinished]
        done = set(ended) - self._unreadable(ended, thorough=thorough)
        wanted = here
        if not thorough:
            wanted = self._next([i for i in here if i not in done or i in self._copies])
        states = self._states(wanted, done, busy_with)
        while batch := dict(islice(states, BATCH)):
            records = {r.id: r for r in self.broker.store.get_many(i for i in batch if i in known)}
            for job_id, state in batch.items():
                record = records.get(job_id)
                elsewhere = is_elsewhere(self.workspace, state, record)
                (self._copies.add if elsewhere else self._copies.discard)(job_id)
                # A record is stored together with its place in the index.
                if job_id not in known and not thorough and _is_fresh(state):
                    continue
                yield (
                    job_id,
                    Facts(
                        state,
                        record,
                        alive=is_held(self.workspace.run(job_id).lock),
                        message=job_id in messages(state.queue),
                        summary=summary_state(self.workspace, job_id),
                        pruned_by=pruned_by(self.workspace, job_id),
                        boot=boot_id(),
                        elsewhere=elsewhere,
                    ),
                )

    def _states(
        self, wanted: Iterable[str], ended: set[str], busy_with: str | None
    ) -> Iterator[tuple[str, JobState]]:
        for job_id in wanted:
            state = state_of(self.workspace, job_id)
            if state is None or job_id == busy_with:
                continue
            if state.state in FINISHED and job_id in ended:
                self._copies.discard(job_id)
            else:
                yield job_id, state

    def _next(self, wanted: list[str]) -> list[str]:
        """Return the jobs whose turn it is: all, or where they are very many the next of them.

        Args:
            wanted: in the order of their ids.
        """
        if len(wanted) <= LOOKS:
            return wanted
        first = bisect_right(wanted, self._last_look)
        chosen = (wanted[first:] + wanted[:first])[:LOOKS]
        self._last_look = chosen[-1]
        return sorted(self._unsettled.union(chosen))

    def _unreadable(self, ended: list[str], *, thorough: bool) -> set[str]:
        """Return the jobs whose records cannot be read, of those that have ended: a part a time."""
        if not thorough:
            begin = self._looked_at if self._looked_at < len(ended) else 0
            self._looked_at = begin + BATCH
            ended = ended[begin : self._looked_at]
        return set(ended) - {record.id for record in self.broker.store.get_many(ended)}

    def _carry_out(self, job_id: str, facts: Facts, decision: Decision) -> None:
        state = facts.state
        if decision.state is not None:
            state = decision.state
            if state.state is not State.QUEUED and state.home is None:
                self._carry_log(job_id, state.attempt)
            if not self.lifecycle.adopt(job_id, facts.state, state):
                return
            log.info("job_recovered", job=job_id, state=state.state, reason=state.reason)
        elif decision.publish:
            self.lifecycle.publish(job_id)
            log.info("record_recovered", job=job_id, state=state.state)
        if decision.push:
            queue = self.broker.queue(state.queue)
            queue.push(job_id, state.priority, resumed=state.attempt > 0)
            log.info("message_recovered", job=job_id)

    def _carry_log(self, job_id: str, attempt: int) -> None:
        """Carry over what a child said after its worker was gone; no attempt follows to do it."""
        store = self.broker.store
        reader = LogReader(self.workspace.job_log(job_id), store.log_offset(job_id))
        while lines := reader.read():
            if send(store, job_id, attempt, lines) is not Written.DONE:
                break


def _is_fresh(state: JobState) -> bool:
    """Tell whether a client may still be telling Redis of the job, which it does before it runs."""
    if state.attempt > 0:
        return False
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(state.updated_at)
    except (ValueError, TypeError):
        return False
    return abs(age.total_seconds()) < FRESH_SECONDS
