"""What there is to tell in the morning, as values. Times are ISO 8601 in UTC, lengths seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from jobs.state import FINISHED_WELL, State
from jobs.verdict import NOT_LEARNED


@dataclass(frozen=True)
class JobOfNight:
    """A job that ran, or ended, in the time that is told of. Losses are nats per token.

    Attributes:
        kind: ``train`` or ``evaluate``; ``evaluates`` is then the training job.
        interrupted: its files say that it runs, and nothing runs it.
        overfitting_gap, gap_status: at the best validation, and what the training has come to.
        token_f1, exact_match: means from 0 to 1; None where nothing was evaluated.
        duration_seconds: that its attempts took; None where that is not known.
        reason: why it is where it is, in one line.
        lost: attempts that failed in this time, and that the job has gone on from, or not.
        measured_on: model and validation set: only losses with the same can be compared.
    """

    id: str
    preset: str
    kind: str
    state: State
    name: str | None = None
    evaluates: str | None = None
    sweep: str | None = None
    interrupted: bool = False
    attempt: int = 0
    step: int = 0
    total_steps: int | None = None
    best_val_loss: float | None = None
    overfitting_gap: float | None = None
    gap_status: str | None = None
    token_f1: float | None = None
    exact_match: float | None = None
    duration_seconds: float | None = None
    finished_at: str | None = None
    reason: str | None = None
    failure: str | None = None
    lost: int = 0
    measured_on: tuple[str, str] | None = None

    @property
    def ended_well(self) -> bool:
        """Whether it has ended as it should."""
        return self.state in FINISHED_WELL

    @property
    def learned(self) -> bool:
        """Whether it is a training with a best validation below the one before training."""
        return self.best_val_loss is not None and self.gap_status != NOT_LEARNED


@dataclass(frozen=True)
class SweepOfNight:
    """A sweep of which something was tried in this time.

    Attributes:
        tried, pruned, failed: trials that ended in this time, and how many of them were ended
            early, or failed.
        trials: that it has had in all.
        best: the number of its best trial so far; ``value`` is that trial's ``objective``.
        settings: what that trial tried, by the names of the settings.
        job: its best job, with gap and its word; None where there is no such trial.
    """

    id: str
    name: str
    state: State
    objective: str
    tried: int
    pruned: int
    failed: int
    trials: int
    best: int | None = None
    value: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    job: str | None = None
    overfitting_gap: float | None = None
    gap_status: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class WaitingJob:
    """A job that has not ended and does not run, and what it waits for.

    Attributes:
        interrupted: it is called running, and nothing runs it.
    """

    id: str
    state: State
    waits_for: str
    interrupted: bool = False

    @property
    def state_word(self) -> str:
        """The state, or that the job was interrupted."""
        return "interrupted" if self.interrupted else str(self.state)


@dataclass(frozen=True)
class IdleTime:
    """Time in which nothing ran, for one reason.

    Attributes:
        spans: from when to when, in order.
    """

    reason: str
    seconds: float
    spans: tuple[tuple[datetime, datetime], ...] = ()


@dataclass(frozen=True)
class Morning:
    """What became of the jobs between two moments.

    Attributes:
        jobs: that ran or ended, the last ended first, those under way before them.
        best: the best training of each model and validation set, of which something ended well.
        waiting: some of those that still wait, ``more_waiting`` are left out.
        held: why none of those that wait starts, in sentences.
        disk_free, disk_size: bytes of the workspace's disk.
        busy_seconds: in which some job ran.
        idle: the rest, without what lies between one job and the next, longest first.
        daemon_runs: the workspace's daemon runs now.
        queue_answers: what waits was read from Redis; else from the files of this workspace.
    """

    since: datetime
    until: datetime
    jobs: Sequence[JobOfNight]
    sweeps: Sequence[SweepOfNight]
    best: Sequence[JobOfNight]
    waiting: Sequence[WaitingJob]
    more_waiting: int
    held: Sequence[str]
    disk_free: int
    disk_size: int
    busy_seconds: float
    idle: Sequence[IdleTime]
    daemon_runs: bool
    queue_answers: bool

    @property
    def running(self) -> list[JobOfNight]:
        """The jobs that are under way."""
        return [job for job in self.jobs if job.state is State.RUNNING and not job.interrupted]

    @property
    def failed(self) -> list[JobOfNight]:
        """The jobs that failed; of trials that did, the line of their sweep tells."""
        return [job for job in self.jobs if job.state is State.FAILED and job.sweep is None]

    @property
    def idle_seconds(self) -> float:
        """How long nothing ran, beyond what lies between one job and the next."""
        return sum(idle.seconds for idle in self.idle)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready values."""
        values = {name: _with_texts(value) for name, value in asdict(self).items()}
        for job in [*values["jobs"], *values["best"]]:
            job.pop("measured_on")
        return {**values, "idle_seconds": self.idle_seconds}


def _with_texts(value: Any) -> Any:
    """Return a value with its moments as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _with_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_texts(item) for item in value]
    return value
