"""What is known of what happened, looked up in the files: of a job, a sweep, a night."""

from __future__ import annotations

import math
from contextlib import suppress

from daemon.as_shown import as_shown
from daemon.host import host_name
from daemon.notify import matters
from daemon.notify.happening import Happening, What
from daemon.notify.matters import BestSoFar, Matter, SweepEnd
from daemon.runs.files import job_ids, record_from_files
from daemon.runs.snapshot import snapshot_of
from daemon.store.records import JobRecord
from jobs.errors import FarenseError
from jobs.kinds import kind_of
from jobs.model_store.folder import same_model
from jobs.paths import Workspace
from jobs.spec import JobSpec, read_spec
from jobs.state import FINISHED, FINISHED_WELL, JobState, State, seconds_between
from jobs.sweep.folder import read_sweep, read_sweep_state, read_trials
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.trial import best_job, best_trial


def matter_of(workspace: Workspace, happening: Happening, *, wants_best: bool) -> Matter | None:
    """Return what is to be said of what happened; None where that is nothing.

    Args:
        wants_best: whether somebody is to be told of the best; for that, the other jobs are read.
    """
    host = host_name()
    if happening.what is What.JOB_ENDED:
        return _of_job(workspace, happening, wants_best=wants_best)
    if happening.what is What.SWEEP_ENDED:
        return matters.of_sweep(happening, _sweep_end(workspace, happening.subject or ""))
    if happening.what is What.WINDOW_ENDED:
        return matters.of_morning(happening, _morning(workspace, happening))
    of = {
        What.HELD: matters.of_held,
        What.QUEUE_EMPTY: matters.of_queue_empty,
        What.DAEMON_GONE: matters.of_daemon_gone,
    }
    return of[happening.what](happening, host)


def running_job(workspace: Workspace) -> str | None:
    """Return the newest job whose file calls it running; None without one."""
    for job_id in job_ids(workspace):
        state = snapshot_of(workspace, job_id).own
        if state is not None and state.state is State.RUNNING:
            return job_id
    return None


def _of_job(workspace: Workspace, happening: Happening, *, wants_best: bool) -> Matter | None:
    job_id = happening.subject or ""
    state = JobState(
        State(happening.detail.get("state", State.FAILED)), reason=happening.detail.get("reason")
    )
    record = record_from_files(workspace, job_id)
    if record is not None:
        record = as_shown(record, workspace)
        if not record.finished:  # it was queued again meanwhile
            return None
        if record.sweep is not None and _is_of_sweep(workspace, record):
            return None
    wanted = wants_best and record is not None and state.state in FINISHED_WELL
    best = best_so_far(workspace, record) if wanted and record is not None else None
    return matters.of_job(happening, record, state, best)


def _is_of_sweep(workspace: Workspace, record: JobRecord) -> bool:
    """Tell whether a job's sweep tells of it: it is no job that a person added to a trial."""
    if kind_of(record).trains:
        return True
    folder = SweepFolder(sweeps_of(workspace) / str(record.sweep))
    with suppress(FarenseError):
        state = read_sweep_state(folder)
        own = {state.evaluation, *(job for t in read_trials(folder) for job in t.evaluations)}
        return state.state not in FINISHED or record.id in own
    return False


def best_so_far(workspace: Workspace, record: JobRecord) -> BestSoFar | None:
    """Return what a training was better than; None where it was not, or there is nothing like it.

    Compared are the trainings of this workspace on the same model and validation data that ended
    before it, with losses over the same tokens.
    """
    loss = record.best_val_loss
    if not kind_of(record).trains or loss is None or not math.isfinite(loss):
        return None
    try:
        spec = read_spec(workspace.run(record.id))
    except FarenseError:
        return None
    if record.verdict is None or not record.verdict.learned or spec.valid is None:
        return None
    others = [
        (other.best_val_loss, other.id)
        for job_id in job_ids(workspace)
        if job_id != record.id
        if (other := _like(workspace, job_id, spec)) is not None
        if other.best_val_loss is not None and _ended_before(other, record)
    ]
    before, job = min(others, default=(math.nan, ""))
    return BestSoFar(len(others) + 1, before, job) if loss < before else None


def _like(workspace: Workspace, job_id: str, spec: JobSpec) -> JobRecord | None:
    """Return a training that has ended well, where its losses compare with those of ``spec``."""
    try:
        other = read_spec(workspace.run(job_id))
    except FarenseError:
        return None
    if not kind_of(other).trains or other.valid is None or spec.valid is None:
        return None
    alike = other.valid.sha256 == spec.valid.sha256 and same_model(
        other.model_fingerprint, spec.model_fingerprint
    )
    from jobs.compare.side import other_tokens  # noqa: PLC0415 - only this loads scores

    if not alike or other_tokens(other.config, spec.config):
        return None
    record = record_from_files(workspace, job_id)
    return record if record is not None and record.state in FINISHED_WELL else None


def _ended_before(other: JobRecord, record: JobRecord) -> bool:
    return seconds_between(other.finished_at or "", record.finished_at or "") >= 0


def _sweep_end(workspace: Workspace, sweep: str) -> SweepEnd:
    """Return what a sweep came to.

    Raises:
        InvalidInput, JobFailed: its files are missing or damaged.
    """
    folder = SweepFolder(sweeps_of(workspace) / sweep)
    spec, state, trials = read_sweep(folder), read_sweep_state(folder), read_trials(folder)
    best = best_trial(trials, maximizes=spec.plan.maximizes)
    record = None
    if best is not None:
        job = best_job(best, maximizes=spec.plan.maximizes)
        record = record_from_files(workspace, job)
        record = as_shown(record, workspace) if record is not None else None
    objective = "token F1" if spec.plan.maximizes else "val loss"
    return SweepEnd(sweep, spec.name, state.state, state.reason, objective, trials, best, record)


def _morning(workspace: Workspace, happening: Happening) -> str:
    from daemon.morning.summary import morning_text  # noqa: PLC0415 - once a night

    return morning_text(workspace, str(happening.detail.get("since") or happening.at))
