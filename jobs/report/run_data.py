"""What the rows of a run say, as numbers to draw and to tell: pure, and content with damaged rows.

Rows come from a run under way, one that failed, or another program: a value may be missing, no
number, or not finite.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field

from jobs.compare.curve import best_of
from jobs.errors import JobFailed
from jobs.past_run import PastRun, Row
from jobs.state import FINISHED, JobState, State, now, read_state
from jobs.storage.values import finite, number
from jobs.verdict import Verdict, verdict, word_of

# Beyond this a number is drawn like one that is not finite.
DRAWN = 1e30


@dataclass(frozen=True)
class Series:
    """A measure over the steps of a run.

    Attributes:
        steps, values: of the rows that have it; the values are finite.
        odd: the steps at which it was NaN or infinite.
    """

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    odd: list[float] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.steps or self.odd)

    @property
    def last(self) -> float | None:
        """The newest finite value."""
        return self.values[-1] if self.values else None

    @property
    def highest(self) -> float | None:
        """The highest finite value."""
        return max(self.values, default=None)

    @property
    def median(self) -> float | None:
        """The middle value, the upper one of two."""
        return sorted(self.values)[len(self.values) // 2] if self.values else None


@dataclass(frozen=True)
class BestPoint:
    """The best validation of a run.

    Attributes:
        gap: None where nothing tells of it.
        baseline: the validation loss before training; None where none is known.
        rough: the gap rests on the loss of mini-batches, with dropout on, as ``farense compare``
            says it (:func:`jobs.compare.curve.best_of`).
    """

    step: float
    loss: float
    gap: float | None
    rough: bool = False
    baseline: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the run has come to; None where no gap is known."""
        return verdict(baseline=self.baseline, best=self.loss, gap=self.gap)

    @property
    def status(self) -> str | None:
        """The word of the verdict."""
        return word_of(self.verdict)

    @property
    def short(self) -> str | None:
        """The word, with what it needs beside it: that the gap is rough, or far below 0."""
        found = self.verdict
        if found is None or not found.learned:
            return self.status
        return f"{found.word} (rough)" if self.rough else found.short

    @property
    def note(self) -> str | None:
        """What else there is to know, a sentence; that a rough gap is low means nothing."""
        found = self.verdict
        return None if found is None or (self.rough and found.learned) else found.note


@dataclass(frozen=True)
class Measured:
    """A run with what its rows say.

    Attributes:
        state: None of a folder that farense did not make.
        reason: why it is in that state, where there is something to say.
        job: its ``state.json``, with the times of the job; None where there is none.
    """

    run: PastRun
    state: State | None
    reason: str | None
    job: JobState | None = None

    def series(self, key: str) -> Series:
        """Return a measure, a key of the rows, over the steps."""
        found = Series()
        for place, row in enumerate(self.run.rows):
            value = number(row.get(key))
            if value is None:
                continue
            step = _step(row, place)
            if abs(value) < DRAWN:
                found.steps.append(step)
                found.values.append(value)
            else:
                found.odd.append(step)
        return found

    @property
    def validations(self) -> Series:
        """The validation losses, without the baseline before training."""
        every = self.series("val_loss")
        kept = [(s, v) for s, v in zip(every.steps, every.values, strict=True) if s > 0]
        return Series(
            [step for step, _ in kept],
            [value for _, value in kept],
            [step for step in every.odd if step > 0],
        )

    @property
    def baseline(self) -> float | None:
        """The validation loss before training."""
        every = self.series("val_loss")
        return every.values[0] if every.steps and every.steps[0] == 0 else None

    @property
    def best(self) -> BestPoint | None:
        """The validation whose adapter was kept; None before the first finite one."""
        summary, found, before = self.run.summary, self._found, self.baseline
        if before is None:
            before = finite(summary.get("baseline_val_loss"))
        step, loss = finite(summary.get("best_step")), finite(summary.get("best_val_loss"))
        if step is None or loss is None:
            return found
        told = finite(summary.get("best_gap"))
        if told is not None and self.run.spec is not None:
            return BestPoint(step, loss, told, baseline=before)
        if found is not None and found.step == step and found.gap is not None:
            return BestPoint(step, loss, found.gap, found.rough, before)
        # How another program measured it is not known.
        return BestPoint(step, loss, told, told is not None, before)

    @property
    def last_step(self) -> float:
        """The newest step there is a row of; 0 before the first."""
        steps = [_step(row, place) for place, row in enumerate(self.run.rows)]
        return max(steps, default=0)

    @property
    def total_steps(self) -> int | None:
        """The steps it was planned to have."""
        return self.run.spec.total_steps if self.run.spec else None

    @property
    def steps_per_epoch(self) -> int | None:
        """Micro-batches in a pass over the training data; None where it is not known."""
        batch = finite(self.run.config.get("batch_size"))
        if self.run.spec is None or not batch or batch < 1:
            return None
        return math.ceil(self.run.spec.train.examples / batch) or None

    @property
    def started_at(self) -> str | None:
        """When the job's first attempt began."""
        return self.job.started_at if self.job else None

    @property
    def finished_at(self) -> str | None:
        """When the job ended."""
        return self.job.updated_at if self.job and self.job.finished else None

    @property
    def duration_seconds(self) -> float | None:
        """How long its attempts have run on the clock, as ``farense status`` has it."""
        return self.job.ran_until(self.run.heard_at or now()) if self.job else None

    @property
    def training_seconds(self) -> float | None:
        """What steps, validations and checkpoints took so far, over all attempts."""
        return self.run.training_seconds

    @property
    def broken_off(self) -> str | None:
        """How it was ended before its last step; None where it was not, or goes on."""
        ends = {
            State.EARLY_STOPPED: "stopped early",
            State.FAILED: "failed",
            State.CANCELLED: "cancelled",
        }
        # While a job plots its own end, its state still says that it runs.
        told = self.run.told_state if self.state is State.RUNNING else self.state
        return None if told is None else ends.get(told)

    @property
    def _found(self) -> BestPoint | None:
        """The best validation as the rows have it."""
        rows = [{**row, "step": _step(row, place)} for place, row in enumerate(self.run.rows)]
        best = best_of(rows, self.run.kept_step)
        if best is None or best.step is None or best.val_loss >= DRAWN:
            return None
        return BestPoint(best.step, best.val_loss, best.gap, best.rough, best.baseline)


def measured(run: PastRun) -> Measured:
    """Return a run with what its rows say, and the state that it is in."""
    job: JobState | None = None
    if run.spec is not None:
        with suppress(JobFailed):
            job = read_state(run.directory)
    state, reason = (job.state, job.reason) if job else (run.told_state, None)
    because = run.summary.get("reason")
    if reason is None and state in (None, *FINISHED) and isinstance(because, str):
        # Of a job that runs again it is the reason of an ending before.
        reason = because
    return Measured(run, state, reason, job)


def _step(row: Row, place: int) -> float:
    step = finite(row.get("step"))
    return float(place + 1) if step is None else step
