"""The live view of a job on a terminal: lines scroll above, progress stays below."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from jobs.console import Console
from jobs.events import (
    Envelope,
    EvaluationStarted,
    PhaseBegan,
    PrefixCached,
    Started,
    StoodStill,
    TrainMetrics,
    Validation,
)
from jobs.events import Progress as ProgressEvent
from jobs.storage.formatting import duration


class LiveView:
    """A progress bar with step, losses, speed and time left, below the lines of the job.

    The bar goes when the view ends; the lines stay.
    """

    def __init__(self, terminal: Terminal | None = None) -> None:
        self._lines = Console()
        self._total: int | None = None
        self._unit = "step"
        self._loss = self._val_loss = self._speed = self._left = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            console=terminal or Terminal(highlight=False),
            transient=True,
        )
        # No total yet: the bar moves to and fro until the job starts.
        self._task = self._progress.add_task("waiting", total=None, detail="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def add(self, envelope: Envelope) -> None:
        """Show one more event."""
        for line in self._lines.lines(envelope):
            self._progress.console.print(Text(line))
        match envelope.event:
            case PhaseBegan() as event:
                self._progress.update(
                    self._task, description=event.phase, completed=0, total=None, detail=""
                )
            case PrefixCached() as event:
                left = event.eta_seconds
                self._progress.update(
                    self._task,
                    description=f"computing prefix states {event.examples}/{event.total}",
                    completed=event.examples,
                    total=event.total,
                    detail=f"{duration(left)} left" if left is not None else "",
                )
            case Started() as event:
                self._move(event.resumed_step, event.total_steps)
            case EvaluationStarted() as event:
                self._unit = "answer"
                self._move(event.answered, event.answers)
            case StoodStill() as event:
                # What it did is no measure of what it does now.
                self._speed = self._left = ""
                self._move(event.step, word="interrupted" if event.interrupted else event.state)
            case ProgressEvent() as event:
                speed, left = event.steps_per_second, event.eta_seconds
                self._speed = f"{speed:.3g} {self._unit}s/s" if speed else ""
                self._left = f"{duration(left)} left" if left is not None else ""
                self._move(event.step, event.total_steps)
            case TrainMetrics() as event:
                if event.loss is not None:
                    self._loss = f"loss {event.loss:.4f}"
                self._move(event.step)
            case Validation() as event:
                self._val_loss = f"val {event.val_loss:.4f}"
                self._move(event.step)

    def _move(self, step: int, total: int | None = None, word: str = "") -> None:
        """Show how far the job has come; ``word``: what it is where it does not move."""
        self._total = total or self._total
        known = [
            part for part in (self._loss, self._val_loss, self._speed, self._left, word) if part
        ]
        at = f"{self._unit} {step}" + (f"/{self._total}" if self._total else "")
        self._progress.update(
            self._task,
            description=at if self._total or step else "waiting",
            completed=step,
            total=self._total,
            detail=" · ".join(known),
        )
