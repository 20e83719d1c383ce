"""What the run directories and job logs say of the jobs: the truth, read without Redis."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from daemon.joblog import LogReader, events_at_end
from daemon.runs.snapshot import (
    DAMAGED,
    GONE,
    Where,
    snapshot_of,
    spec_damage,
    state_without_record,
)
from daemon.runs.workspace_id import home_of
from daemon.store.progress import advanced
from daemon.store.records import JobRecord, record_of, record_of_id
from jobs.errors import FarenseError, WorkspaceError
from jobs.kinds import kind_of
from jobs.paths import JOB_ID, RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import JobState, State
from jobs.storage.files import from_plain, read_json
from jobs.storage.locks import is_held
from jobs.storage.values import number
from jobs.summary_head import summary_head
from jobs.verdict import Verdict, verdict


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
            if run.state.exists() and kind_of(read_spec(run)).trains:
                return job_id
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
    state = snapshot_of(workspace, job_id).state
    return None if state is None else _record(workspace, job_id, state)


def record_shown(workspace: Workspace, job_id: str) -> JobRecord | None:
    """Return what is shown of a job where Redis is away; None where it was never wholly enqueued.

    A job whose files are damaged is shown as it stands as far as the other files tell: as failed,
    saying why, where they do not.
    """
    seen = snapshot_of(workspace, job_id).known()
    if seen.where is Where.MISSING:
        return None
    if (state := seen.state) is None:
        state = _state_without_file(workspace, job_id, seen.damage or "")
    damage = None if state.state is State.RUNNING else spec_damage(workspace, job_id)
    if damage is not None and not (state.finished and seen.own is not None):
        state = JobState(State.FAILED, state.attempt, reason=damage, updated_at=state.updated_at)
    return _record(workspace, job_id, state)


def _state_without_file(workspace: Workspace, job_id: str, damage: str) -> JobState:
    attempt = last_attempt(workspace, job_id)
    if is_held(workspace.run(job_id).lock):
        return JobState(State.RUNNING, attempt, reason=damage)
    summary = summary_head(workspace.run(job_id)).state
    return state_without_record(job_id, damage, summary, attempt)


def keep_damaged(path: Path) -> None:
    """Give a file that cannot be read another name beside it, for a person: nothing is destroyed.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    name = f"{path.name}{DAMAGED}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    try:
        path.rename(path.with_name(name))
    except GONE:
        return
    except OSError as error:
        raise WorkspaceError(f"{path} is damaged and cannot be renamed: {error}") from error


def last_attempt(workspace: Workspace, job_id: str) -> int:
    """Return the attempt that the job's log last tells of; 0 where it tells of none."""
    return max((e.attempt for e in events_at_end(workspace.job_log(job_id))), default=0)


def last_word(workspace: Workspace, job_id: str) -> str | None:
    """Return when a job last said something in its log; None where it has said nothing."""
    said = events_at_end(workspace.job_log(job_id))
    return said[-1].time if said else None


def _record(workspace: Workspace, job_id: str, state: JobState) -> JobRecord:
    try:
        record = record_of(read_spec(workspace.run(job_id)), state)
    except FarenseError:
        record = record_of_id(job_id, state)
    log = workspace.job_log(job_id)
    said = events_at_end(log)
    # Of a run directory that was copied without its log.
    if not said and state.attempt and kind_of(record).trains:
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
