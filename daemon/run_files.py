"""What the run directories and job logs say of the jobs: the truth, read without Redis."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.joblog import LogReader, events_at_end
from daemon.machines.home import home_of, is_home, shown
from daemon.progress import advanced
from daemon.records import JobRecord, record_of
from jobs.errors import FarenseError, JobFailed
from jobs.files import read_json
from jobs.order import TRAIN, order_text, read_order
from jobs.paths import JOB_ID, Workspace
from jobs.state import JobState, read_state

if TYPE_CHECKING:
    from daemon.store import JobStore


def job_ids(workspace: Workspace) -> list[str]:
    """Return the ids of the jobs with a run directory, newest first: an id begins with its time."""
    if not workspace.runs.is_dir():
        return []
    names = (path.name for path in workspace.runs.iterdir())
    return sorted((name for name in names if JOB_ID.fullmatch(name)), reverse=True)


def newest_training(workspace: Workspace) -> str | None:
    """Return the newest job that is no evaluation and was wholly enqueued; None without one."""
    for job_id in job_ids(workspace):
        run = workspace.run(job_id)
        with suppress(FarenseError):
            if run.state.exists() and read_order(run).kind == TRAIN:
                return job_id
    return None


def state_of(workspace: Workspace, job_id: str) -> JobState | None:
    """Return what ``state.json`` says; None where there is none that can be read."""
    try:
        return read_state(workspace.run(job_id))
    except FarenseError:
        return None


def summary_state(workspace: Workspace, job_id: str) -> str | None:
    """Return ``state`` in ``training_summary.json``; None where there is no such file."""
    try:
        return str(read_json(workspace.run(job_id).summary)["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def pruned_by(workspace: Workspace, job_id: str) -> str | None:
    """Return who had a run end early, as its summary says; None where nobody had."""
    try:
        found = read_json(workspace.run(job_id).summary).get("pruned_by")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def record_from_files(workspace: Workspace, job_id: str) -> JobRecord | None:
    """Return the record that the files of a job make; None where it was never wholly enqueued."""
    state = state_of(workspace, job_id)
    if state is None:
        return None
    try:
        order = read_order(workspace.run(job_id))
    except FarenseError:
        return None
    record = record_of(order, state)
    log = workspace.job_log(job_id)
    for envelope in events_at_end(log):
        record = advanced(record, envelope)
    # The events bring their own times; when the job's state last changed is in state.json.
    return replace(
        record,
        started_at=_started_at(LogReader(log)),
        home=state.home or home_of(workspace),
        checkpoint_step=workspace.run(job_id).newest_checkpoint_step(),
    )


def restore(workspace: Workspace, store: JobStore, job_id: str) -> JobRecord | None:
    """Make a record that Redis has lost again from the files of its job; None without any."""
    record = record_from_files(workspace, job_id)
    if record is not None:
        store.restore(record)
        if store.shared:
            store.put_orders({job_id: order_text(read_order(workspace.run(job_id)))})
    return record


def is_elsewhere(workspace: Workspace, state: JobState, record: JobRecord | None) -> bool:
    """Tell whether another workspace has taken a job over from this one.

    ``state.json`` here says so, or is older than what that workspace has told Redis.
    """
    if state.home is not None:
        return True
    newer = record is not None and record.attempt > state.attempt
    return newer and record is not None and not is_home(record.home, workspace)


def own_state(
    workspace: Workspace, job_id: str, record: JobRecord | None = None
) -> JobState | None:
    """Return what ``state.json`` says of a job of this workspace; None of one that is elsewhere."""
    state = state_of(workspace, job_id)
    if state is None or is_elsewhere(workspace, state, record):
        return None
    return state


def state_here(workspace: Workspace, record: JobRecord, verb: str) -> JobState:
    """Return the state of a job of this workspace that a person wants to change.

    Args:
        verb: what they want: ``Resume``, say.

    Raises:
        JobFailed: the job is of another workspace, or its files are damaged or gone.
    """
    state = own_state(workspace, record.id, record)
    if state is None and is_home(record.home, workspace):
        raise JobFailed(why_no_state(workspace, record))
    if state is None:
        raise JobFailed(
            f"The files of {record.id} are not in this workspace.",
            f"{verb} it where they are: {shown(record.home) or 'unknown'}.",
        )
    return state


def why_no_state(workspace: Workspace, record: JobRecord) -> str:
    """Return why nothing can be read of the state of a job of this workspace, for a person."""
    try:
        read_state(workspace.run(record.id))
    except FarenseError as error:
        if workspace.run(record.id).path.is_dir():
            return error.message
    return f"Its run directory {record.run_dir} is not in this workspace: {workspace.root}"


def _started_at(reader: LogReader) -> str | None:
    lines = reader.read(4096)
    return lines.events[0].time if lines and lines.events else None
