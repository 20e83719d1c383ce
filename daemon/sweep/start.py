"""From a sweep file to a sweep: check everything, freeze the data, make its folder.

Nothing here needs the queue: a daemon finds the folder and coordinates the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from daemon.client import FarenseClient
from daemon.runs.files import keep_damaged
from daemon.runs.private_folder import PRIVATE
from daemon.runs.workspace_locks import changing, freezing
from daemon.submit.checks import SubmitChecks, Wanted
from daemon.submit.run_directory import new_id
from daemon.sweep.known import evaluation_seconds
from daemon.times import parse_at
from jobs.config.config import TrainConfig
from jobs.config.step_plan import Schedule
from jobs.errors import InvalidInput, JobFailed, UnknownJob, WorkspaceError
from jobs.paths import Workspace
from jobs.state import DEFAULT_QUEUE, FINISHED, State, now
from jobs.storage.files import explain
from jobs.sweep.budget import Budget
from jobs.sweep.folder import (
    SweepSpec,
    SweepState,
    read_sweep,
    read_sweep_state,
    read_trials,
    write_sweep,
    write_sweep_state,
)
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.plan import SweepPlan, alone, base_config, load_plan

STOPPED = "stopped by the user; `farense sweep resume` resumes it"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Begun:
    """A sweep that was started.

    Attributes:
        schedule: of a trial with the base config.
        remarks: what a person should know of the trials.
    """

    folder: SweepFolder
    spec: SweepSpec
    state: SweepState
    schedule: Schedule
    remarks: list[str]


def begin_sweep(
    path: Path,
    workspace: Workspace,
    presets: tuple[Path, ...],
    *,
    name: str | None = None,
    trials: int | None = None,
    until: str | None = None,
    queue: str = DEFAULT_QUEUE,
) -> Begun:
    """Start a sweep.

    Args:
        path: of the sweep file.
        presets: folders in which its preset is looked for.
        name: what to call it; the file's name where left out.
        trials, until: take the place of what the file says.

    Raises:
        InvalidInput: something in the file, its preset, model or data cannot be used; nothing was
            left behind.
        WorkspaceError: the workspace cannot be written, or has no room.
        JobFailed: the process that looks at model and data gives no answer.
    """
    plan = load_plan(path)
    if trials is not None:
        plan = plan.model_copy(update={"trials": trials})
    if until is not None:
        plan = plan.model_copy(update={"until": until, "hours": None})
    moment = end_of(plan, datetime.now(UTC))
    base = base_config(plan, presets, str(path))
    checks = SubmitChecks.of(workspace)
    schedule, remarks = _checked(plan, base, checks)
    with freezing(workspace):
        base, sources = _frozen(base, checks)
        _refuse_too_little_time(plan, moment, base, workspace)
        named = _named(name or path.stem, workspace)
        spec = SweepSpec(*named, now(), plan, base, queue, sources)
        folder = SweepFolder(sweeps_of(workspace) / spec.id)
        write_sweep(folder, spec)
    # Last: from now on a daemon takes it up.
    return Begun(folder, spec, write_sweep_state(folder, first_state(spec)), schedule, remarks)


def _checked(
    plan: SweepPlan, base: TrainConfig, checks: SubmitChecks
) -> tuple[Schedule, list[str]]:
    """Check the base config, and each value that is tried beside the first of the others.

    Raises:
        InvalidInput, WorkspaceError, JobFailed: as :meth:`daemon.submit.checks.SubmitChecks.check`
        does.
    """
    configs = [base, *alone(plan, base)]
    # Where F1 is what counts, every trial is evaluated; else the best one is, as far as it can be.
    said = checks.check([Wanted(config, evaluated=plan.maximizes) for config in configs])
    remarks = list(dict.fromkeys(remark for each in said for remark in each))
    if not plan.maximizes:
        try:
            checks.check([Wanted(base, evaluated=True)])
        except InvalidInput as error:
            remarks.append(f"The best trial will not be evaluated: {error.message}")
    return base.schedule(checks.look(base)), remarks


def _frozen(base: TrainConfig, checks: SubmitChecks) -> tuple[TrainConfig, dict[str, str]]:
    """Freeze a config's data, link its model; return it with their paths, and the data's names."""
    parts = checks.freeze(base)
    files = [file for file in (parts.train, parts.valid, parts.init_from) if file]
    start = parts.init_from.path if parts.init_from else None
    data = {"train": parts.train.path, "valid": parts.valid.path if parts.valid else None}
    frozen = base.model_copy(
        update={
            "model": parts.model,
            "data": base.data.model_copy(update=data),
            "init_from": start,
        }
    )
    return frozen, {file.path: file.source for file in files}


def first_state(spec: SweepSpec) -> SweepState:
    """Return where a sweep stands when it begins."""
    moment = end_of(spec.plan, datetime.fromisoformat(spec.created_at))
    until = moment.isoformat(timespec="seconds") if moment else None
    return SweepState(until=until, trials=spec.plan.most_trials)


def mend_state(folder: SweepFolder, workspace: Workspace) -> None:
    """Let a sweep go on from its beginning's state where its own is lost; what is damaged is kept.

    All else it needs to know is in its trials' files.

    Raises:
        InvalidInput: nobody knows what it is to do.
        WorkspaceError: the folder cannot be written.
    """
    try:
        read_sweep_state(folder)
    except JobFailed as error:
        log.warning("state_rebuilt", sweep=folder.id, reason=error.message)
        keep_damaged(folder.state)
        with changing(workspace):
            write_sweep_state(folder, first_state(read_sweep(folder)))


def end_of(plan: SweepPlan, now: datetime) -> datetime | None:
    """Return when a sweep that starts now is to have ended; None where no time is set.

    Raises:
        InvalidInput: ``until`` is no time, or has passed.
    """
    if plan.hours is not None:
        return now + timedelta(hours=plan.hours)
    return parse_at(plan.until, now) if plan.until is not None else None


def _refuse_too_little_time(
    plan: SweepPlan, moment: datetime | None, base: TrainConfig, workspace: Workspace
) -> None:
    """Refuse a sweep that would have to evaluate its best before it could try anything.

    Raises:
        InvalidInput: it is one.
    """
    if moment is None:
        return
    began = datetime.now(UTC)
    seconds = 0.0 if plan.maximizes else evaluation_seconds(base, workspace)
    budget = Budget(began, moment, seconds)
    if budget.is_over(began):
        raise InvalidInput(
            f"There is no time to try anything: of {(moment - began).total_seconds():.0f} s, "
            f"{budget.reserve:.0f} s are kept for evaluating the best.",
            "Give it more time: a later --until, or more hours.",
        )


def change_sweep(folder: SweepFolder, workspace: Workspace, **changes: object) -> SweepState:
    """Change where a sweep stands: under the lock under which jobs change, too.

    Raises:
        JobFailed: it says nowhere where it stands.
    """
    with changing(workspace):
        return write_sweep_state(folder, replace(read_sweep_state(folder), **changes))  # type: ignore[arg-type]


def _named(name: str, workspace: Workspace) -> tuple[str, str]:
    folder = sweeps_of(workspace)
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        for sweep_id in new_id(name):
            if not (folder / sweep_id).exists():
                (folder / sweep_id).mkdir(mode=PRIVATE)
                return sweep_id, name
    except OSError as error:
        raise explain(error, folder) from error
    raise WorkspaceError(f"No free id of a sweep in {folder}.")


def stop_sweep(folder: SweepFolder, client: FarenseClient) -> SweepState:
    """Let a sweep rest: no trial is started, and those under way write a checkpoint and wait.

    Raises:
        InvalidInput: it has ended.
        QueueUnreachable: the queue is away; no new trial is started all the same.
    """
    _refuse_ended(folder, "stopped")
    state = change_sweep(folder, client.workspace, state=State.PAUSED, reason=STOPPED)
    for job in open_jobs(folder):
        try:
            client.pause(job)
        except UnknownJob:
            continue
    return state


def resume_sweep(
    folder: SweepFolder, client: FarenseClient, until: str | None = None
) -> SweepState:
    """Let a sweep go on from where it was stopped.

    Args:
        until: when it is to have ended now, ISO 8601; None for what was said before.

    Raises:
        InvalidInput: it has ended.
        QueueUnreachable: the queue is away.
    """
    _refuse_ended(folder, "resumed")
    for job in open_jobs(folder):
        try:
            client.resume(job)
        except UnknownJob:
            continue
    changes = {} if until is None else {"until": until}
    return change_sweep(folder, client.workspace, state=State.RUNNING, reason=None, **changes)


def open_jobs(folder: SweepFolder) -> list[str]:
    """Return the newest job of each trial that has not ended."""
    trials = [trial for trial in read_trials(folder) if not trial.ended]
    return [job for trial in trials if (job := trial.newest_job) is not None]


def _refuse_ended(folder: SweepFolder, what: str) -> None:
    state = read_sweep_state(folder)
    if state.state in FINISHED:
        reason = f": {state.reason}" if state.reason else ""
        raise InvalidInput(f"{folder.id} cannot be {what}: it {state.state.verb}{reason}.")
