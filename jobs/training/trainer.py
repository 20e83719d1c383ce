"""The training loop.

Read :meth:`Trainer.run` first: a step, then the duties that fall due after it. Everything the loop
says goes out as events; all it must remember is in ``at`` (counters) and in the engine (arrays).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from jobs.backend.mlx import scalar
from jobs.config.config import TrainConfig
from jobs.errors import CheckpointError, Diverged
from jobs.events import BestModel, CheckpointSaved, Event, Finished, PhaseBegan, Warned
from jobs.pace import Pace
from jobs.paths import RunDirectory
from jobs.state import State
from jobs.training.batches import BatchPlan
from jobs.training.best_adapter import BestAdapter
from jobs.training.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from jobs.training.counters import Position
from jobs.training.engine import Engine
from jobs.training.learning_rate import learning_rate
from jobs.training.metrics import MetricsFiles
from jobs.training.rollback import diverged, may_go_back, rollback_warning
from jobs.training.summary import (
    Losses,
    early_stopping_event,
    finished,
    metrics_row,
    validation_event,
    write_training_state,
)

# What takes time between two steps.
VALIDATION, CHECKPOINT = "validation", "checkpoint"


class Trainer:
    """One attempt at one training job.

    Args:
        run: where everything is written.
        config: what to do.
        engine: the model with its adapter and optimizer, fresh from the seed.
        batches: of the run.
        best: the folder of the best adapter.
        baseline: returns the losses before training, by what it is given unless it knows them.
        versions: what computes, noted in every checkpoint.
        emit: takes every event.
        stop_reason: returns why to stop with a checkpoint, or None; asked before every step.
        ending: returns who wants the run to end early, with what it has reached; or None.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: TrainConfig,
        engine: Engine,
        batches: BatchPlan,
        best: BestAdapter,
        baseline: Callable[[Callable[[], Losses]], Losses],
        versions: dict[str, str],
        emit: Callable[[Event], None],
        stop_reason: Callable[[], str | None],
        ending: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.directory, self.config, self.engine, self.batches = run, config, engine, batches
        self.best, self.baseline, self.versions = best, baseline, versions
        self.emit, self.stop_reason, self.ending = emit, stop_reason, ending
        self.schedule = batches.schedule
        self.metrics = MetricsFiles(run)
        self.at = Position.start(config)
        self._started = self._row_started = time.monotonic()
        self._pace = Pace()

    def compute_as(self, batches: BatchPlan, versions: dict[str, str]) -> None:
        """Take the batches of another way of computing, before the first step."""
        self.batches, self.versions = batches, versions

    def resume(self, checkpoint: Checkpoint | None) -> int:
        """Go back to the newest whole checkpoint, if there is one; return its step, else 0.

        The best adapter and the metrics are taken back to that moment too: what came after it is
        trained again, with the same result.
        """
        if checkpoint is None:
            self.metrics.cut(0)
            self.best.clear()
            return 0
        self._restore(checkpoint)
        return self.at.step

    def run(self) -> Finished | None:
        """Train to the end or to an early stop; None when asked to stop, with a checkpoint saved.

        Raises:
            Diverged: a loss or an update was not finite.
            WorkspaceError: a file could not be written.
        """
        self._started = self._row_started = time.monotonic()
        if self.at.step == 0:
            self._begin()
        self._pace.start(self.at.step)
        while not self._is_over():
            try:
                if reason := self.stop_reason():
                    if self.at.step:
                        self._checkpoint(reason)
                    return None
                self._step()
                self._report()
            except Diverged as error:
                self._roll_back(error)
        return self.finish()

    def _begin(self) -> None:
        """Do what comes before step 1, unless a checkpoint of that moment says it is done."""
        if self.batches.validation_examples and self.at.baseline_val_loss is None:
            self._validate_baseline()
        if self.config.on_divergence == "rollback":
            self._checkpoint("the beginning, to go back to")

    def _is_over(self) -> bool:
        return self._has_ended() or self.ending() is not None

    def _has_ended(self) -> bool:
        return self.at.early_stopping.should_stop or self.at.step == self.schedule.total_steps

    def _step(self) -> None:
        pieces = self.batches.step(self.at.step + 1)
        self.at.count([piece.batch for piece in pieces])
        self.engine.step(pieces, self.at.step)
        if self.schedule.ends_update(self.at.step):
            self.engine.update(self.at.update_targets, self.learning_rate, self.at.step)
            self.at.end_update()

    def _report(self) -> None:
        step = self.at.step
        if step in self.schedule.validation_steps:
            self._validate()
        elif step % self.config.log_steps == 0 or step == self.schedule.total_steps:
            self._write_row()
        if step % self.config.save_steps == 0:
            self._checkpoint()
        if self._pace.is_due():
            left = self._pauses_left()
            self._pace.mark(step)
            self.emit(self._pace.report(step, self.schedule.total_steps, self.epoch, left))

    def _pauses_left(self) -> dict[str, int]:
        """Return how many validations and checkpoints are still to come."""
        step, every = self.at.step, self.config.save_steps
        validations = sum(due > step for due in self.schedule.validation_steps)
        checkpoints = self.schedule.total_steps // every - step // every
        return {VALIDATION: validations, CHECKPOINT: checkpoints}

    @property
    def learning_rate(self) -> float:
        """The rate of an update made now."""
        return learning_rate(self.config, self.schedule, self.at.step, self.at.rollbacks)

    @property
    def epoch(self) -> int:
        """The epoch of the current step, from 1."""
        return self.schedule.position(max(self.at.step, 1))[0] + 1

    @property
    def elapsed(self) -> float:
        """Seconds of training, validation and checkpoints, over all attempts."""
        return self.at.elapsed_before + time.monotonic() - self._started

    @property
    def peak_bytes(self) -> int:
        """The most memory of MLX's in use at once so far, over all attempts; it never falls."""
        return max(self.at.peak_bytes, self.engine.peak_bytes)

    @property
    def _row_seconds(self) -> float:
        """Seconds since the last metrics row, checkpoints left out."""
        return self.at.row_seconds + time.monotonic() - self._row_started

    def _measure(self) -> Losses:
        started = time.monotonic()
        valid = self.engine.measure(self.batches.validation)
        validated = time.monotonic()
        train = self.engine.measure(self.batches.train_slice)
        self._pace.paused(VALIDATION, time.monotonic() - started)
        return Losses(valid, train, time.monotonic() - started, validated - started)

    def _validate_baseline(self) -> None:
        """Measure before training: reported, and counted for nothing."""
        losses = self.baseline(self._measure_first)
        self.at.baseline_val_loss = losses.valid
        self._write_row(losses)
        self.emit(validation_event(self.epoch, self.at, losses, improved=False))

    def _measure_first(self) -> Losses:
        self.emit(PhaseBegan("measuring the losses before training"))
        return self._measure()

    def _validate(self) -> None:
        self._check_finite()
        losses = self._measure()
        step, epoch = self.at.step, self.epoch
        best = self.at.early_stopping.is_best(losses.valid)
        self.at.early_stopping = self.at.early_stopping.after(losses.valid, epoch, step)
        self.at.gaps = self.at.gaps.after(losses.gap, best=best)
        if best:
            self.best.save(self.engine.adapter)
        self._write_row(losses)
        self.emit(validation_event(epoch, self.at, losses, improved=best))
        if best:
            self.emit(BestModel(epoch, step, losses.valid, str(self.best.folder)))
        write_training_state(self.directory, epoch, self.at)

    def _write_row(self, losses: Losses | None = None) -> None:
        self._check_finite()
        at = self.at
        row = metrics_row(
            self.epoch,
            at,
            losses,
            loss=self.engine.take_loss() / at.row_targets if at.row_targets else None,
            learning_rate=self.learning_rate if at.step else None,
            grad_norm=scalar(self.engine.grad_norm) if at.update else None,
            seconds=self._row_seconds,
            memory_mb=self.peak_bytes / 1e6,
            elapsed=self.elapsed,
        )
        self.metrics.add(row)
        self.emit(row)
        at.start_row()
        self._row_started = time.monotonic()

    def _check_finite(self) -> None:
        """Wait for the device.

        Raises:
            Diverged: a step has gone wrong.
        """
        if bad := self.engine.bad_step():
            raise diverged(bad)

    def _roll_back(self, error: Diverged) -> None:
        """Go back to the last regular checkpoint, from now on with half the learning rate.

        A checkpoint of a stop is passed over, so that a run that was stopped ends like one that
        was not. The one gone back to is written again with the new count before the next step.

        Raises:
            Diverged: that is not wanted, was done twice already, or there is no such checkpoint.
        """
        may_go_back(self.config, self.at.rollbacks, error)
        rollbacks, elapsed, peak = self.at.rollbacks + 1, self.elapsed, self.peak_bytes
        checkpoint = newest_checkpoint(self.directory, self._warn, self.config.save_steps)
        if checkpoint is None:
            raise Diverged(f"{error.message} No checkpoint is left to go back to.") from error
        self._restore(checkpoint)
        self.at.rollbacks, self.at.elapsed_before = rollbacks, elapsed
        self.at.peak_bytes = peak
        self._started = self._row_started = time.monotonic()
        self._warn(rollback_warning(self.config, self.at.step, rollbacks, error))
        self._checkpoint("rolled back")
        self._pace.start(self.at.step)

    def _warn(self, text: str) -> None:
        self.emit(Warned(text))

    def _checkpoint(self, reason: str | None = None) -> None:
        self._check_finite()
        # A gradient may overflow while its loss does not, and would be saved inside an update.
        if not self.engine.sums_are_finite():
            raise diverged(self.at.step)
        started = time.monotonic()
        path = self.directory.checkpoint(self.epoch - 1, self.at.step)
        counters = self.at.as_dict() | {
            "elapsed_before": self.elapsed,
            "peak_bytes": self.peak_bytes,
            "row_seconds": self._row_seconds,
            "metrics_length": self.metrics.length,
        }
        best = self.best.weights if self.best.weights.exists() else None
        arrays = self.engine.adapter, self.engine.state()
        save_checkpoint(path, *arrays, best, counters, self.versions)
        keep, every = self.config.keep_checkpoints, self.config.save_steps
        prune_checkpoints(self.directory, keep, self.at.step, every)
        write_training_state(self.directory, self.epoch, self.at)
        self.at.row_seconds -= time.monotonic() - started
        self._pace.paused(CHECKPOINT, time.monotonic() - started)
        self.emit(CheckpointSaved(self.epoch, self.at.step, str(path), reason))

    def _restore(self, checkpoint: Checkpoint) -> None:
        try:
            self.at = Position.from_dict(checkpoint.counters)
            self.engine.restore(checkpoint.adapter(), checkpoint.state())
            self.metrics.cut(checkpoint.counters["metrics_length"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.path} does not fit this job's configuration: {error}"
            ) from error
        self.best.restore(checkpoint.best)
        changed = [name for name, v in self.versions.items() if checkpoint.versions.get(name) != v]
        if changed:
            names = ", ".join(changed)
            self._warn(f"Resuming with another {names}: results may differ in the bits.")

    def finish(self) -> Finished:
        """Write what a run leaves, and return how it ended; Diverged without any finite validation.

        One that ends early before its first validation is measured once, to leave an adapter.
        """
        self._check_finite()
        pruned_by = None if self._has_ended() else self.ending()
        if not self.batches.validation_examples:
            self.best.save(self.engine.adapter)
        elif pruned_by and self.at.step and not self.best.weights.exists():
            self._validate()
        if not self.best.weights.exists() and (self.at.step or not pruned_by):
            raise Diverged("No validation gave a finite loss, so there is no best adapter.")
        self.metrics.rewrite()
        write_training_state(self.directory, self.epoch, self.at)
        early = self.at.early_stopping
        if early.should_stop:
            self.emit(early_stopping_event(self.epoch, self.at))
        state = State.EARLY_STOPPED if early.should_stop or pruned_by else State.COMPLETED
        ended = finished(self.directory, self.best, self.at, state, self.elapsed, pruned_by)
        seconds = round(self.engine.compile_seconds, 1)
        return replace(ended, graphs=self.engine.traces, compile_seconds=seconds)
