"""Whether a job is here: the one answer to it, from ``state.json`` and what Redis says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daemon.runs.workspace_id import is_home, shown
from daemon.store.records import JobRecord
from jobs.errors import InvalidInput, JobFailed, WorkspaceError
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import JobState, read_state
from jobs.storage.values import printable

DAMAGED = ".damaged"
# Errors of the system that say what stands there, not that it cannot be read for now.
GONE = (FileNotFoundError, NotADirectoryError)
BAD = (*GONE, IsADirectoryError)


@dataclass(frozen=True)
class Here:
    """The job is of this workspace; ``state`` is what its file says."""

    state: JobState


@dataclass(frozen=True)
class Elsewhere:
    """Another workspace has the job; ``state`` is a copy of what was last heard of it."""

    state: JobState


@dataclass(frozen=True)
class Damaged:
    """The job's run directory is here; ``reason`` says what is wrong with its ``state.json``."""

    reason: str


@dataclass(frozen=True)
class Missing:
    """There is no run directory, or it was never wholly enqueued."""


Location = Here | Elsewhere | Damaged | Missing


def location_of(workspace: Workspace, job_id: str, record: JobRecord | None = None) -> Location:
    """Return how a job stands in a workspace.

    Args:
        record: what Redis says of it; None where it says nothing, or was not asked.

    Raises:
        WorkspaceError: the file is there, and cannot be read for now: nothing can be said.
    """
    try:
        run = workspace.run(job_id)
        state = read_state(run)
    except InvalidInput:
        return Missing()  # what names no job: `after` in a damaged file, say
    except JobFailed as error:
        return _without_state(run, workspace, record, error)
    return Elsewhere(state) if is_elsewhere(workspace, state, record) else Here(state)


def is_elsewhere(workspace: Workspace, state: JobState, record: JobRecord | None) -> bool:
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


def not_known(job_id: str, damage: str) -> str:
    """Return for a person why a job failed of which nothing tells any more how it stood."""
    return (
        f"{damage}, and nothing else tells how the job stood. `farense retry {job_id}` runs it "
        "again, with --from-checkpoint from where it was."
    )


def not_here(record: JobRecord, verb: str) -> tuple[str, str]:
    """Return for a person that the files of a job are elsewhere, and what to do.

    Args:
        verb: what they want to do with it: ``Resume``, say.
    """
    return (
        f"The files of {record.id} are not in this workspace.",
        f"{verb} it where they are: {shown(record.home) or 'unknown'}.",
    )


def refuse_damaged(location: Location) -> None:
    """Refuse to change a job whose state has to be made again first.

    Raises:
        JobFailed: it is damaged.
    """
    if isinstance(location, Damaged):
        raise JobFailed(
            f"{location.reason}.",
            "The daemon makes it again from what the queue knows (farense daemon). Try again then.",
        )


def _without_state(
    run: RunDirectory, workspace: Workspace, record: JobRecord | None, error: JobFailed
) -> Location:
    cause = error.__cause__
    if isinstance(cause, GONE):
        expected = record is not None and is_home(record.home, workspace)
        if run.path.is_dir() and (expected or _has_traces(run, workspace)):
            return Damaged(f"{_name(run.state)} is missing")
        return Missing()
    if isinstance(cause, OSError) and not isinstance(cause, BAD):
        raise WorkspaceError(f"{run.state} cannot be read: {cause.strerror}.") from error
    return Damaged(f"{_name(run.state)} is damaged ({printable(str(cause))[:200]})")


def _has_traces(run: RunDirectory, workspace: Workspace) -> bool:
    """Tell whether a job without ``state.json`` was enqueued all the same, as what it left says."""
    left = (run.lock, run.summary, workspace.job_log(run.job_id))
    return any(path.exists() for path in left) or any(run.path.glob(f"{run.state.name}{DAMAGED}*"))


def _name(path: Path) -> str:
    """Return how a file of a job is shown: from the workspace on."""
    return path.relative_to(path.parent.parent.parent).as_posix()
