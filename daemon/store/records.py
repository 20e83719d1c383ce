"""The record of a job: what Redis knows of it, and what ``farense status`` shows.

A record is an index entry. The truth is in the run directory, and a lost record is made again from
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import IntEnum
from typing import Any

import orjson

from jobs.kinds import TRAINING, kind_in_id, kind_of
from jobs.paths import JOB_ID
from jobs.spec import JobSpec
from jobs.state import (
    DEFAULT_QUEUE,
    FINISHED,
    JobState,
    State,
    checked,
    is_history,
    now,
    seconds_between,
)
from jobs.storage.files import plain
from jobs.storage.values import well_typed
from jobs.verdict import Verdict, verdict


class Written(IntEnum):
    """What became of a compare-and-set."""

    MISSING = -1
    REFUSED = 0
    DONE = 1
    MOVED = 2
    """The log has been carried over up to another place than the one these lines start at."""


@dataclass(frozen=True)
class JobRecord:
    """A job and where it stands. Losses are nats per token; times are ISO 8601 in UTC.

    Attributes:
        run_dir: relative to the workspace.
        kind: ``train`` or ``evaluate``; an evaluation counts its answers as steps.
        evaluates: of an evaluation, the training job.
        token_f1, exact_match: the adapter's means, from 0 to 1: of an evaluation, and of a training
            whose adapter was evaluated (:mod:`daemon.as_shown`; of a training never stored).
        adapter: of a training, where its best adapter lies, relative to the workspace; None where
            it has none here. Of who shows it, never stored.
        attempt: executions so far; 0 before the first.
        started_at, attempt_started_at, ran_seconds: as in ``state.json``; ``finished_at`` is when
            the job came to its last state.
        epoch: from 1.
        loss: of the last logged training row.
        val_loss: of the last validation, the baseline before training included; of an evaluation,
            the adapter's.
        best_val_loss: the lowest after a step.
        baseline_val_loss: before training.
        overfitting_gap, gap_status: at the best step so far, with the verdict of the run
            (:mod:`jobs.verdict`).
        steps_per_second, eta_seconds: of steps, and until the last; None until known.
        phase: what a running job does that is no step: ``computing prefix states``; None while it
            steps. ``phase_done`` of ``phase_total`` are done, and ``phase_eta_seconds`` are left,
            where these are known.
        worker: ``host:pid`` of the daemon that holds the claim.
        pid: of the training child.
        home: the workspace that has the job's files (:mod:`daemon.runs.workspace_id`).
        queue: the name of the queue it stands on.
        checkpoint_step: of the newest checkpoint at its home; None where it has none there.
        lease_until: of the running attempt, in seconds of the server's clock.
        lease_seconds: how long that lease holds.
        schedule: not to be started before this moment.
        after: the job that is to end first, and ``after_any`` in which way.
        lost_attempts, splits: as in ``state.json``.
        pause_requested, kill_requested: what the user wants beside ``cancel_requested``.
        sweep, trial: of a trial, the id of its sweep and its number, from 0.
        prune_requested: who wants a running trial to end early (a pruner, or ``time``).
        pruned_by: who had it end early.
        reason: why the job is where it is, for a person.
        failure: the class of the last ending; None where it was not a failure.
        history: the attempts that failed, as in ``state.json``.
        interrupted: nothing runs it although it is ``running``; of who shows it
            (:mod:`daemon.standstill`), never stored as true.
    """

    id: str
    preset: str
    state: State
    run_dir: str
    kind: str = TRAINING.name
    evaluates: str | None = None
    name: str | None = None
    attempt: int = 0
    priority: int = 0
    created_at: str = ""
    started_at: str | None = None
    attempt_started_at: str | None = None
    ran_seconds: float | None = None
    finished_at: str | None = None
    updated_at: str | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    step: int = 0
    total_steps: int | None = None
    loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    baseline_val_loss: float | None = None
    overfitting_gap: float | None = None
    token_f1: float | None = None
    exact_match: float | None = None
    gap_status: str | None = None
    steps_per_second: float | None = None
    eta_seconds: float | None = None
    phase: str | None = None
    phase_done: int | None = None
    phase_total: int | None = None
    phase_eta_seconds: float | None = None
    worker: str | None = None
    pid: int | None = None
    home: str | None = None
    queue: str = DEFAULT_QUEUE
    checkpoint_step: int | None = None
    lease_until: float | None = None
    lease_seconds: float | None = None
    schedule: str | None = None
    after: str | None = None
    after_any: bool = False
    lost_attempts: int = 0
    splits: int = 0
    cancel_requested: bool = False
    pause_requested: bool = False
    kill_requested: bool = False
    sweep: str | None = None
    trial: int | None = None
    prune_requested: str | None = None
    pruned_by: str | None = None
    reason: str | None = None
    failure: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    adapter: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.state in FINISHED

    @property
    def duration_seconds(self) -> float | None:
        """How long its attempts have run on the clock (:meth:`jobs.state.JobState.ran_until`)."""
        until = self.updated_at if self.interrupted and self.updated_at else now()
        found = state_from(self).ran_until(until)
        if found is None and self.attempt == 1 and self.started_at and self.finished_at:
            # Of a job of an older version: it has had no pause.
            return max(0.0, seconds_between(self.started_at, self.finished_at))
        return found

    @property
    def verdict(self) -> Verdict | None:
        """What a training has come to so far; None where that cannot be said."""
        return verdict(
            baseline=self.baseline_val_loss,
            best=self.best_val_loss,
            gap=self.overfitting_gap,
            told=self.gap_status,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready values under the same names, and its duration."""
        values = {name: plain(value) for name, value in vars(self).items()}
        return {**values, "duration_seconds": self.duration_seconds}

    def follows(self, state: JobState) -> bool:
        """Tell whether the record says what ``state.json`` says."""
        return (self.state, self.attempt) == (state.state, state.attempt)


NAMES = frozenset(field.name for field in fields(JobRecord))
# What whoever shows a record finds out for itself.
NEVER_STORED = ("interrupted", "adapter")
COMPARED = ("state", "attempt")
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
# Only in these such a text stands for a number: a job may be called NaN.
NUMBERS = frozenset(field.name for field in fields(JobRecord) if "float" in str(field.type))


def record_of(spec: JobSpec, state: JobState) -> JobRecord:
    """Return the record of a job from ``job.json`` and ``state.json``, without its progress."""
    blank = JobRecord(
        id=spec.id,
        preset=spec.preset,
        state=state.state,
        run_dir=run_dir_of(spec.id),
        kind=spec.kind,
        evaluates=spec.evaluation.job if spec.evaluation else None,
        name=spec.name,
        created_at=spec.created_at,
        **kind_of(spec).length(spec),
        sweep=spec.sweep.sweep if spec.sweep else None,
        trial=spec.sweep.number if spec.sweep else None,
    )
    return replace(blank, **life(state))


def record_of_id(job_id: str, state: JobState) -> JobRecord:
    """Return the record of a job whose ``job.json`` is lost: what the id itself says of it."""
    day, time, stem, _ = job_id.split("-")
    try:
        created = datetime.strptime(f"{day}{time}+0000", "%Y%m%d%H%M%S%z").isoformat()
    except ValueError:
        created = ""
    kind, preset = kind_in_id(stem)
    blank = JobRecord(
        job_id, preset, state.state, run_dir_of(job_id), kind=kind.name, created_at=created
    )
    return replace(blank, **life(state))


def run_dir_of(job_id: str) -> str:
    """Return what a record calls the run directory of a job."""
    return f"checkpoints_qlora/{job_id}"


def life(state: JobState) -> dict[str, Any]:
    """Return the fields of a record that come from ``state.json``."""
    return {
        "state": state.state,
        "attempt": state.attempt,
        "priority": state.priority,
        "queue": state.queue,
        "schedule": state.schedule,
        "after": state.after,
        "after_any": state.after_any,
        "lost_attempts": state.lost_attempts,
        "splits": state.splits,
        "reason": state.reason,
        "failure": state.failure,
        "history": state.history,
        "updated_at": state.updated_at or None,
        "started_at": state.started_at,
        "attempt_started_at": state.attempt_started_at,
        "ran_seconds": state.ran_seconds,
        "finished_at": state.updated_at if state.state in FINISHED else None,
    }


# What a state and a record both have, under the same names.
SHARED = (
    "attempt",
    "lost_attempts",
    "priority",
    "schedule",
    "after",
    "after_any",
    "reason",
    "splits",
    "failure",
    "history",
    "queue",
    "started_at",
    "attempt_started_at",
    "ran_seconds",
)


def state_from(record: JobRecord, home: str | None = None) -> JobState:
    """Return what ``state.json`` is to say of a job that only its record is known of.

    Args:
        home: the workspace that has the job, where it is not the one of the file.
    """
    values = {name: getattr(record, name) for name in SHARED}
    return JobState(state=record.state, updated_at=now(), home=home, **values)


def to_hash(values: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the fields of a record as they stand in Redis: JSON, and empty for "not there"."""
    return {
        name: b"" if value is None else orjson.dumps(plain(value)) for name, value in values.items()
    }


def flat(values: Mapping[str, bytes]) -> list[Any]:
    """Return the fields of a hash as a script of the server takes them: name, value, name, ..."""
    return [part for pair in values.items() for part in pair]


def from_hash(values: Mapping[bytes, bytes]) -> JobRecord | None:
    """Return the record in a Redis hash, or None where it holds none that can be read."""
    try:
        known = {
            name: _number(name, orjson.loads(value))
            for key, value in values.items()
            if (name := key.decode()) in NAMES
        }
        for name in NEVER_STORED:
            known.pop(name, None)
        if not is_history(known.get("history", [])):
            return None
        # The scripts of the store compare these two as they stand there.
        if any(values[name.encode()] != orjson.dumps(known[name]) for name in COMPARED):
            return None
        record = JobRecord(**{**known, "state": State(known["state"])})
        if not well_typed(record) or not _names_a_run(record):
            return None
        # A lost `state.json` is made again from it, and has to be one.
        checked(state_from(record))
    except (ValueError, KeyError, TypeError):
        return None
    return record


def _names_a_run(record: JobRecord) -> bool:
    """Tell whether a record names a job and its folder: others would lead anywhere."""
    return bool(JOB_ID.fullmatch(record.id)) and record.run_dir == run_dir_of(record.id)


def _number(name: str, value: Any) -> Any:
    return float(value) if name in NUMBERS and value in NOT_FINITE else value


@dataclass(frozen=True)
class Claim:
    """The right to run a job for one attempt.

    Attributes:
        state: what was written into ``state.json`` when it was taken: should the file be damaged
            meanwhile, that is still known.
    """

    job_id: str
    attempt: int
    priority: int
    log_offset: int
    state: JobState = field(default_factory=lambda: JobState(State.RUNNING))
