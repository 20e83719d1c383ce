"""What an event changes on the record of its job."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from daemon.records import JobRecord
from jobs.evaluation.events import Evaluated, EvaluationStarted
from jobs.events import (
    BestModel,
    CheckpointSaved,
    Envelope,
    Event,
    Finished,
    Progress,
    Started,
    TrainMetrics,
    Validation,
)
from jobs.verdict import verdict, word_of


def changes(envelope: Envelope) -> dict[str, Any]:
    """Return the fields of a record that ``envelope`` sets, with their new values."""
    found = _changes(envelope.event)
    return {**found, "updated_at": envelope.time} if found else {}


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
    baseline, best, gap = event.baseline_val_loss, event.best_val_loss, event.best_gap
    found = verdict(baseline=baseline, best=best, gap=gap, told=event.gap_status)
    at_best = {} if gap is None else {"overfitting_gap": gap}
    return {"baseline_val_loss": baseline, "gap_status": word_of(found), **at_best}


def _best(loss: float | None) -> dict[str, Any]:
    """Return the best loss; one that is not finite is never the best."""
    return {"best_val_loss": loss} if loss is None or math.isfinite(loss) else {}
