"""A training without MLX, for ``jobs.training.session``: what a job's name says, and it resumes.

It writes what a real one writes, by the same functions: events, metrics, checkpoints, summary. The
phases of a job named ``victim`` are long enough to be struck in.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from types import ModuleType

from jobs.errors import DataError, Diverged, FarenseError, WorkspaceError
from jobs.events import (
    BestModel,
    CheckpointSaved,
    Event,
    Failed,
    Finished,
    PrefixCached,
    Progress,
    Started,
    TrainMetrics,
    Validation,
)
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec
from jobs.state import State, now
from jobs.storage.files import read_json, write_atomic, write_json
from jobs.training.metrics import MetricsFiles
from tests.helpers.phase_notes import Notebook, Phase

STEPS = 8
STEPS_PER_ROUND = 4
FILLS = 6
CHECKPOINT_BYTES = 65_536
PAUSE_SECONDS = {"victim": 0.03}
SHORT_PAUSE_SECONDS = 0.002
NO_GOOD = "the data are no good"
BECAME_NAN = "the loss became NaN at step 6"

Stop = Callable[[], str | None]


def as_session(notes: Notebook) -> ModuleType:
    """Return a module to stand in ``jobs.training.session``'s place."""

    def train(
        workspace: Workspace,
        spec: JobSpec,
        emit: Callable[[Event], None],
        stop: Stop,
        splits: int = 0,
    ) -> Finished | None:
        return MadeUpTraining(workspace.run(spec.id), spec, emit, stop, notes).train()

    module = ModuleType("jobs.training.session")
    vars(module).update(train=train, write_failure=write_failure)
    return module


class MadeUpTraining:
    """One attempt."""

    def __init__(
        self,
        run: RunDirectory,
        spec: JobSpec,
        emit: Callable[[Event], None],
        stop: Stop,
        notes: Notebook,
    ) -> None:
        self.run, self.spec, self.emit, self.stop, self.notes = run, spec, emit, stop, notes
        self.behaviour = spec.name or ""
        self.metrics = MetricsFiles(run)
        self.step = 0

    def train(self) -> Finished | None:
        self.pause(5)
        self.resume()
        self.emit(self.started())
        self.notes.end(Phase.START)
        if not self.fill():
            return None
        while self.step < STEPS:
            if not self.steps():
                self.save("stopped")
                return None
            self.validate()
            self.save()
            if self.behaviour == "early":
                break
        return self.finish()

    def resume(self) -> None:
        """Go back to the newest whole checkpoint."""
        whole = [read_json(path) for path in self.run.path.glob("checkpoint_*/checkpoint.json")]
        newest = max(whole, key=lambda found: found["step"], default={"step": 0, "length": 0})
        self.metrics.cut(newest["length"])
        self.step = newest["step"]

    def fill(self) -> bool:
        with self.notes.during(Phase.FILL):
            for number in range(1, FILLS + 1):
                if self.stop():
                    return False
                write_atomic(self.run.path / "fill" / f"{number}.bin", os.urandom(4096))
                self.emit(PrefixCached("data", number, FILLS, 0.1, 0.1))
                self.pause(1)
        return True

    def steps(self) -> bool:
        with self.notes.during(Phase.STEPS):
            while True:
                if self.stop():
                    return False
                self.pause(1)
                self.step += 1
                self.misbehave()
                self.emit(Progress(self.step, STEPS, 1, 50.0, 0.1))
                self.metrics.add(self.row())
                if self.step % STEPS_PER_ROUND == 0:
                    return True

    def misbehave(self) -> None:
        if self.behaviour == "diverging" and self.step == 6:
            raise Diverged(BECAME_NAN)
        if self.behaviour == "refused":
            raise DataError(NO_GOOD)

    def validate(self) -> None:
        with self.notes.during(Phase.VALIDATION):
            self.pause(3)
            loss = 3.0 - self.step / STEPS
            self.emit(Validation(1, self.step, loss, loss - 0.1, 0.1, "BOM", True, 0, 5, 0.1))
            self.pause(2)
            self.emit(BestModel(1, self.step, loss, str(self.run.adapters)))
            self.metrics.rewrite()
            write_json(self.run.training_state, {"step": self.step})

    def save(self, reason: str | None = None) -> None:
        """Write a checkpoint, what makes it one last."""
        with self.notes.during(Phase.CHECKPOINT):
            path = self.run.checkpoint(0, self.step)
            write_atomic(path / "adapters.bin", os.urandom(CHECKPOINT_BYTES))
            self.pause(3)
            values = {"step": self.step, "length": self.metrics.length}
            write_json(path / "checkpoint.json", values)
            self.pause(2)
            self.emit(CheckpointSaved(1, self.step, str(path), reason))

    def finish(self) -> Finished:
        """Write the summary; this phase lasts as long as the process."""
        self.notes.begin(Phase.FINISH)
        self.pause(2)
        self.metrics.rewrite()
        state = State.EARLY_STOPPED if self.behaviour == "early" else State.COMPLETED
        write_json(self.run.summary, {"state": state, "reason": None})
        self.pause(2)
        losses = 2.0, 3.0, "BOM", 0.1, 0.1, 0.1
        outcome = Finished(str(state), self.step, 1, self.step, *losses, 1.0, "adapters", "")
        self.emit(outcome)
        self.pause(2)
        return outcome

    def pause(self, times: int) -> None:
        seconds = PAUSE_SECONDS.get(self.behaviour, SHORT_PAUSE_SECONDS)
        threading.Event().wait(times * seconds)

    def row(self) -> TrainMetrics:
        loss = 3.0 - self.step / STEPS
        head = 1, self.step, self.step, loss
        return TrainMetrics(*head, None, None, None, 1e-4, 1.0, 100.0, 10.0, 0.1, now())

    def started(self) -> Started:
        return Started(
            pid=os.getpid(),
            preset=self.spec.preset,
            model="tiny",
            device="none",
            total_steps=STEPS,
            config={},
            resumed_step=self.step,
            steps_per_epoch=STEPS,
            num_epochs=1,
            validations=2,
            train_examples=8,
            valid_examples=4,
            trainable_parameters=100,
        )


def write_failure(
    run: RunDirectory, spec: JobSpec, emit: Callable[[Event], None], error: Exception
) -> None:
    """Write the summary of a run that failed, and say so, as ``jobs.training.session`` does."""
    message = error.message if isinstance(error, FarenseError) else f"{error}"
    hint = error.hint if isinstance(error, FarenseError) else None
    reason = " ".join(filter(None, (message, hint)))
    with contextlib.suppress(WorkspaceError):
        write_json(run.summary, {"state": State.FAILED, "reason": reason})
    with contextlib.suppress(WorkspaceError):
        emit(Failed(0, type(error).__name__, reason))
