"""What a job says while it runs: typed events, one schema for the job log and the Redis stream.

Every event has ``v`` (schema version), ``event``, ``job``, ``attempt`` and ``time`` (ISO 8601, UTC)
beside the fields of its class. Losses are nats per token; a missing value is null, one that is not
finite is the string ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import orjson

from jobs.storage.files import from_plain, plain
from jobs.storage.values import well_typed
from jobs.verdict import Verdict, verdict

SCHEMA = 1


@dataclass(frozen=True)
class Event:
    """Base of all events; ``kind`` is what stands under ``event``."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Started(Event):
    """The child has loaded model and data and is about to train (or goes on from a checkpoint).

    Attributes:
        adapted_layers: path of a layer within a block -> the blocks, from 0, where it is adapted.
        init_from: whose adapter it starts from: a job or a folder; None where it starts anew.
        valid_data: what people call the validation data: a file, or ``10% of train.jsonl``.
    """

    kind: ClassVar[str] = "started"
    pid: int
    preset: str
    model: str
    device: str
    total_steps: int
    steps_per_epoch: int
    num_epochs: int
    validations: int
    train_examples: int
    valid_examples: int
    trainable_parameters: int
    config: dict[str, Any]
    resumed_step: int = 0
    adapted_layers: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    valid_data: str | None = None


@dataclass(frozen=True)
class PrefixCached(Event):
    """States of the frozen blocks were computed and kept; sent about once a second, and at the end.

    Attributes:
        data: the data file's name.
        examples: of ``total`` examples, how many are done.
        megabytes: of all of them on disk.
        seconds: since the filling began, in this attempt.
        eta_seconds: for all data files of the job that are still to be filled; null until known.
    """

    kind: ClassVar[str] = "prefix_cached"
    data: str
    examples: int
    total: int
    megabytes: float
    seconds: float
    eta_seconds: float | None = None


@dataclass(frozen=True)
class PhaseBegan(Event):
    """The job does something for a while that is no step; what comes next says that it is over.

    Attributes:
        phase: what, for a person: ``compiling kernels``.
    """

    kind: ClassVar[str] = "phase"
    phase: str


@dataclass(frozen=True)
class Compiled(Event):
    """The graphs of the largest shapes are compiled and tried; those of others come as they come.

    Attributes:
        graphs: so far.
        seconds: that took, the trial steps included.
    """

    kind: ClassVar[str] = "compiled"
    graphs: int
    seconds: float


@dataclass(frozen=True)
class Progress(Event):
    """A job has come to ``step``; sent about once a second.

    An evaluation counts its answers as steps; they belong to no epoch, so to 0.

    Attributes:
        steps_per_second: of the last minute, without validations and checkpoints; null until known.
        eta_seconds: to the last step, with what comes between; null until known.
    """

    kind: ClassVar[str] = "progress"
    step: int
    total_steps: int
    epoch: int
    steps_per_second: float | None
    eta_seconds: float | None


@dataclass(frozen=True)
class TrainMetrics(Event):
    """A row of ``training_metrics.jsonl`` was written.

    Attributes:
        epoch: from 1.
        step: micro-batches so far in the run; 0 is the baseline before training.
        update: optimizer updates so far.
        loss: training loss (dropout on) over the tokens since the row before.
        train_eval_loss: loss of a fixed slice of the training set in eval mode.
        overfitting_gap: ``val_loss - train_eval_loss``, at the same weights.
        grad_norm: L2 norm of the last update's gradient.
        tokens_per_second: unpadded tokens processed a second of training time.
        memory_mb: MLX's peak memory so far, megabytes.
        elapsed_time_sec: training, validation and checkpoints of all attempts so far.
        rollbacks: how often the run has diverged and gone back, with half the learning rate.
    """

    kind: ClassVar[str] = "train_metrics"
    epoch: int
    step: int
    update: int
    loss: float | None
    val_loss: float | None
    train_eval_loss: float | None
    overfitting_gap: float | None
    learning_rate: float | None
    grad_norm: float | None
    tokens_per_second: float | None
    memory_mb: float
    elapsed_time_sec: float
    timestamp: str
    rollbacks: int = 0


@dataclass(frozen=True)
class Validation(Event):
    """The validation set was measured; ``step`` 0 is the baseline, which counts for nothing.

    Attributes:
        gap_status: the word of :func:`jobs.verdict.verdict` for this validation; null before the
            first step, and where its loss is not finite.
        improved: it is the lowest so far, and its adapter was kept.
        without_improvement: validations since the last that counted for patience; above 0 beside
            ``improved`` where the gain is no more than ``early_stopping_min_delta``.
        seconds: for the validation loss (``valid_seconds``) and that of the training slice.
    """

    kind: ClassVar[str] = "validation"
    epoch: int
    step: int
    val_loss: float
    train_eval_loss: float
    overfitting_gap: float
    gap_status: str | None
    improved: bool
    without_improvement: int
    patience: int | None
    seconds: float
    valid_seconds: float | None = None
    baseline_val_loss: float | None = None


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint is complete on disk."""

    kind: ClassVar[str] = "checkpoint_saved"
    epoch: int
    step: int
    path: str
    reason: str | None = None


@dataclass(frozen=True)
class BestModel(Event):
    """A validation was lower than all before it, and its adapter was saved."""

    kind: ClassVar[str] = "best_model"
    epoch: int
    step: int
    val_loss: float
    path: str


@dataclass(frozen=True)
class StoppedEarly(Event):
    """``patience`` validations brought no improvement; training ends here."""

    kind: ClassVar[str] = "early_stopping"
    epoch: int
    step: int
    best_epoch: int
    best_step: int
    best_val_loss: float
    patience: int


@dataclass(frozen=True)
class Warned(Event):
    """Something a person should know; training goes on."""

    kind: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True)
class StoodStill(Event):
    """A job that is watched does not move; said by who watches it, and in no log.

    Attributes:
        state: of the job.
        interrupted: it is ``running``, and nothing runs it.
        message: why it does not move, and what to do, for a person.
    """

    kind: ClassVar[str] = "standstill"
    step: int
    state: str
    interrupted: bool
    message: str


@dataclass(frozen=True)
class Finished(Event):
    """The job ended well, as ``completed`` or ``early_stopped``.

    Attributes:
        gap_status: the word of :func:`jobs.verdict.verdict`; null where there is no verdict.
        gap_note: what else there is to know of it, in a sentence; null where nothing is.
        best_gap: gap at the best step.
        mean_gap, max_gap, min_gap: over all validations but the baseline; null without validation.
        pruned_by: who had a trial of a sweep end early: a pruner's name, or ``time``.
        graphs: how many were compiled in the last attempt, one for each shape on each lane.
        compile_seconds: what that took: tracing, and the trial of the largest shapes.
    """

    kind: ClassVar[str] = "finished"
    state: str
    step: int
    best_epoch: int | None
    best_step: int | None
    best_val_loss: float | None
    baseline_val_loss: float | None
    gap_status: str | None
    mean_gap: float | None
    max_gap: float | None
    min_gap: float | None
    elapsed_time_sec: float
    adapters: str
    run_dir: str
    best_gap: float | None = None
    gap_note: str | None = None
    rollbacks: int = 0
    pruned_by: str | None = None
    graphs: int | None = None
    compile_seconds: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the run came to; that of an older log is judged as a new one is."""
        return verdict(
            baseline=self.baseline_val_loss,
            best=self.best_val_loss,
            gap=self.best_gap,
            told=self.gap_status,
        )


@dataclass(frozen=True)
class EvaluationStarted(Event):
    """The child has loaded everything and is about to ask its questions (or goes on asking).

    Attributes:
        evaluates: the training job.
        answers: how many there will be: the adapter's and the base model's.
        answered: of these, how many earlier attempts have.
        max_new_tokens: of an answer.
        batch_size: questions at a time.
    """

    kind: ClassVar[str] = "evaluation_started"
    pid: int
    preset: str
    evaluates: str
    model: str
    device: str
    questions: int
    answers: int
    answered: int
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Evaluated(Event):
    """An evaluation ended well: what the adapter's answers are worth.

    Attributes:
        evaluates: the training job.
        token_f1, exact_match, rouge_l, chrf: means over the questions, from 0 to 1.
        val_loss: of the adapter, nats per token; ``perplexity`` is its exponential.
        cut: answers that came to ``max_new_tokens`` before their end.
        scores: of ``adapter``, ``base`` and their difference, ``gain``: each score's ``mean``, and
            its 95% bootstrap interval, ``low`` to ``high``.
        base_val_loss: of the model without the adapter.
        folder: with the report and all answers.
    """

    kind: ClassVar[str] = "evaluated"
    state: str
    evaluates: str
    questions: int
    token_f1: float
    exact_match: float
    rouge_l: float
    chrf: float
    val_loss: float
    perplexity: float
    base_val_loss: float
    cut: int
    scores: dict[str, Any]
    elapsed_time_sec: float
    folder: str


@dataclass(frozen=True)
class Failed(Event):
    """The job ended without a result; ``error`` is the class, ``reason`` the text for a person."""

    kind: ClassVar[str] = "failed"
    step: int
    error: str
    reason: str


EVENTS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        Started, PrefixCached, PhaseBegan, Compiled, Progress, TrainMetrics, Validation,
        CheckpointSaved, BestModel, StoppedEarly, Warned, StoodStill, Finished,
        EvaluationStarted, Evaluated, Failed,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Envelope:
    """An event with the job, attempt and time it belongs to."""

    event: Event
    job: str
    attempt: int
    time: str

    def as_dict(self) -> dict[str, Any]:
        """Return the flat object that stands in the job log."""
        head = {"v": SCHEMA, "event": self.event.kind, "job": self.job}
        values = {**head, "attempt": self.attempt, "time": self.time, **asdict(self.event)}
        return {key: plain(value) for key, value in values.items()}


def parse_event(line: bytes) -> Envelope | None:
    """Return the event in a line of a job log, or None where the line does not fit the schema."""
    try:
        values = from_plain(orjson.loads(line))
        kind = EVENTS[values["event"]]
        names = {field.name for field in fields(kind)}
        event = kind(**{key: value for key, value in values.items() if key in names})
        envelope = Envelope(event, values["job"], values["attempt"], values["time"])
    except (ValueError, KeyError, TypeError):
        return None
    return envelope if well_typed(event) and well_typed(envelope) else None
