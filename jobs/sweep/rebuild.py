"""Trials from their jobs' own files, where a sweep's are lost: each job says whose part it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from jobs.spec import EVALUATE, Order, SweepTrial
from jobs.sweep.trial import Trial


def merged(
    trials: Iterable[Trial], orders: Collection[Order], sweep: str, *, evaluated: bool
) -> list[Trial]:
    """Return the trials of a sweep with all that their jobs' orders say of them, by number.

    Args:
        trials: those that are known; a job that is none of theirs joins its trial, or makes it.
        orders: of the jobs of the workspace, those of other sweeps among them.
        evaluated: evaluations are a part of the trials, whose objective they give.
    """
    found = {trial.number: trial for trial in trials}
    trained = sorted(_parts(orders, sweep), key=lambda pair: (pair[1].part, pair[0].created_at))
    for order, part in trained:
        trial = found.get(part.number) or Trial(
            part.number, part.params, asked_at=order.created_at, total_steps=order.total_steps
        )
        # A job that was enqueued anew after its files were lost takes the place of the first.
        if order.id not in trial.jobs and part.part >= len(trial.jobs):
            trial = replace(trial, jobs=[*trial.jobs, order.id])
        found[part.number] = trial
    ordered = [found[number] for number in sorted(found)]
    return [_with_evaluations(trial, orders) for trial in ordered] if evaluated else ordered


def _parts(orders: Iterable[Order], sweep: str) -> Iterable[tuple[Order, SweepTrial]]:
    for order in orders:
        part = order.sweep
        if part is not None and part.sweep == sweep and order.kind != EVALUATE:
            yield order, part


def _with_evaluations(trial: Trial, orders: Iterable[Order]) -> Trial:
    known: Mapping[str, str] = {
        order.evaluation.job: order.id for order in orders if order.evaluation is not None
    }
    found = [known[job] for job in trial.jobs if job in known]
    return replace(trial, evaluations=found) if len(found) > len(trial.evaluations) else trial
