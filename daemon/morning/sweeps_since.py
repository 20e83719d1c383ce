"""The sweeps of which something was tried since a moment, from their files."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime

from daemon.morning.facts import SweepOfNight
from daemon.runs.files import verdict_of_files
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.state import State, seconds_between
from jobs.sweep.folder import read_sweep, read_sweep_state, read_trials, sweep_ids
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.trial import Trial, best_job, leaderboard


def sweeps_since(
    workspace: Workspace, since: datetime, with_jobs: Collection[str]
) -> list[SweepOfNight]:
    """Return the sweeps of which something was tried since a moment, newest first.

    A sweep whose files are damaged is left out.

    Args:
        with_jobs: the sweeps of which a job ran, whatever their own files tell.
    """
    found = []
    for sweep in sweep_ids(workspace):
        folder = SweepFolder(sweeps_of(workspace) / sweep)
        if sweep in with_jobs or _changed(folder, since):
            with suppress(FarenseError):
                found.append(_told(folder, since))
    return [sweep for sweep in found if sweep.tried or sweep.id in with_jobs]


def _changed(folder: SweepFolder, since: datetime) -> bool:
    """Tell whether a file of the sweep was written since; each is written anew, not changed."""
    for path in (folder.path, folder.trials):
        with suppress(OSError):
            if path.stat().st_mtime >= since.timestamp():
                return True
    return False


def _told(folder: SweepFolder, since: datetime) -> SweepOfNight:
    spec, state, trials = read_sweep(folder), read_sweep_state(folder), read_trials(folder)
    ended = [trial for trial in trials if trial.ended and _since(trial, since)]
    maximizes = spec.plan.maximizes
    best = next((t for t in leaderboard(trials, maximizes=maximizes) if t.learned), None)
    job = best_job(best, maximizes=maximizes) if best is not None and best.jobs else None
    verdict = verdict_of_files(folder.workspace, job) if job else None
    return SweepOfNight(
        id=spec.id,
        name=spec.name,
        state=state.state,
        objective=str(spec.plan.objective),
        tried=len(ended),
        pruned=sum(trial.pruned for trial in ended),
        failed=sum(trial.state is State.FAILED for trial in ended),
        trials=len(trials),
        best=best.number if best else None,
        value=best.value if best else None,
        settings=dict(best.params) if best else {},
        job=job,
        overfitting_gap=verdict.gap if verdict else None,
        gap_status=verdict.word if verdict else None,
        reason=state.reason,
    )


def _since(trial: Trial, since: datetime) -> bool:
    return seconds_between(since.isoformat(), trial.ended_at or "") > 0
