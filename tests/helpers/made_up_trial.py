"""A trial without MLX, for ``jobs.training.session``: its losses follow from its learning rate.

The nearer to :data:`BEST` the lower they are, at each validation as at the end. It writes what a
real one writes, by the same functions, resumes, and ends early where it is asked to.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from types import ModuleType

from jobs.errors import DataError
from jobs.events import (
    BestModel,
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Progress,
    Started,
    Validation,
)
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec
from jobs.state import State
from jobs.storage.files import read_json, write_json
from jobs.training.metrics import MetricsFiles
from tests.helpers.made_up_adapter import put_made_up_adapter
from tests.helpers.made_up_training import write_failure

VALIDATIONS = 6
BEST = 1e-3
# A rank that no trial survives.
FAILING_RANK = 13

Emit = Callable[[Event], None]
Asked = Callable[[], str | None]


def as_session(pace: float) -> ModuleType:
    """Return a module for the place of ``jobs.training.session``, and for the evaluation's."""

    def train(
        workspace: Workspace,
        spec: JobSpec,
        emit: Emit,
        stop: Asked,
        splits: int = 0,
        ending: Asked = lambda: None,
    ) -> Finished | None:
        run = workspace.run(spec.id)
        return MadeUpTrial(run, spec, emit, stop, ending, pace).train()

    def evaluate(
        workspace: Workspace, spec: JobSpec, emit: Emit, stop: Asked, splits: int = 0
    ) -> Evaluated:
        return evaluated(workspace.run(spec.id), spec, emit)

    module = ModuleType("jobs.training.session")
    vars(module).update(train=train, evaluate=evaluate, write_failure=write_failure)
    return module


def loss_at(learning_rate: float, number: int) -> float:
    """Return the validation loss of a learning rate at its ``number``-th validation, from 1."""
    return 2.0 + abs(math.log10(learning_rate / BEST)) + 1.0 / number


class MadeUpTrial:
    """One attempt."""

    def __init__(
        self, run: RunDirectory, spec: JobSpec, emit: Emit, stop: Asked, ending: Asked, pace: float
    ) -> None:
        self.run, self.spec, self.emit = run, spec, emit
        self.stop, self.ending, self.pace = stop, ending, pace
        self.learning_rate = float(spec.config["learning_rate"])
        self.metrics = MetricsFiles(run)

    def train(self) -> Finished | None:
        if self.spec.config["lora"]["rank"] == FAILING_RANK:
            raise DataError("this rank is no good")
        done = self.resumed()
        self.emit(self.started(done))
        while done < VALIDATIONS and self.ending() is None:
            if self.stop():
                return None
            threading.Event().wait(self.pace)
            done += 1
            self.validate(done)
            self.save(done)
        return self.finish(done)

    def resumed(self) -> int:
        """Return how many validations the newest checkpoint has behind it."""
        whole = [read_json(path) for path in self.run.path.glob("checkpoint_*/checkpoint.json")]
        return max((int(found["step"]) for found in whole), default=0)

    def validate(self, number: int) -> None:
        loss = loss_at(self.learning_rate, number)
        self.emit(Progress(number, VALIDATIONS, 1, 1.0, 1.0))
        self.emit(Validation(1, number, loss, loss - 0.1, 0.1, "BOM", True, 0, 5, 0.1))
        put_made_up_adapter(self.run)
        self.emit(BestModel(1, number, loss, str(self.run.adapters)))

    def save(self, number: int) -> None:
        path = self.run.checkpoint(0, number)
        write_json(path / "checkpoint.json", {"step": number})
        self.emit(CheckpointSaved(1, number, str(path)))

    def finish(self, done: int) -> Finished:
        pruned_by = self.ending() if done < VALIDATIONS else None
        state = State.EARLY_STOPPED if pruned_by else State.COMPLETED
        write_json(self.run.summary, {"state": state, "reason": None, "pruned_by": pruned_by})
        loss = loss_at(self.learning_rate, done) if done else None
        outcome = Finished(
            str(state), done, 1, done, loss, 9.0, "BOM", 0.1, 0.1, 0.1, 1.0, "adapters", "",
            pruned_by=pruned_by,
        )  # fmt: skip
        self.emit(outcome)
        return outcome

    def started(self, resumed: int) -> Started:
        return Started(
            pid=os.getpid(),
            preset=self.spec.preset,
            model="tiny",
            device="none",
            total_steps=VALIDATIONS,
            steps_per_epoch=VALIDATIONS,
            num_epochs=1,
            validations=VALIDATIONS,
            train_examples=8,
            valid_examples=4,
            trainable_parameters=100,
            config={},
            resumed_step=resumed,
        )


def evaluated(run: RunDirectory, spec: JobSpec, emit: Emit) -> Evaluated:
    """Write what an evaluation leaves; its token F1 falls as the loss of the training rises."""
    f1 = 1.0 / loss_at(float(spec.config["learning_rate"]), VALIDATIONS)
    write_json(run.summary, {"state": State.COMPLETED, "reason": None})
    trained = spec.evaluation.job if spec.evaluation else ""
    outcome = Evaluated(
        str(State.COMPLETED), trained, 4, f1, f1, f1, f1, 2.0, 7.4, 3.0, 0, {}, 0.5, "evaluation"
    )
    emit(outcome)
    return outcome
