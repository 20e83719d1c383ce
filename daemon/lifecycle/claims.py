"""Taking a queued job for its next attempt: of several daemons and clients one gets it."""

from __future__ import annotations

import logging
from dataclasses import replace

from daemon.host import boot_id
from daemon.joblog import size_of
from daemon.lifecycle.decisions import Decision, agreement
from daemon.lifecycle.takeover import Taking
from daemon.lifecycle.transitions import Lifecycle, place
from daemon.runs.snapshot import JobSnapshot, Where
from daemon.runs.workspace_id import home_of, is_home, shown
from daemon.store.records import Claim, JobRecord, state_from
from jobs.state import JobState, State

log = logging.getLogger(__name__)


class Claims:
    """Takes jobs of a workspace, and those that another workspace has left to it."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self.workspace, self.store = lifecycle.workspace, lifecycle.store
        self.taking = Taking(self.workspace, self.store)

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a queued job for its next attempt; None where it is not to be run.

        Drops stale and duplicate messages, and those for jobs whose files are elsewhere.

        Args:
            worker: who takes it, as the record is to say.

        Raises:
            RedisError: the server is away.
            WorkspaceError: the workspace cannot be read or written for now.
        """
        with self.lifecycle.locked():
            seen = self.lifecycle.look(job_id).known()
            record = seen.record
            if record is None:
                log.warning("a message about the unknown job %s was dropped", job_id)
                return None
            if seen.where is Where.DAMAGED:
                seen = self.lifecycle.rewritten(seen, state_from(record))
            ours = seen.own
            old = self._taken(seen, record) if ours is None else self._agreed(seen, ours, record)
            if old is None or old.state is not State.QUEUED:
                return None
            seen = replace(seen, state=old, damage=None)
            if ours is not None and self.taking.leave_to_adapter(record):
                return None
            fields: dict[str, object] = {"worker": worker, "home": home_of(self.workspace)}
            if ours is None:
                # Now the files in this workspace count.
                offset = size_of(self.workspace.job_log(job_id))
                step = self.workspace.run(job_id).newest_checkpoint_step()
                fields |= {"log_offset": offset, "checkpoint_step": step}
            else:
                offset = self.store.events.log_offset(job_id)
            if old.started_at is None:  # begun by a version that noted it in the record alone
                old = replace(old, started_at=record.started_at)
            new = old.to(State.RUNNING, attempt=old.attempt + 1, reason=None, boot=boot_id())
            taken_from = record if ours is None else None
            if not self.lifecycle.begin_attempt(seen, old, new, taken_from, **fields):
                return None
        return Claim(job_id, new.attempt, new.priority, offset, new)

    def _agreed(self, seen: JobSnapshot, state: JobState, record: JobRecord) -> JobState:
        """Return the state that both ``state.json`` and the record have afterwards."""
        agreed = agreement(state, record)
        changed = agreed if agreed != state else None
        self.lifecycle.carry_out(seen, Decision(state=changed, publish=True))
        return agreed

    def _taken(self, seen: JobSnapshot, record: JobRecord) -> JobState | None:
        """Take over a job of another workspace; one of this workspace has lost its files."""
        if seen.state is None and is_home(record.home, self.workspace):
            if record.state is State.QUEUED:
                gone = f"Its run directory {record.run_dir} is not in this workspace"
                failed = state_from(record).to(
                    State.FAILED, reason=f"{gone}: {self.workspace.root}"
                )
                self.lifecycle.carry_out(seen, Decision(record=failed))
            return None
        spec = self.taking.take(record)
        if spec is None:
            return None
        state = state_from(record)
        self.workspace.run(record.id).path.mkdir(parents=True, exist_ok=True)
        place(self.workspace, [(spec, state)])
        log.info("job %s of %s was taken over", record.id, shown(record.home))
        return state
