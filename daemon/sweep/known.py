"""What is known of a sweep when its coordinator starts: from its files and those of its jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from daemon.joblog import LogReader
from daemon.runs.files import job_ids
from daemon.runs.snapshot import snapshot_of
from jobs.config.config import TrainConfig
from jobs.errors import FarenseError
from jobs.events import Evaluated
from jobs.paths import Workspace
from jobs.spec import JobSpec, SweepTrial, read_spec
from jobs.storage.files import sha256_of
from jobs.sweep.folder import read_sweep, read_trials
from jobs.sweep.paths import SweepFolder
from jobs.sweep.trial import Trial


def known_trials(folder: SweepFolder, workspace: Workspace) -> list[Trial]:
    """Return the trials of a sweep, those of which only the jobs are left among them.

    Raises:
        InvalidInput: nobody knows what the sweep is to do.
    """
    plan = read_sweep(folder).plan
    specs = [spec for spec, _ in _specs(workspace)]
    return merged(read_trials(folder), specs, folder.id, evaluated=plan.maximizes)


def evaluation_seconds(base: TrainConfig, workspace: Workspace) -> float | None:
    """Return the longest that an evaluation of such a model on such data took; None without one."""
    valid = base.data.valid
    if valid is None:
        return None
    digest = sha256_of(workspace.root / valid)
    return max(
        (
            seconds
            for found, job_id in _specs(workspace)
            if found.evaluation is not None
            and found.valid is not None
            and found.valid.sha256 == digest
            if found.config.get("model") == base.model
            for seconds in _seconds(workspace, job_id)
        ),
        default=None,
    )


def _specs(workspace: Workspace) -> Iterator[tuple[JobSpec, str]]:
    """Yield the specs of all jobs that were wholly enqueued, and their ids."""
    for job_id in job_ids(workspace):
        with suppress(FarenseError):
            if snapshot_of(workspace, job_id).state is not None:
                yield read_spec(workspace.run(job_id)), job_id


def _seconds(workspace: Workspace, job_id: str) -> Iterator[float]:
    """Yield what an evaluation says it took."""
    reader = LogReader(workspace.job_log(job_id))
    while lines := reader.read():
        for envelope in lines.events:
            if isinstance(envelope.event, Evaluated):
                yield envelope.event.elapsed_time_sec


def merged(
    trials: Iterable[Trial], specs: Collection[JobSpec], sweep: str, *, evaluated: bool
) -> list[Trial]:
    """Return the trials of a sweep with all that their jobs' specs say of them, by number.

    Args:
        trials: those that are known; a job that is none of theirs joins its trial, or makes it.
        specs: of the jobs of the workspace, those of other sweeps among them.
        evaluated: evaluations are a part of the trials, whose objective they give.
    """
    found = {trial.number: trial for trial in trials}
    trained = sorted(_parts(specs, sweep), key=lambda pair: (pair[1].part, pair[0].created_at))
    for spec, part in trained:
        trial = found.get(part.number) or Trial(
            part.number, part.params, asked_at=spec.created_at, total_steps=spec.total_steps
        )
        # A job that was enqueued anew after its files were lost takes the place of the first.
        if spec.id not in trial.jobs and part.part >= len(trial.jobs):
            trial = replace(trial, jobs=[*trial.jobs, spec.id])
        found[part.number] = trial
    ordered = [found[number] for number in sorted(found)]
    return [_with_evaluations(trial, specs) for trial in ordered] if evaluated else ordered


def _parts(specs: Iterable[JobSpec], sweep: str) -> Iterable[tuple[JobSpec, SweepTrial]]:
    for spec in specs:
        part = spec.sweep
        if part is not None and part.sweep == sweep and spec.evaluation is None:
            yield spec, part


def _with_evaluations(trial: Trial, specs: Iterable[JobSpec]) -> Trial:
    known: Mapping[str, str] = {
        spec.evaluation.job: spec.id for spec in specs if spec.evaluation is not None
    }
    found = [known[job] for job in trial.jobs if job in known]
    return replace(trial, evaluations=found) if len(found) > len(trial.evaluations) else trial
