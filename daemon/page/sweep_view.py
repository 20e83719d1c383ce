"""Sweeps on the page, from their files; what has not changed is not read again."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from daemon.sweep.view import SweepView, view_sweep
from jobs.errors import FarenseError, InvalidInput
from jobs.paths import JOB_ID, Workspace
from jobs.storage.locks import is_held
from jobs.storage.values import printable
from jobs.sweep.folder import sweep_ids
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.trial import Trial, best_job

# On the list, newest first; older ones are reached by their address.
MOST_SWEEPS = 100
# Trials whose curves are drawn, the newest.
MOST_CURVES = 100


class SweepViews:
    """The sweeps of a workspace as they stand, each read when its files have changed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[str, tuple[object, dict[str, Any]]] = {}

    def listed(self) -> list[dict[str, Any]]:
        """Return the sweeps, newest first; one whose files are damaged is left out."""
        found = []
        for sweep in sweep_ids(self._workspace)[:MOST_SWEEPS]:
            with suppress(FarenseError):
                whole = self.one(sweep)
                left = ("trials", "curves", "importances", "space")
                found.append({name: value for name, value in whole.items() if name not in left})
        return found

    def one(self, sweep: str) -> dict[str, Any]:
        """Return a sweep with its leaderboard and the curves of its trials.

        Raises:
            InvalidInput, JobFailed: there is none of this id, or its files are damaged.
        """
        if not JOB_ID.fullmatch(sweep):
            raise InvalidInput("This is not the id of a sweep.")
        folder = SweepFolder(sweeps_of(self._workspace) / sweep)
        key = _stamp(folder)
        known = self._known.get(sweep)
        if known is None or known[0] != key:
            known = key, _sweep(view_sweep(folder))
            self._known[sweep] = known
        return known[1]


def _stamp(folder: SweepFolder) -> object:
    """Return what differs once a file of a sweep was replaced, or a trial of it moves."""
    stamps = []
    for path in (folder.spec, folder.state, folder.trials):
        try:
            stamps.append(path.stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return stamps, is_held(folder.lock)


def _sweep(view: SweepView) -> dict[str, Any]:
    plan, state = view.spec.plan, view.state
    ranked = [trial.number for trial in view.ranked]
    rest = [trial.number for trial in view.trials if trial.number not in set(ranked)]
    by_number = {trial.number: trial for trial in view.trials}
    return {
        "id": view.spec.id,
        "name": printable(view.spec.name),
        "state": str(state.state),
        "reason": state.reason and printable(state.reason),
        "created": view.spec.created_at,
        "until": state.until,
        "coordinated": view.coordinated,
        "seconds_left": None if view.seconds_left is None else round(view.seconds_left),
        "objective": plan.objective,
        "preset": plan.preset,
        "sampler": plan.sampler,
        "planned": state.trials,
        "ended": sum(trial.ended for trial in view.trials),
        "count": len(view.trials),
        "best": view.best.number if view.best else None,
        "best_value": view.best.value if view.best else None,
        "evaluation": state.evaluation,
        "importances": state.importances,
        "space": list(plan.space),
        "trials": [_trial(by_number[number], view) for number in [*ranked, *rest]],
        "curves": [
            {"number": trial.number, "points": [p for p in trial.curves[0] if len(p) == 2]}
            for trial in view.trials[-MOST_CURVES:]
            if trial.curves and trial.curves[0]
        ],
    }


def _trial(trial: Trial, view: SweepView) -> dict[str, Any]:
    interrupted = trial.number in view.interrupted
    job = best_job(trial, maximizes=view.spec.plan.maximizes) if trial.jobs else None
    return {
        "number": trial.number,
        "job": job,
        "state": "interrupted" if interrupted else str(trial.state),
        "pruned": trial.pruned_by,
        "value": trial.value,
        "learned": trial.learned,
        "seconds": round(trial.seconds),
        "step": trial.step,
        "total": trial.total_steps,
        "reason": trial.reason and printable(trial.reason),
        "params": {name: _short(value) for name, value in trial.params.items()},
    }


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return printable(text)
