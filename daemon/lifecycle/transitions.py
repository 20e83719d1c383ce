"""Every change of a job's state, carried out: ``state.json`` first, then the record.

Nothing else in the daemon or its clients writes ``state.json`` or moves a record. What is to change
a rule says (:mod:`daemon.lifecycle.decisions`), by a snapshot of the job.

Clients that cancel and the daemon that claims meet in the same run directory, so snapshots are
taken and changes made under one lock of the workspace, held for the few milliseconds of a change.
Between machines that share a Redis, the compare-and-set of the record decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from daemon.lifecycle.decisions import (
    NO_WISHES,
    NO_WORKER,
    Decision,
    agreement,
    concluded,
    reprioritized,
    withdrawn,
)
from daemon.lifecycle.outcome import Outcome
from daemon.queue.broker import Broker
from daemon.queue.position import QueueOrder
from daemon.runs.files import keep_damaged, last_word, record_from_files
from daemon.runs.snapshot import JobSnapshot, Where, snapshot_of
from daemon.runs.workspace_id import home_of, is_home
from daemon.runs.workspace_locks import changing, daemon_lock
from daemon.store.records import Claim, JobRecord, Written, state_from
from jobs.errors import FarenseError, JobFailed, UnknownJob
from jobs.paths import Workspace
from jobs.spec import JobSpec, read_spec, spec_text
from jobs.state import FINISHED, JobState, State, state_values, write_state
from jobs.storage.files import sync_folder, write_many_json
from jobs.storage.locks import is_held
from jobs.summary_head import summary_head

log = logging.getLogger(__name__)

Rule = Callable[[JobSnapshot], Decision]
OnEnd = Callable[[str, JobState], object]


def place(workspace: Workspace, jobs: Sequence[tuple[JobSpec, JobState]]) -> None:
    """Write the specs of new jobs, then their states: until then none of them counts as accepted.

    Raises:
        WorkspaceError: a folder cannot be written, or the disk is full.
    """
    # Not `asdict`, whose deep copies would take a third of the time; orjson writes dataclasses.
    specs = {workspace.run(spec.id).job: vars(spec) for spec, _ in jobs}
    states = {workspace.run(spec.id).state: state_values(state) for spec, state in jobs}
    write_many_json({**specs, **states})
    if jobs:
        sync_folder(workspace.runs)


class Lifecycle:
    """The changes of state that clients and daemons make.

    Methods raise :class:`redis.exceptions.RedisError` where Redis is away, but for those that say
    that they need none of it.

    Args:
        on_end: is told of each job that ends, once the lock is free again: its id, and the state
            it came to. The one place that knows of every end that this process writes down; what
            another process writes, a client that cancels a job which waits, say, that one tells.
    """

    def __init__(
        self, workspace: Workspace, broker: Broker, on_end: OnEnd = lambda job_id, state: None
    ) -> None:
        self.workspace = workspace
        self.broker, self.store = broker, broker.store
        self._on_end = on_end
        self._ends: list[tuple[str, JobState]] = []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the workspace; then tell of the jobs that ended meanwhile."""
        try:
            with changing(self.workspace):
                yield
        finally:
            self._tell_ends()

    def _tell_ends(self) -> None:
        ends, self._ends = self._ends, []
        for job_id, state in ends:
            self._on_end(job_id, state)

    def change(self, job_id: str, rule: Rule) -> None:
        """Look at a job under the lock, and carry out what a rule says of it."""
        with self.locked():
            seen = self.look(job_id)
            self.carry_out(seen, rule(seen))

    def settle(self, seen: JobSnapshot, decision: Decision) -> bool:
        """Carry out what was decided on a snapshot that was taken without the lock.

        Returns:
            Whether it was carried out: the job has not moved on since.
        """
        with self.locked():
            found = self.look(seen.job)
            if not _stands_as(seen, found):
                return False
            self.carry_out(found, decision)
            return True

    def conclude(self, claim: Claim, outcome: Outcome) -> JobState | None:
        """Write the end of an attempt into ``state.json``; :meth:`publish` brings it to Redis,
        of which this needs nothing.

        Returns:
            The new state; None where another attempt has taken the job over, or its run directory
            is gone.

        Raises:
            WorkspaceError: the file cannot be read or written for now.
        """
        with self.locked():
            seen = self._mended(claim)
            # The child's own word, so that its summary and the job's state name one moment.
            ended_at = summary_head(self.workspace.run(claim.job_id)).finished_at
            decision = concluded(replace(seen, ended_at=ended_at), claim.attempt, outcome)
            self.carry_out(seen, decision)
        return decision.state

    def publish(self, job_id: str, claim: Claim | None = None) -> JobRecord | None:
        """Make the record say what ``state.json`` says, and return it.

        Args:
            claim: of the attempt under way, from which a damaged file is made again.
        """
        with self.locked():
            if claim is not None:
                self._mended(claim)
            seen = self.look(job_id)
            if seen.own is not None:
                self.carry_out(seen, Decision(publish=True))
        return self.store.get(job_id)

    def withdraw(self, job_id: str, reason: str) -> None:
        """End a job that must not run one day although the call that enqueued it failed.

        Needs nothing of Redis. The answer may be all that was lost: a job that a daemon has begun
        is left to it.
        """
        with self.locked():
            seen = snapshot_of(self.workspace, job_id)
            self.carry_out(seen, withdrawn(seen, reason))

    def reprioritize(self, record: JobRecord, priority: int) -> None:
        """Give a job that waits another priority.

        Raises:
            InvalidInput: the job runs or has ended.
            JobFailed: its files are on another machine, or it is changing at this moment.
        """
        with self.locked():
            # The file first: it is the truth, and what the next attempt goes by.
            seen = snapshot_of(self.workspace, record.id, record)
            state = reprioritized(seen, priority)
            self._write(seen, state)
            known = self.store.get(record.id)
            if known is None:
                if self._restored(record.id) is None:
                    raise UnknownJob(f"The files of {record.id} cannot be read any more.")
            elif self.store.annotate(record.id, known, {"priority": priority}) is not Written.DONE:
                raise JobFailed(f"{record.id} is changing at this moment.", "Try again.")
            if state.state is State.QUEUED:
                order = QueueOrder(self.broker)
                order.score(record.id, state.queue, priority, resumed=state.attempt > 0)

    def move_record(self, record: JobRecord, new: JobState, **fields: Any) -> bool:
        """Move the record of a job that has no files here, and push it where it is queued now.

        Returns:
            Whether it was moved: no other machine has done so first.
        """
        with self.locked():
            return self._move_record(record, new, **fields)

    def _move_record(self, record: JobRecord, new: JobState, **fields: Any) -> bool:
        old = state_from(record)
        moved = self.store.transition(record.id, old, new, **fields) is Written.DONE
        if moved and new.state is State.QUEUED:
            self.push(record.id, new)
        if moved and new.finished:
            self._ends.append((record.id, new))
        return moved

    def push(self, job_id: str, state: JobState, *, first: bool = False) -> None:
        """Put a message on the queue of a job.

        Args:
            first: it goes before fresh ones of its priority, as one that has run does.
        """
        resumed = first or state.attempt > 0
        self.broker.queue(state.queue).push(job_id, state.priority, resumed=resumed)

    # Whoever calls what follows holds the lock.

    def look(self, job_id: str) -> JobSnapshot:
        """Return how a job stands, its record made again where Redis has lost it."""
        seen = snapshot_of(self.workspace, job_id, self._record(job_id))
        if seen.own is None or seen.own.state is not State.RUNNING:
            return seen
        alive = is_held(self.workspace.run(job_id).lock)
        if alive or is_held(daemon_lock(self.workspace)):
            return replace(seen, alive=alive, attended=True)
        return replace(seen, ended_at=last_word(self.workspace, job_id))

    def carry_out(self, seen: JobSnapshot, decision: Decision) -> None:
        """Make the changes that were decided on a snapshot."""
        known = seen.own or seen.record
        if decision.wish is not None and known is not None:
            if seen.own is not None:  # of a run that was started by hand the record knows nothing
                self._publish(seen.job, seen.own, seen.record)
            self.store.update(seen.job, known.attempt, decision.wish)
        if decision.record is not None and seen.record is not None:
            self._move_record(seen.record, decision.record)
        if decision.state is not None:
            self._write(seen, decision.state)
        state = decision.state or seen.state
        if decision.publish and state is not None:
            self._publish(seen.job, state, seen.record or self._record(seen.job))
        if decision.push and state is not None:
            self.push(seen.job, state, first=decision.first)

    def begin_attempt(
        self,
        seen: JobSnapshot,
        old: JobState,
        new: JobState,
        taken_from: JobRecord | None,
        **fields: Any,
    ) -> bool:
        """Write that an attempt begins, if no other machine has been first with the record.

        Args:
            old: the state that file and record agree on.
            new: the state in which the attempt runs.
            taken_from: the record of a job that is being taken over from another workspace.
            fields: what else the record is to say.
        """
        self._write(seen, new)
        try:
            written = self.store.transition(seen.job, old, new, **fields)
        except RedisError:
            # Redis may have stored it all the same: this attempt is spent, the next one waits. Of
            # one that was not ours yet others may have this attempt: the lease tells.
            reason = "the queue went away while the job was being taken"
            spent = new.to(State.QUEUED, reason=reason)
            self._write(seen, _copy_of(taken_from) if taken_from else spent)
            raise
        if written is not Written.DONE and taken_from is not None:
            self._write(seen, _copy_of(self.store.get(seen.job) or taken_from))
        elif written is not Written.DONE:
            changed = self.store.get(seen.job)
            self._write(seen, agreement(old, changed) if changed else old)
        return written is Written.DONE

    def rewritten(self, seen: JobSnapshot, state: JobState) -> JobSnapshot:
        """Write ``state`` in place of a damaged file, and return how the job stands then."""
        self._write(seen, state)
        return replace(seen, state=state, where=Where.HERE, damage=None)

    def _mended(self, claim: Claim) -> JobSnapshot:
        """Return how a job stands, its file made again where it was damaged while it ran."""
        seen = snapshot_of(self.workspace, claim.job_id).known()
        if seen.where is not Where.DAMAGED:
            return seen
        log.warning("%s while it ran: it is made again", seen.damage)
        return self.rewritten(seen, claim.state)

    def _record(self, job_id: str) -> JobRecord | None:
        """Return the record, made again from the files where Redis has lost it."""
        return self.store.get(job_id) or self._restored(job_id)

    def _restored(self, job_id: str) -> JobRecord | None:
        record = record_from_files(self.workspace, job_id)
        if record is not None:
            self.store.restore(record)
            if self.store.shared:
                with suppress(FarenseError):  # without a spec no other machine can run it
                    spec = read_spec(self.workspace.run(job_id))
                    self.store.put_specs({job_id: spec_text(spec)})
        return record

    def _publish(self, job_id: str, state: JobState, record: JobRecord | None) -> None:
        if record is not None and not record.follows(state) and self._may_correct(record, state):
            fields: dict[str, Any] = {"home": state.home or home_of(self.workspace)}
            if state.state is not State.RUNNING:
                step = self.workspace.run(job_id).newest_checkpoint_step()
                fields |= {**NO_WORKER, "checkpoint_step": step}
            if state.state is State.PAUSED:
                fields |= NO_WISHES
            self.store.correct(record, state, **fields)
        if state.state in FINISHED:
            self.store.events.expire(job_id)

    def _may_correct(self, record: JobRecord, state: JobState) -> bool:
        """Tell whether the files here know better than a record, whose attempt may be later.

        A later one is of the machine that took the job over; where the job is at home here there is
        none, and the number is damage.
        """
        return record.attempt <= state.attempt or is_home(record.home, self.workspace)

    def _write(self, seen: JobSnapshot, new: JobState) -> None:
        run, old = self.workspace.run(seen.job), seen.state
        if seen.damage is not None:
            keep_damaged(run.state)
        write_state(run, new)
        # Of a job that another workspace has this is a copy: it has been told there.
        if new.finished and new.home is None and not (old is not None and old.finished):
            self._ends.append((seen.job, new))


def _copy_of(record: JobRecord) -> JobState:
    """Return what ``state.json`` says of a job that another workspace has."""
    return state_from(record, home=record.home)


def _stands_as(seen: JobSnapshot, found: JobSnapshot) -> bool:
    """Tell whether a job stands as it did: by its file, or by its record where that is damaged."""
    if (seen.damage is None) != (found.damage is None):
        return False
    if seen.damage is not None:
        return _at(seen.record) == _at(found.record)
    return seen.state == found.state


def _at(record: JobRecord | None) -> tuple[State, int] | None:
    return (record.state, record.attempt) if record is not None else None
