"""Runs made of losses alone, told by the functions that tell of a training: no model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from jobs.config.config import config_from
from jobs.events import Envelope, Event, Failed, Finished, Validation
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import JobState, State, write_state
from jobs.storage.files import read_json, write_json
from jobs.training.best_adapter import BestAdapter
from jobs.training.counters import Position
from jobs.training.metrics import MetricsFiles
from jobs.training.summary import Losses, finished, metrics_row, validation_event, write_summary
from tests.helpers.runs import make_run

EVERY = 5


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        baseline: the losses before training, of validation and training set; None without data to
            validate on.
        validations: the same after each ``EVERY`` steps.
        state: that it is in.
        old: it is of a time when files knew of no loss before training.
    """

    baseline: tuple[float, float] | None
    validations: Sequence[tuple[float, float]] = ()
    state: State = State.COMPLETED
    old: bool = False


def told_run(workspace: Workspace, model: Path, letters: str, course: Course) -> RunDirectory:
    """Return the run directory, with the log, that a training of such a course leaves."""
    job_id = f"20261122-210000-tiny-{letters}"
    valid = None if course.baseline is None else 5
    run = make_run(workspace, model, job_id, valid=valid)
    spec = read_spec(run)
    at = Position.start(config_from(spec.config, "test"))
    files, best = MetricsFiles(run), BestAdapter(run.adapters, {})
    said: list[Event] = []

    def tell(losses: Losses, *, improved: bool) -> None:
        row = metrics_row(
            1, at, losses, loss=losses.train, learning_rate=1e-3, grad_norm=1.0, seconds=1.0,
            memory_mb=100.0, elapsed=float(at.step),
        )  # fmt: skip
        files.add(row)
        said.append(row)
        said.append(validation_event(1, at, losses, improved=improved))

    if course.baseline is not None and not course.old:
        at.baseline_val_loss = course.baseline[0]
        tell(Losses(*course.baseline, seconds=1.0, valid_seconds=1.0), improved=False)
    for valid_loss, train_loss in course.validations:
        at.step += EVERY
        losses = Losses(valid_loss, train_loss, seconds=1.0, valid_seconds=1.0)
        improved = at.early_stopping.is_best(valid_loss)
        at.early_stopping = at.early_stopping.after(valid_loss, 1, at.step)
        at.gaps = at.gaps.after(losses.gap, best=improved)
        tell(losses, improved=improved)
    files.rewrite()
    if course.state in (State.COMPLETED, State.EARLY_STOPPED):
        run.adapters.mkdir()
        run.adapter_weights.write_bytes(b"an adapter")
        said.append(finished(run, best, at, course.state, elapsed=10.0))
    elif course.state is State.FAILED:
        said.append(Failed(at.step, "Diverged", "the loss became NaN"))
    outcome = said[-1] if said else None
    if isinstance(outcome, Finished | Failed):
        write_summary(run, outcome, spec, {})
    if course.old:
        said = [_as_it_was(event) for event in said]
        _forget(run)
    log = workspace.job_log(job_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        Envelope(event, job_id, 1, f"2026-11-22T21:00:{n:02}Z") for n, event in enumerate(said)
    ]
    log.write_bytes(b"".join(orjson.dumps(line.as_dict()) + b"\n" for line in lines))
    write_state(run, JobState(course.state, attempt=1, updated_at="2026-11-22T21:10:00+00:00"))
    return run


def _as_it_was(event: Event) -> Event:
    return replace(event, baseline_val_loss=None) if isinstance(event, Validation) else event


def _forget(run: RunDirectory) -> None:
    summary = read_json(run.summary)
    for key in ("baseline_val_loss", "gap_note"):
        del summary[key]
    write_json(run.summary, summary)
