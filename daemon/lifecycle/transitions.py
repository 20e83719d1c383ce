"""Every change of a job's state: ``state.json`` first, then the record.

Clients that cancel and the daemon that claims meet in the same run directory, so changes are made
under one lock of the workspace, held for the few milliseconds of a change. Between machines that
share a Redis, the compare-and-set of the record decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from daemon.host import boot_id
from daemon.joblog import size_of
from daemon.lifecycle.decisions import CANCELLED, NO_WISHES, NO_WORKER, UNSTARTED, agreement
from daemon.lifecycle.outcome import PAUSED, Outcome
from daemon.lifecycle.takeover import Taking
from daemon.runs.files import (
    last_word,
    own_state,
    restore,
    state_here,
    state_of,
    why_no_state,
)
from daemon.runs.location import Damaged, location_of
from daemon.runs.repair import own_or_rebuilt, rewrite, rewrite_if_damaged
from daemon.runs.workspace_id import home_of, is_home
from daemon.runs.workspace_locks import changing, daemon_lock
from daemon.store.job_store import JobStore, Written
from daemon.store.records import Claim, JobRecord, state_from
from jobs.paths import Workspace
from jobs.state import FINISHED, PENDING, TRANSITIONS, JobState, State, write_state
from jobs.storage.locks import is_held
from jobs.summary_head import summary_head

log = logging.getLogger(__name__)


class Lifecycle:
    """The changes of state that clients and daemons make.

    Methods that touch the record raise :class:`redis.exceptions.RedisError` where Redis is away.
    """

    def __init__(self, workspace: Workspace, store: JobStore) -> None:
        self.workspace = workspace
        self.store = store
        self.taking = Taking(workspace, store)

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a queued job for its next attempt; None where it is not to be run.

        Stale and doubled messages end here, and those of jobs whose files are on another machine.
        """
        with changing(self.workspace):
            record = self._record(job_id)
            if record is None:
                log.warning("a message about the unknown job %s was dropped", job_id)
                return None
            old = own_or_rebuilt(self.workspace, record)
            taken = old is None
            old = self._taken(record) if old is None else self._agreed(old, record)
            if old is None or old.state is not State.QUEUED:
                return None
            if not taken and self.taking.leave_to_adapter(record):
                return None
            moved = self._moved(job_id) if taken else {}
            offset = moved["log_offset"] if taken else self.store.log_offset(job_id)
            if old.started_at is None:  # begun by a version that noted it in the record alone
                old = replace(old, started_at=record.started_at)
            new = old.to(State.RUNNING, attempt=old.attempt + 1, reason=None, boot=boot_id())
            if not self._claimed(record, old, new, worker, moved):
                return None
        return Claim(job_id, new.attempt, new.priority, offset, new)

    def conclude(self, claim: Claim, outcome: Outcome) -> JobState | None:
        """Write the end of an attempt into ``state.json``; :meth:`publish` brings it to Redis.

        Returns:
            The new state; None where another attempt has taken the job over, or its run directory
            is gone.

        Raises:
            WorkspaceError: the file cannot be read or written for now.
        """
        with changing(self.workspace):
            rewrite_if_damaged(self.workspace, claim.job_id, claim.state)
            old = state_of(self.workspace, claim.job_id)
            if old is None or (old.state, old.attempt) != (State.RUNNING, claim.attempt):
                return None
            # The child's own word, so that its summary and the job's state name one moment.
            ended_at = summary_head(self.workspace.run(claim.job_id)).finished_at
            new = old.to(outcome.state, ended_at=ended_at, **outcome.changes(old))
            return self._write(claim.job_id, new)

    def publish(self, job_id: str, claim: Claim | None = None) -> JobRecord | None:
        """Make the record say what ``state.json`` says, and return it.

        Args:
            claim: of the attempt under way, from which a damaged file is made again.
        """
        with changing(self.workspace):
            if claim is not None:
                rewrite_if_damaged(self.workspace, claim.job_id, claim.state)
            record = self._record(job_id)
            state = own_state(self.workspace, job_id, record)
            if state is not None:
                self._publish(job_id, state, record)
        return self.store.get(job_id)

    def adopt(self, job_id: str, old: JobState, new: JobState) -> bool:
        """Write a state that was decided for ``old``, if the job has not moved on since.

        Returns:
            Whether it was written.
        """
        with changing(self.workspace):
            found = state_of(self.workspace, job_id)
            if found is None or (found.state, found.attempt) != (old.state, old.attempt):
                return False
            self._settle(job_id, new)
            return True

    def rebuild(self, job_id: str, record: JobRecord | None, state: JobState) -> bool:
        """Write a state that was decided for a job whose ``state.json`` is damaged.

        Args:
            record: on which that was decided.

        Returns:
            Whether it was written: the file is still damaged, and the record still says the same.
        """
        with changing(self.workspace):
            found = self.store.get(job_id)
            if _at(found) != _at(record):
                return False
            if not isinstance(location_of(self.workspace, job_id, found), Damaged):
                return False
            rewrite(self.workspace, job_id, state)
            self._publish(job_id, state, self._record(job_id))
            return True

    def cancel(self, record: JobRecord, *, force: bool = False) -> None:
        """Cancel a job that does not run, at once; ask the worker of one that does.

        Args:
            force: the child is killed rather than asked to stop.
        """
        wish = {"cancel_requested": True, "kill_requested": force}
        self._change(record, State.CANCELLED, CANCELLED, wish)

    def pause(self, record: JobRecord) -> None:
        """Pause a job that does not run, at once; ask the worker of one that does."""
        self._change(record, State.PAUSED, PAUSED, {"pause_requested": True})

    def resume(self, record: JobRecord, begin: Callable[[JobState], JobState]) -> bool:
        """Let a paused job go on, and take back the wish to pause one that still runs.

        Args:
            begin: returns the state of a job that is to start as soon as it may.

        Returns:
            Whether a message is to be put on the queue.

        Raises:
            JobFailed: the files of the job are on another machine.
        """
        with changing(self.workspace):
            old = state_here(self.workspace, record, "Resume")
            if old.state is State.RUNNING:
                self.store.update(record.id, old.attempt, {"pause_requested": False})
                return False
            if old.state is not State.PAUSED:
                return False
            new = begin(old)
            self._settle(record.id, old.to(new.state, reason=new.reason))
            return new.state in UNSTARTED

    def start(self, record: JobRecord) -> bool:
        """Queue a job that is scheduled, waits for another or is paused; it waits for neither now.

        Returns:
            Whether a message is to be put on the queue.

        Raises:
            JobFailed: the files of the job are on another machine.
        """
        with changing(self.workspace):
            old = state_here(self.workspace, record, "Start")
            if old.state is not State.PAUSED and old.state not in PENDING:
                return False
            now_due = replace(old, schedule=None, after=None, after_any=False)
            self._settle(record.id, now_due.to(State.QUEUED, reason=None))
            return True

    def _change(
        self, record: JobRecord, state: State, reason: str, wish: Mapping[str, bool]
    ) -> None:
        with changing(self.workspace):
            old = own_state(self.workspace, record.id, record)
            if old is None:
                self._change_elsewhere(record, state, reason, wish)
            elif old.state is State.RUNNING and self._attended(record.id):
                self.store.update(record.id, old.attempt, wish)
            elif state in TRANSITIONS[old.state]:
                # Of one that nothing runs any more the time since is not its own.
                ended_at = last_word(self.workspace, record.id)
                self._settle(record.id, old.to(state, ended_at=ended_at, reason=reason))

    def _change_elsewhere(
        self, record: JobRecord, state: State, reason: str, wish: Mapping[str, bool]
    ) -> None:
        if record.state is State.RUNNING:
            self.store.update(record.id, record.attempt, wish)
        elif state in TRANSITIONS[record.state]:
            old = JobState(record.state, record.attempt, priority=record.priority)
            self.store.transition(record.id, old, old.to(state, reason=reason))

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

    def _claimed(
        self,
        record: JobRecord,
        old: JobState,
        new: JobState,
        worker: str,
        moved: Mapping[str, Any],
    ) -> bool:
        fields = {
            "worker": worker,
            "home": home_of(self.workspace),
            **moved,
        }
        self._write(record.id, new)
        try:
            written = self.store.transition(record.id, old, new, **fields)
        except RedisError:
            # Redis may have stored it all the same: this attempt is spent, the next one waits.
            reason = "the queue went away while the job was being taken"
            self._write(record.id, new.to(State.QUEUED, reason=reason))
            raise
        if written is not Written.DONE:
            changed = self.store.get(record.id)
            self._write(record.id, agreement(old, changed) if changed else old)
        return written is Written.DONE

    def _record(self, job_id: str) -> JobRecord | None:
        """Return the record, made again from the files where Redis has lost it."""
        return self.store.get(job_id) or restore(self.workspace, self.store, job_id)

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
            self.store.expire_events(job_id)

    def _taken(self, record: JobRecord) -> JobState | None:
        """Take over a job of another workspace; one of this workspace has lost its files."""
        if (
            not is_home(record.home, self.workspace)
            or state_of(self.workspace, record.id) is not None
        ):
            return self.taking.take(record)
        if record.state is State.QUEUED:
            reason = why_no_state(self.workspace, record)
            old = state_from(record)
            self.store.transition(record.id, old, old.to(State.FAILED, reason=reason))
        return None

    def _moved(self, job_id: str) -> dict[str, Any]:
        """Return what a record says of files, now that those in this workspace count."""
        return {
            "log_offset": size_of(self.workspace.job_log(job_id)),
            "checkpoint_step": self.workspace.run(job_id).newest_checkpoint_step(),
        }

    def _may_correct(self, record: JobRecord, state: JobState) -> bool:
        """Tell whether the files here know better than a record, whose attempt may be later.

        A later one is of the machine that took the job over; where the job is at home here there is
        none, and the number is damage.
        """
        return record.attempt <= state.attempt or is_home(record.home, self.workspace)

    def _settle(self, job_id: str, state: JobState) -> None:
        """Write a state that was decided, and make the record say so."""
        self._write(job_id, state)
        self._publish(job_id, state, self._record(job_id))

    def _write(self, job_id: str, state: JobState) -> JobState:
        write_state(self.workspace.run(job_id), state)
        return state


def _at(record: JobRecord | None) -> tuple[State, int] | None:
    return (record.state, record.attempt) if record is not None else None
