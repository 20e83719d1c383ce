"""Where a job is and how it stands, from ``state.json`` and what Redis says: read here alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

from daemon.runs.workspace_id import is_home, shown
from daemon.store.records import JobRecord
from jobs.errors import InvalidInput, JobFailed, WorkspaceError
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import FINISHED_WELL, JobState, State, now, read_state
from jobs.storage.values import printable

# How the name goes on that a damaged file is given.
DAMAGED = ".damaged"
# Errors of the system that say what stands there, not that it cannot be read for now.
GONE = (FileNotFoundError, NotADirectoryError)
BAD = (*GONE, IsADirectoryError)


class Where(Enum):
    """Where a job is, seen from a workspace."""

    HERE = auto()
    """The job is of this workspace."""
    ELSEWHERE = auto()
    """Another workspace has it; its file here, if any, is a copy of what was last heard of it."""
    DAMAGED = auto()
    """Its run directory is here, and its ``state.json`` cannot be made sense of."""
    MISSING = auto()
    """There is no run directory, or it was never wholly enqueued."""
    UNREADABLE = auto()
    """The file is there, and cannot be read for now: nothing can be said."""


@dataclass(frozen=True)
class JobSnapshot:
    """How a job stands at one moment, seen from a workspace.

    What only some rules ask for is looked up for them: everything from ``alive`` on.

    Attributes:
        job: its id.
        state: what ``state.json`` says; None where that cannot be read.
        record: what Redis says; None where it says nothing, or was not asked.
        damage: what is wrong with ``state.json``, or in the way of reading it.
        alive: some process holds ``run.lock``.
        attended: it, or the daemon of this workspace, looks after the job.
        message: a message on the queue points to the job.
        summary, pruned_by: the state, and who ended the run early, in ``training_summary.json``.
        ended_at: when an attempt that is still called running wrote its summary, or spoke last.
        boot: the time since the machine was started (:func:`daemon.host.boot_id`).
        spec_damage: what is wrong with ``job.json``; looked for only where something is lost.
        last_attempt: that the job's log tells of; looked for only where ``state.json`` is damaged.
    """

    job: str
    state: JobState | None
    record: JobRecord | None = None
    where: Where = Where.HERE
    damage: str | None = None
    alive: bool = False
    attended: bool = False
    message: bool = False
    summary: str | None = None
    pruned_by: str | None = None
    ended_at: str | None = None
    boot: str | None = None
    spec_damage: str | None = None
    last_attempt: int = 0

    @property
    def own(self) -> JobState | None:
        """The state of a job of this workspace; None of every other, and of one that is damaged."""
        return self.state if self.where is Where.HERE else None

    def known(self) -> Self:
        """Return the snapshot.

        Raises:
            WorkspaceError: the file is there, and cannot be read for now.
        """
        if self.where is Where.UNREADABLE:
            raise WorkspaceError(self.damage or "")
        return self


def snapshot_of(workspace: Workspace, job_id: str, record: JobRecord | None = None) -> JobSnapshot:
    """Return how a job stands in a workspace.

    Args:
        record: what Redis says of it; None where it says nothing, or was not asked.
    """
    try:
        run = workspace.run(job_id)
    except InvalidInput:  # what names no job: `after` in a damaged file, say
        return JobSnapshot(job_id, None, record, Where.MISSING)
    try:
        state = read_state(run)
    except JobFailed as error:
        return _without_state(run, workspace, record, error)
    where = Where.ELSEWHERE if _is_elsewhere(workspace, state, record) else Where.HERE
    return JobSnapshot(job_id, state, record, where)


def state_here(seen: JobSnapshot, verb: str) -> JobState:
    """Return the state of a job of this workspace that a person wants to change.

    Args:
        verb: what they want: ``Resume``, say.

    Raises:
        JobFailed: the job is of another workspace, or its ``state.json`` is damaged.
        WorkspaceError: that file cannot be read for now.
    """
    state = seen.known().own
    refuse_damaged(seen)
    if state is None:
        raise JobFailed(*not_here(seen.job, seen.record, verb))
    return state


def _is_elsewhere(workspace: Workspace, state: JobState, record: JobRecord | None) -> bool:
    """Tell whether another workspace has taken a job over from this one.

    ``state.json`` here says so, or is older than what that workspace has told Redis.
    """
    if state.home is not None:
        return True
    newer = record is not None and record.attempt > state.attempt
    return newer and record is not None and not is_home(record.home, workspace)


def spec_damage(workspace: Workspace, job_id: str) -> str | None:
    """Return what is wrong with ``job.json``; None where nothing is, or none can tell for now."""
    run = workspace.run(job_id)
    try:
        read_spec(run)
    except InvalidInput as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, BAD):
            return None
        what = "is missing" if isinstance(error.__cause__, GONE) else "is damaged"
        name = _name(run.job)
        return f"{name} {what}: what the job was to do is not known any more. Enqueue it again."
    return None


def state_without_record(job_id: str, damage: str, summary: str | None, attempt: int) -> JobState:
    """Return how a job stands of which ``state.json`` and Redis say nothing.

    Args:
        damage: what is wrong with the file.
        summary: the state in ``training_summary.json``, where there is one.
        attempt: the last one that is known of.
    """
    if summary in FINISHED_WELL:
        return JobState(State(summary), attempt, updated_at=now())
    reason = (
        f"{damage}, and nothing else tells how the job stood. `farense retry {job_id}` runs it "
        "again, with --from-checkpoint from where it was."
    )
    return JobState(State.FAILED, attempt, reason=reason, updated_at=now())


def not_here(job_id: str, record: JobRecord | None, verb: str) -> tuple[str, str]:
    """Return for a person that the files of a job are elsewhere, and what to do.

    Args:
        verb: what they want to do with it: ``Resume``, say.
    """
    home = shown(record.home) if record is not None else None
    return (
        f"The files of {job_id} are not in this workspace.",
        f"{verb} it where they are: {home or 'unknown'}.",
    )


def refuse_damaged(seen: JobSnapshot) -> None:
    """Refuse to change a job whose state has to be made again first.

    Raises:
        JobFailed: it is damaged.
        WorkspaceError: its file cannot be read for now.
    """
    if seen.known().where is Where.DAMAGED:
        raise JobFailed(
            f"{seen.damage}.",
            "The daemon makes it again from what the queue knows (farense daemon). Try again then.",
        )


def _without_state(
    run: RunDirectory, workspace: Workspace, record: JobRecord | None, error: JobFailed
) -> JobSnapshot:
    cause = error.__cause__
    where = Where.DAMAGED
    home = record.home if record is not None else None
    if record is not None and not is_home(home, workspace):
        where = Where.ELSEWHERE
    if isinstance(cause, GONE):
        expected = record is not None and is_home(home, workspace)
        if run.path.is_dir() and (expected or _has_traces(run, workspace)):
            return JobSnapshot(run.job_id, None, record, where, f"{_name(run.state)} is missing")
        return JobSnapshot(run.job_id, None, record, Where.MISSING)
    if isinstance(cause, OSError) and not isinstance(cause, BAD):
        why = f"{run.state} cannot be read: {cause.strerror}."
        return JobSnapshot(run.job_id, None, record, Where.UNREADABLE, why)
    damage = f"{_name(run.state)} is damaged ({printable(str(cause))[:200]})"
    return JobSnapshot(run.job_id, None, record, where, damage)


def _has_traces(run: RunDirectory, workspace: Workspace) -> bool:
    """Tell whether a job without ``state.json`` was enqueued all the same, as what it left says."""
    left = (run.lock, run.summary, workspace.job_log(run.job_id))
    return any(path.exists() for path in left) or any(run.path.glob(f"{run.state.name}{DAMAGED}*"))


def _name(path: Path) -> str:
    """Return how a file of a job is shown: from the workspace on."""
    return path.relative_to(path.parent.parent.parent).as_posix()
