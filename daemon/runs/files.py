"""What the run directories and job logs say of the jobs: the truth, read without Redis."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.joblog import LogReader, events_at_end
from daemon.runs.location import (
    Damaged,
    Here,
    Missing,
    is_elsewhere,
    location_of,
    not_here,
    not_known,
    refuse_damaged,
    spec_damage,
)
from daemon.runs.workspace_id import home_of
from daemon.store.progress import advanced
from daemon.store.records import JobRecord, record_of, record_of_id
from jobs.errors import FarenseError, JobFailed
from jobs.paths import JOB_ID, RunDirectory, Workspace
from jobs.spec import TRAIN, read_spec, spec_text
from jobs.state import FINISHED_WELL, JobState, State, now, read_state
from jobs.storage.files import from_plain, read_json
from jobs.storage.locks import is_held
from jobs.storage.values import number
from jobs.summary_head import summary_head
from jobs.verdict import Verdict, verdict

if TYPE_CHECKING:
    from daemon.store.job_store import JobStore


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
            if run.state.exists() and read_spec(run).kind == TRAIN:
                return job_id
    return None


def state_of(workspace: Workspace, job_id: str) -> JobState | None:
    """Return what ``state.json`` says; None where there is none that can be read."""
    try:
        return read_state(workspace.run(job_id))
    except FarenseError:
        return None


def verdict_of_files(workspace: Workspace, job_id: str) -> Verdict | None:
    """Return what a training came to, as its summary has it; None where that cannot be said."""
    try:
        summary = from_plain(read_json(workspace.run(job_id).summary))
    except (OSError, ValueError, FarenseError):
        return None
    if not isinstance(summary, dict):
        return None
    baseline, best = number(summary.get("baseline_val_loss")), number(summary.get("best_val_loss"))
    word = summary.get("gap_status")
    told = word if isinstance(word, str) else None
    return verdict(baseline=baseline, best=best, gap=number(summary.get("best_gap")), told=told)


def record_from_files(workspace: Workspace, job_id: str) -> JobRecord | None:
    """Return the record that the files of a job make; None where ``state.json`` tells of none.

    Without ``job.json`` the id still says what the job is called.
    """
    state = state_of(workspace, job_id)
    return None if state is None else _record(workspace, job_id, state)


def record_shown(workspace: Workspace, job_id: str) -> JobRecord | None:
    """Return what is shown of a job where Redis is away; None where it was never wholly enqueued.

    A job whose files are damaged is shown as it stands as far as the other files tell: as failed,
    saying why, where they do not.
    """
    location = location_of(workspace, job_id)
    if isinstance(location, Missing):
        return None
    if not isinstance(location, Damaged):
        state = location.state
    elif is_held(workspace.run(job_id).lock):
        state = JobState(State.RUNNING, last_attempt(workspace, job_id), reason=location.reason)
    else:
        summary, attempt = (
            summary_head(workspace.run(job_id)).state,
            last_attempt(workspace, job_id),
        )
        state = state_without_record(job_id, location.reason, summary, attempt)
    damage = None if state.state is State.RUNNING else spec_damage(workspace, job_id)
    if damage is not None and not (state.finished and isinstance(location, Here)):
        state = JobState(State.FAILED, state.attempt, reason=damage, updated_at=state.updated_at)
    return _record(workspace, job_id, state)


def last_attempt(workspace: Workspace, job_id: str) -> int:
    """Return the attempt that the job's log last tells of; 0 where it tells of none."""
    return max((e.attempt for e in events_at_end(workspace.job_log(job_id))), default=0)


def last_word(workspace: Workspace, job_id: str) -> str | None:
    """Return when a job last said something in its log; None where it has said nothing."""
    said = events_at_end(workspace.job_log(job_id))
    return said[-1].time if said else None


def state_without_record(job_id: str, damage: str, summary: str | None, attempt: int) -> JobState:
    """Return how a job stands of which ``state.json`` and Redis say nothing.

    Args:
        damage: what is wrong with the file.
        summary: the state in ``training_summary.json``, where there is one.
        attempt: the last one that is known of.
    """
    if summary in FINISHED_WELL:
        return JobState(State(summary), attempt, updated_at=now())
    return JobState(State.FAILED, attempt, reason=not_known(job_id, damage), updated_at=now())


def _record(workspace: Workspace, job_id: str, state: JobState) -> JobRecord:
    try:
        record = record_of(read_spec(workspace.run(job_id)), state)
    except FarenseError:
        record = record_of_id(job_id, state)
    log = workspace.job_log(job_id)
    said = events_at_end(log)
    if not said and record.kind == TRAIN:  # a run directory that was copied without its log
        record = with_figures(record, workspace.run(job_id))
    for envelope in said:
        record = advanced(record, envelope)
    # The events bring their own times; when the job's state last changed is in state.json, which of
    # a job of an older version does not say when it began.
    return replace(
        record,
        started_at=record.started_at or _started_at(LogReader(log)),
        home=state.home or home_of(workspace),
        checkpoint_step=workspace.run(job_id).newest_checkpoint_step(),
    )


def restore(workspace: Workspace, store: JobStore, job_id: str) -> JobRecord | None:
    """Make a record that Redis has lost again from the files of its job; None without any."""
    record = record_from_files(workspace, job_id)
    if record is not None:
        store.restore(record)
        if store.shared:
            with suppress(FarenseError):  # without a spec no other machine can run it
                store.put_specs({job_id: spec_text(read_spec(workspace.run(job_id)))})
    return record


def own_state(
    workspace: Workspace, job_id: str, record: JobRecord | None = None
) -> JobState | None:
    """Return what ``state.json`` says of a job of this workspace; None of one that is elsewhere."""
    state = state_of(workspace, job_id)
    return None if state is None or is_elsewhere(workspace, state, record) else state


def state_here(workspace: Workspace, record: JobRecord, verb: str) -> JobState:
    """Return the state of a job of this workspace that a person wants to change.

    Args:
        verb: what they want: ``Resume``, say.

    Raises:
        JobFailed: the job is of another workspace, or its ``state.json`` is damaged.
        WorkspaceError: that file cannot be read for now.
    """
    location = location_of(workspace, record.id, record)
    if isinstance(location, Here):
        return location.state
    refuse_damaged(location)
    raise JobFailed(*not_here(record, verb))


def why_no_state(workspace: Workspace, record: JobRecord) -> str:
    """Return why nothing can be read of the state of a job of this workspace, for a person."""
    try:
        read_state(workspace.run(record.id))
    except FarenseError as error:
        if workspace.run(record.id).path.is_dir():
            return error.message
    return f"Its run directory {record.run_dir} is not in this workspace: {workspace.root}"


def with_figures(record: JobRecord, run: RunDirectory) -> JobRecord:
    """Return the record of a training with what its metrics and its summary tell of it."""
    # Only a run that was copied needs these.
    from jobs.compare.curve import curve_of  # noqa: PLC0415
    from jobs.past_run import read_run  # noqa: PLC0415

    try:
        past = read_run(run.path)
    except FarenseError:
        return record
    curve = curve_of(past.rows, kept_step=past.kept_step)
    last = past.rows[-1] if past.rows else {}
    losses = [loss for row in past.rows if (loss := number(row.get("loss"))) is not None]
    validations = [
        loss for row in past.validations if (loss := number(row["val_loss"])) is not None
    ]
    epoch = number(last.get("epoch"))
    return replace(
        record,
        step=curve.steps or 0,
        epoch=None if epoch is None else int(epoch),
        loss=losses[-1] if losses else None,
        val_loss=validations[-1] if validations else None,
        best_val_loss=curve.best_val_loss,
        baseline_val_loss=curve.baseline_val_loss,
        overfitting_gap=curve.gap,
        gap_status=curve.gap_status,
    )


def _started_at(reader: LogReader) -> str | None:
    lines = reader.read(4096)
    return lines.events[0].time if lines and lines.events else None
