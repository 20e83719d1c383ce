"""What an event changes on the record of its job."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from daemon.store.records import JobRecord
from jobs.events import (
    BestModel,
    CheckpointSaved,
    Envelope,
    Evaluated,
    EvaluationStarted,
    Event,
    Finished,
    PhaseBegan,
    PrefixCached,
    Progress,
    Started,
    StoodStill,
    TrainMetrics,
    Validation,
    Warned,
)
from jobs.state import State
from jobs.storage.formatting import duration
from jobs.verdict import word_of

LOADING = "loading the model and the data"
FILLING = "computing prefix states"
# What comes while a phase goes on, and does not end it.
BESIDE = (BestModel, CheckpointSaved, StoodStill, Warned)


def changes(envelope: Envelope) -> dict[str, Any]:
    """Return the fields of a record that ``envelope`` sets, with their new values."""
    event = envelope.event
    found = _changes(event)
    if not isinstance(event, BESIDE):
        found = {**found, **_phase(event)}
    return {**found, "updated_at": envelope.time} if found else {}


def phase(
    name: str | None, done: int | None = None, total: int | None = None, left: float | None = None
) -> dict[str, Any]:
    """Return the fields of a record that say what it does which is no step."""
    return {"phase": name, "phase_done": done, "phase_total": total, "phase_eta_seconds": left}


def phase_text(record: JobRecord) -> str | None:
    """Return what a running job does which is no step; None while it steps, or does not run."""
    if record.phase is None or record.state is not State.RUNNING or record.interrupted:
        return None
    counted = "" if record.phase_total is None else f" {record.phase_done}/{record.phase_total}"
    left = record.phase_eta_seconds
    return f"{record.phase}{counted}" + ("" if left is None else f", {duration(left)} left")


def phase_lines(records: Iterable[JobRecord]) -> list[str]:
    """Return what running jobs do that is no step, a line each."""
    found = [(record.id, phase_text(record)) for record in records]
    return [f"{job} is {text}." for job, text in found if text]


def _phase(event: Event) -> dict[str, Any]:
    if isinstance(event, PhaseBegan):
        return phase(event.phase)
    if isinstance(event, PrefixCached) and event.examples < event.total:
        return phase(FILLING, event.examples, event.total, event.eta_seconds)
    return phase(None)


def advanced(record: JobRecord, envelope: Envelope) -> JobRecord:
    """Return the record after ``envelope``."""
    return replace(record, **changes(envelope))


def _changes(event: Event) -> dict[str, Any]:
    match event:
        case EvaluationStarted():
            return {"pid": event.pid, "total_steps": event.answers, "step": event.answered}
        case Evaluated():
            return {
                "eta_seconds": None,
                "val_loss": event.val_loss,
                "token_f1": event.token_f1,
                "exact_match": event.exact_match,
            }
        case Started():
            return {
                "pid": event.pid,
                "num_epochs": event.num_epochs,
                "total_steps": event.total_steps,
                "step": event.resumed_step,
            }
        case Progress():
            return {
                "step": event.step,
                "total_steps": event.total_steps,
                "epoch": event.epoch,
                "steps_per_second": event.steps_per_second,
                "eta_seconds": event.eta_seconds,
            }
        case TrainMetrics():
            row = {"step": event.step, "epoch": event.epoch}
            return row if event.loss is None else {**row, "loss": event.loss}
        case Validation():
            return _validated(event)
        case CheckpointSaved():
            return {"checkpoint_step": event.step}
        case BestModel():
            return _best(event.val_loss)
        case Finished():
            ended = {"step": event.step, "eta_seconds": None, "pruned_by": event.pruned_by}
            return {**ended, **_verdict(event), **_best(event.best_val_loss)}
    return {}


def _validated(event: Validation) -> dict[str, Any]:
    if event.step == 0:
        # Of the base model: its gap is none of the training's, and no verdict on it.
        nothing_yet = {"best_val_loss": None, "overfitting_gap": None, "gap_status": None}
        return {"val_loss": event.val_loss, "baseline_val_loss": event.val_loss, **nothing_yet}
    baseline = event.baseline_val_loss
    known = {} if baseline is None else {"baseline_val_loss": baseline}
    if not event.improved:  # gap and word are those of the best adapter so far
        return {"val_loss": event.val_loss, **known}
    return {
        "val_loss": event.val_loss,
        "overfitting_gap": event.overfitting_gap,
        "gap_status": event.gap_status,
        **known,
    }


def _verdict(event: Finished) -> dict[str, Any]:
    """Return what a run came to; of an older log, as it is judged now."""
    at_best = {} if event.best_gap is None else {"overfitting_gap": event.best_gap}
    told = {"baseline_val_loss": event.baseline_val_loss, "gap_status": word_of(event.verdict)}
    return told | at_best


def _best(loss: float | None) -> dict[str, Any]:
    """Return the best loss; one that is not finite is never the best."""
    return {"best_val_loss": loss} if loss is None or math.isfinite(loss) else {}
