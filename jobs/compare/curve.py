"""What the metrics rows of a run say: losses, gap, and how the run came there. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jobs.storage import values
from jobs.training.early_stopping import EarlyStopping
from jobs.verdict import NOT_LEARNED, Verdict, verdict, word_of

Row = Mapping[str, Any]

ROUGH = (
    "The gap of {} is rough: its training loss is that of mini-batches, with dropout on, which "
    "makes a gap look smaller if anything."
)


@dataclass(frozen=True)
class BestValidation:
    """The best validation of a run, as training chose it. Losses are nats per token.

    Attributes:
        step, epoch: where it was; None where its row does not say.
        val_loss: finite.
        train_loss: in eval mode where it was measured, else as logged last before it.
        gap: validation minus training loss; None where no training loss is known.
        rough: ``gap`` is there, but does not compare like with like (:data:`ROUGH`).
        baseline: the validation loss before training; None where none is known.
    """

    step: int | None
    epoch: int | None
    val_loss: float
    train_loss: float | None
    gap: float | None
    rough: bool
    baseline: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the run has come to; None where no gap is known."""
        return verdict(baseline=self.baseline, best=self.val_loss, gap=self.gap)

    @property
    def gap_status(self) -> str | None:
        """The word of the verdict."""
        return word_of(self.verdict)

    @property
    def gap_note(self) -> str | None:
        """What else there is to know of it; that a rough gap is low means nothing."""
        found = self.verdict
        return None if found is None or (self.rough and found.learned) else found.note


@dataclass(frozen=True)
class Curve:
    """The course of a run. Losses are nats per token; what was not measured is None.

    Attributes:
        steps: the last step that was logged.
        validations: how many, the baseline left out.
        since_best: validations since the best one.
        since_improvement: those since the last that counted for patience (``min_delta``).
        baseline_val_loss: before training.
        best_val_loss: of the adapter that was kept: the lowest, but of runs of a time when an
            adapter was kept only where it gained more than ``min_delta``.
        best_step, best_epoch: where that was.
        missed_gain: how far the lowest validation was below the last that counted for patience;
            0 where it was that one.
        last_val_loss: of the last validation, finite or not.
        train_loss: training loss at the best step: in eval mode where it was measured, else as
            logged last before it.
        gap: validation minus training loss at the best step.
        like_with_like: ``gap`` compares losses that were both measured with dropout off, at the
            same weights. Otherwise the training loss is that of mini-batches before the best step,
            with dropout, and makes the gap look smaller if anything.
        gap_status: the word of its verdict; None where there is none (:mod:`jobs.verdict`).
        gap_note: what else there is to know of it, a sentence.
        first_loss, last_loss: training loss at the beginning and the end, both in eval mode where
            that was measured, else as logged first and last.
        train_rise: the most by which the training loss in eval mode rose from one validation to the
            next; 0 where it never did.
        not_finite: the first step at which a loss was NaN or infinite.
        seconds: of training, with validations and checkpoints.
        memory_mb: MLX's peak memory.
    """

    steps: int | None
    validations: int
    since_best: int
    since_improvement: int
    baseline_val_loss: float | None
    best_val_loss: float | None
    best_step: int | None
    best_epoch: int | None
    missed_gain: float
    last_val_loss: float | None
    train_loss: float | None
    gap: float | None
    like_with_like: bool
    gap_status: str | None
    gap_note: str | None
    first_loss: float | None
    last_loss: float | None
    train_rise: float
    not_finite: int | None
    seconds: float | None
    memory_mb: float | None

    @property
    def learned(self) -> bool:
        """Whether the best validation is below the one before training, as far as is known."""
        return self.gap_status != NOT_LEARNED


def curve_of(rows: Sequence[Row], min_delta: float = 0.0, kept_step: int | None = None) -> Curve:
    """Return what the rows of a run say, oldest first; those of older runs may lack any key.

    Args:
        min_delta: by how much a validation has to be lower to count for patience, nats.
        kept_step: of the adapter that was kept, where the run says so.
    """
    validations = _validations(rows)
    counted = _counted(validations)
    row, later = _best(counted, kept_step)
    best = _best_of(rows, row)
    first_loss, last_loss = _first_and_last(rows, validations)
    stopping = _patience(counted, min_delta)
    return Curve(
        steps=_last_whole(rows, "step"),
        validations=len(counted),
        since_best=len(later),
        since_improvement=stopping.without_improvement,
        baseline_val_loss=_baseline(validations),
        best_val_loss=None if best is None else best.val_loss,
        best_step=None if best is None else best.step,
        best_epoch=None if best is None else best.epoch,
        missed_gain=(stopping.reference_loss or 0.0) - (stopping.best_loss or 0.0),
        last_val_loss=number(counted[-1], "val_loss") if counted else None,
        train_loss=None if best is None else best.train_loss,
        gap=None if best is None else best.gap,
        like_with_like=best is not None and best.gap is not None and not best.rough,
        gap_status=None if best is None else best.gap_status,
        gap_note=None if best is None else best.gap_note,
        first_loss=first_loss,
        last_loss=last_loss,
        train_rise=_rise(validations),
        not_finite=_not_finite(rows),
        seconds=_most(rows, "elapsed_time_sec"),
        memory_mb=_most(rows, "memory_mb"),
    )


def best_of(rows: Sequence[Row], kept_step: int | None = None) -> BestValidation | None:
    """Return the best validation of a run with its gap; None before the first finite one.

    Args:
        rows: of the run, oldest first; those of older runs may lack any key.
        kept_step: of the adapter that was kept, where the run says so.
    """
    return _best_of(rows, _best(_counted(_validations(rows)), kept_step)[0])


def number(row: Row, key: str) -> float | None:
    """Return a number in a row, finite or not; None where there is none."""
    return values.number(row.get(key))


def whole(row: Row, key: str) -> int | None:
    """Return a whole number in a row; None where there is none."""
    value = number(row, key)
    return int(value) if value is not None and value.is_integer() else None


def _finite(row: Row, key: str) -> float | None:
    return values.finite(row.get(key))


def _validations(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if number(row, "val_loss") is not None]


def _counted(validations: Sequence[Row]) -> list[Row]:
    """Return the validations without the baseline before training."""
    return [row for row in validations if row.get("step") != 0]


def _best_of(rows: Sequence[Row], best: Row | None) -> BestValidation | None:
    val_loss = None if best is None else number(best, "val_loss")
    if best is None or val_loss is None:
        return None
    gap, like_with_like = _gap(rows, best, val_loss)
    return BestValidation(
        step=whole(best, "step"),
        epoch=whole(best, "epoch"),
        val_loss=val_loss,
        train_loss=_train_loss(rows, best),
        gap=gap,
        rough=gap is not None and not like_with_like,
        baseline=_baseline(rows),
    )


def _baseline(rows: Sequence[Row]) -> float | None:
    """Return the validation loss before training."""
    found = (number(row, "val_loss") for row in rows if row.get("step") == 0)
    return next((loss for loss in found if loss is not None), None)


def _best(counted: Sequence[Row], kept_step: int | None) -> tuple[Row | None, Sequence[Row]]:
    """Return the validation whose adapter was kept, else the lowest; and those after it."""
    losses = [(place, _finite(row, "val_loss")) for place, row in enumerate(counted)]
    finite = [(place, loss) for place, loss in losses if loss is not None]
    if not finite:
        return None, counted
    kept = (i for i, _ in finite if kept_step is not None and counted[i].get("step") == kept_step)
    place = next(kept, min(finite, key=lambda pair: pair[1])[0])
    return counted[place], counted[place + 1 :]


def _patience(counted: Sequence[Row], min_delta: float) -> EarlyStopping:
    """Return how patience stands after the validations of a run."""
    stopping = EarlyStopping(None, min_delta)
    for step, loss in enumerate(_numbers(counted, "val_loss"), 1):
        stopping = stopping.after(loss, 0, step)
    return stopping


def _gap(rows: Sequence[Row], best: Row, val_loss: float) -> tuple[float | None, bool]:
    """Return the gap at the best validation, and whether it compares like with like."""
    in_eval_mode = _finite(best, "train_eval_loss")
    if in_eval_mode is not None:
        return val_loss - in_eval_mode, True
    noted = _finite(best, "overfitting_gap")
    if noted is not None:
        return noted, False
    train_loss = _train_loss(rows, best)
    return (None if train_loss is None else val_loss - train_loss), False


def _train_loss(rows: Sequence[Row], best: Row) -> float | None:
    measured = _finite(best, "train_eval_loss")
    if measured is not None:
        return measured
    place = next(index for index, row in enumerate(rows) if row is best)
    logged = (_finite(row, "loss") for row in rows[place::-1])
    return next((loss for loss in logged if loss is not None), None)


def _first_and_last(
    rows: Sequence[Row], validations: Sequence[Row]
) -> tuple[float | None, float | None]:
    """Return the training loss at the beginning and at the end, measured in the same way."""
    measured, logged = _numbers(validations, "train_eval_loss"), _numbers(rows, "loss")
    losses = measured if len(measured) > 1 else logged
    return (losses[0], losses[-1]) if len(losses) > 1 else (None, None)


def _rise(validations: Sequence[Row]) -> float:
    losses = filter(math.isfinite, _numbers(validations, "train_eval_loss"))
    return max(0.0, *(after - before for before, after in pairwise(losses)), 0.0)


def _not_finite(rows: Sequence[Row]) -> int | None:
    for row in rows:
        found = [number(row, key) for key in ("loss", "val_loss")]
        if any(value is not None and not math.isfinite(value) for value in found):
            return whole(row, "step") or 0
    return None


def _numbers(rows: Sequence[Row], key: str) -> list[float]:
    found = (number(row, key) for row in rows)
    return [value for value in found if value is not None]


def _last_whole(rows: Sequence[Row], key: str) -> int | None:
    found = (whole(row, key) for row in reversed(rows))
    return next((value for value in found if value is not None), None)


def _most(rows: Sequence[Row], key: str) -> float | None:
    return max(filter(math.isfinite, _numbers(rows, key)), default=None)
