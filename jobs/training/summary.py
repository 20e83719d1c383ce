"""What a run finds and leaves behind: losses, best adapter, summary, the state file for people."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from jobs.errors import JobFailed
from jobs.events import Evaluated, Failed, Finished, StoppedEarly, TrainMetrics, Validation
from jobs.paths import RunDirectory
from jobs.spec import JobSpec
from jobs.state import State, now, read_state
from jobs.storage.files import write_json
from jobs.training.best_adapter import BestAdapter
from jobs.training.counters import Position
from jobs.verdict import verdict, word_of


@dataclass(frozen=True)
class Losses:
    """Both losses of a validation, in eval mode at the same weights, and what measuring took.

    Attributes:
        seconds: for both; ``valid_seconds`` of them for the validation loss.
    """

    valid: float
    train: float
    seconds: float
    valid_seconds: float

    @property
    def gap(self) -> float:
        """Validation minus training loss, nats per token."""
        return self.valid - self.train


def finished(
    run: RunDirectory,
    best: BestAdapter,
    at: Position,
    state: State,
    elapsed: float,
    pruned_by: str | None = None,
) -> Finished:
    """Return the event that sums up a run which ended well; ``pruned_by``: at whose wish early."""
    stopping, gaps = at.early_stopping, at.gaps
    measured = stopping.best_loss is not None
    found = verdict(baseline=at.baseline_val_loss, best=stopping.best_loss, gap=gaps.at_best)
    return Finished(
        state=str(state),
        step=at.step,
        best_epoch=stopping.best_epoch if measured else None,
        best_step=stopping.best_step if measured else None,
        best_val_loss=stopping.best_loss,
        baseline_val_loss=at.baseline_val_loss,
        gap_status=word_of(found),
        gap_note=found.note if found else None,
        best_gap=gaps.at_best,
        rollbacks=at.rollbacks,
        pruned_by=pruned_by,
        mean_gap=gaps.mean,
        max_gap=gaps.highest if gaps.count else None,
        min_gap=gaps.lowest if gaps.count else None,
        elapsed_time_sec=elapsed,
        adapters=str(best.folder),
        run_dir=str(run.path),
    )


def metrics_row(
    epoch: int,
    at: Position,
    losses: Losses | None,
    *,
    loss: float | None,
    learning_rate: float | None,
    grad_norm: float | None,
    seconds: float,
    memory_mb: float,
    elapsed: float,
) -> TrainMetrics:
    """Return a row of the metrics; ``seconds`` since the one before, a validation included."""
    trained = seconds - (losses.seconds if losses else 0.0)
    return TrainMetrics(
        epoch=epoch,
        step=at.step,
        update=at.update,
        loss=loss,
        val_loss=losses.valid if losses else None,
        train_eval_loss=losses.train if losses else None,
        overfitting_gap=losses.gap if losses else None,
        learning_rate=learning_rate,
        grad_norm=grad_norm,
        tokens_per_second=at.row_tokens / trained if at.row_tokens else None,
        memory_mb=memory_mb,
        elapsed_time_sec=elapsed,
        timestamp=now(),
        rollbacks=at.rollbacks,
    )


def validation_event(epoch: int, at: Position, losses: Losses, *, improved: bool) -> Validation:
    """Return the event of a validation; ``at`` has counted it.

    It is judged by itself, as its gap is: by its own loss beside the one before training.
    """
    loss = losses.valid if at.step else None
    found = verdict(baseline=at.baseline_val_loss, best=loss, gap=losses.gap)
    return Validation(
        epoch=epoch,
        step=at.step,
        val_loss=losses.valid,
        train_eval_loss=losses.train,
        overfitting_gap=losses.gap,
        gap_status=word_of(found),
        improved=improved,
        without_improvement=at.early_stopping.without_improvement,
        patience=at.early_stopping.patience,
        seconds=losses.seconds,
        valid_seconds=losses.valid_seconds,
        baseline_val_loss=at.baseline_val_loss,
    )


def early_stopping_event(epoch: int, at: Position) -> StoppedEarly:
    """Return the event that says why training ends before its last step."""
    stopping = at.early_stopping
    return StoppedEarly(
        epoch=epoch,
        step=at.step,
        best_epoch=stopping.best_epoch,
        best_step=stopping.best_step,
        best_val_loss=stopping.best_loss if stopping.best_loss is not None else math.nan,
        patience=stopping.without_improvement,
    )


def write_summary(
    run: RunDirectory,
    outcome: Finished | Evaluated | Failed,
    spec: JobSpec,
    versions: dict[str, str],
) -> None:
    """Write ``training_summary.json``; ``state`` in it is how the job ended.

    ``init_from`` in it is the adapter that training started from: its source, and its digest.
    """
    moment = now()
    head = {"job": run.job_id, "state": State.FAILED, "reason": None}
    times: dict[str, Any] = {"started_at": None, "finished_at": moment, "duration_seconds": None}
    with suppress(JobFailed):  # a damaged state.json is for who looks after the job to mend
        state = read_state(run)
        times["started_at"] = state.started_at
        times["duration_seconds"] = state.ran_until(moment)
    data = {
        "train": asdict(spec.train),
        "valid": asdict(spec.valid) if spec.valid else None,
    }
    start = asdict(spec.init_from) if spec.init_from else None
    said = {"config": spec.config, "data": data, "init_from": start, "versions": versions}
    write_json(run.summary, head | asdict(outcome) | times | said)


def write_training_state(run: RunDirectory, epoch: int, at: Position) -> None:
    """Write ``training_state.json``: where the run stands, for people."""
    stopping = at.early_stopping
    values = {
        "epoch": epoch,
        "step": at.step,
        "update": at.update,
        "baseline_val_loss": at.baseline_val_loss,
        "best_val_loss": stopping.best_loss,
        "best_epoch": stopping.best_epoch or None,
        "best_step": stopping.best_step or None,
        "validations_without_improvement": stopping.without_improvement,
        "patience": stopping.patience,
        "rollbacks": at.rollbacks,
        "updated_at": now(),
    }
    write_json(run.training_state, values)
