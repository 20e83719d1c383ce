"""One of two runs that are compared: its figures, and what is known of how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jobs.compare.curve import Curve, curve_of, number, whole
from jobs.config.config import config_from
from jobs.errors import ConfigError, JobFailed
from jobs.evaluation.scores import METRICS
from jobs.model_store.folder import same_model
from jobs.past_run import PastRun
from jobs.paths import RunDirectory
from jobs.spec import DataFile
from jobs.state import FINISHED, FINISHED_WELL, JobState, State, now, read_state
from jobs.storage.files import sha256_of

DIVERGED, OUT_OF_MEMORY = "diverged", "out_of_memory"
# What a summary says of an ending whose class the daemon has not written down.
ERRORS = {"Diverged": DIVERGED, "OutOfMemory": OUT_OF_MEMORY}
# What a loss per token depends on, beside the adapter.
MEASURED_BY = ("prompt_format", "chat_template", "thinking", "mask_prompt", "max_seq_length")
# What runs of older versions, which had no such settings, were trained with.
BEFORE = {"chat_template": None, "thinking": "off"}


@dataclass(frozen=True)
class Side:
    """A run.

    Attributes:
        name: the id of the job, or the name of the folder.
        folder: where it lies.
        made_by_farense: its spec is there, so its settings and data are known for certain.
        preset: that it was made from.
        state: of the job; None of an older run.
        reason: why it is so.
        failure: the class of its last ending, where that was a failure.
        failed_attempts: the classes of the attempts that failed, oldest first.
        total_steps: that it was to have.
        config: its settings as plain data; empty where they are not known.
        model_fingerprint: identifies the base model; empty where it is not known.
        train: its training set, where it is known.
        valid: its validation set; None where it has none, or where it is not known.
        curve: losses and gap.
        rollbacks: how often it diverged and went back.
        has_adapter: whether there is an adapter to use.
        scores: means of the scores over all questions, by their names; empty where it was not
            evaluated.
        questions: how many were asked.
        ignore_accents: whether accents made no difference to the scores.
        outdated: the adapter is another one than the one that was evaluated.
        missing: what is not there, a sentence each.
        interrupted: it is called running, and nothing runs it.
        duration_seconds: how long its attempts have run on the clock; None where it is not known.
    """

    name: str
    folder: str
    made_by_farense: bool
    preset: str | None
    state: State | None
    reason: str | None
    failure: str | None
    failed_attempts: tuple[str, ...]
    total_steps: int | None
    config: dict[str, Any]
    model_fingerprint: str
    train: DataFile | None
    valid: DataFile | None
    curve: Curve
    rollbacks: int
    has_adapter: bool
    scores: dict[str, float]
    questions: int
    ignore_accents: bool | None
    outdated: bool
    missing: tuple[str, ...]
    interrupted: bool = False
    duration_seconds: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come; so with every run whose state is not known."""
        return self.state is None or self.state in FINISHED

    @property
    def ended_well(self) -> bool:
        """Whether it is known to have ended as it should."""
        return self.state in FINISHED_WELL

    @property
    def ending(self) -> str:
        """How it stands, as the end of a sentence that begins with its name."""
        return "failed" if self.state is State.FAILED else f"is {self.state_word}"

    @property
    def state_word(self) -> str:
        """The state, or that the run was interrupted."""
        return "interrupted" if self.interrupted else str(self.state)

    @property
    def usable(self) -> bool:
        """Whether it can have an adapter to use; of an older run nobody knows where that lies."""
        return self.has_adapter or not self.made_by_farense


def measured_otherwise(a: Side, b: Side) -> tuple[str, ...]:
    """Return the settings by which the losses of two runs do not compare.

    None are known of a run whose settings are not known.
    """
    if not (a.config and b.config):
        return ()
    other = other_tokens(a.config, b.config)
    return ("model", *other) if _has_other_model(a, b) else other


def other_tokens(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings by which the losses of two configs are means over other tokens."""
    x, y = {**BEFORE, **a}, {**BEFORE, **b}
    return tuple(key for key in MEASURED_BY if x.get(key) != y.get(key))


def _has_other_model(a: Side, b: Side) -> bool:
    if a.model_fingerprint and b.model_fingerprint:
        return not same_model(a.model_fingerprint, b.model_fingerprint)
    return bool(a.config.get("model") != b.config.get("model"))


def side_of(run: PastRun) -> Side:
    """Return what is known of a run, from what was read and from the files beside it."""
    (config, problem), spec, state = _settings(run), run.spec, _state(run)
    curve = curve_of(run.rows, number(config, "early_stopping_min_delta") or 0.0, run.kept_step)
    # Of the summary, which a report shows: the last row was written a little earlier.
    curve = replace(curve, seconds=run.training_seconds)
    report, rows = run.report or {}, run.rows
    means = {metric: number(report, metric) for metric in METRICS}
    accents = report.get("ignore_accents")
    return Side(
        name=run.name,
        folder=str(run.directory.path),
        made_by_farense=spec is not None,
        preset=None if spec is None else spec.preset,
        state=state.state if state else run.told_state,
        reason=(state.reason if state else None) or _text(run.summary.get("reason")),
        failure=(state and state.failure) or ERRORS.get(str(run.summary.get("error"))),
        failed_attempts=tuple(str(e.get("class")) for e in state.history) if state else (),
        total_steps=None if spec is None else spec.total_steps,
        config=config,
        model_fingerprint="" if spec is None else spec.model_fingerprint,
        train=None if spec is None else spec.train,
        valid=None if spec is None else spec.valid,
        curve=curve,
        rollbacks=(whole(rows[-1], "rollbacks") or 0) if rows else 0,
        has_adapter=run.directory.adapter_weights.is_file(),
        scores={name: mean for name, mean in means.items() if mean is not None},
        questions=whole(report, "questions") or 0,
        ignore_accents=accents if isinstance(accents, bool) else None,
        outdated=_is_outdated(run.directory, report.get("adapter_sha256")),
        missing=(*run.missing, *problem),
        interrupted=run.interrupted,
        duration_seconds=state.ran_until(run.heard_at or now()) if state else None,
    )


def _settings(run: PastRun) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings of a run, what is newer than the run at its default; and what is wrong.

    Settings that are none of farense's are as good as none.
    """
    if not run.config:
        return {}, ()
    try:
        return config_from(run.config, "its settings").model_dump(mode="json"), ()
    except ConfigError as error:
        return {}, (f"its settings cannot be read: {' '.join(error.message.split())}",)


def _state(run: PastRun) -> JobState | None:
    try:
        return read_state(run.directory)
    except JobFailed:
        return None


def _is_outdated(directory: RunDirectory, evaluated: object) -> bool:
    if not isinstance(evaluated, str) or not directory.adapter_weights.is_file():
        return False
    return sha256_of(directory.adapter_weights) != evaluated


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
