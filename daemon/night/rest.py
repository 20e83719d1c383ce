"""Rests of the machine: when a child has run for long enough. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from daemon.night.settings import Rest
from jobs.events import Envelope, EvaluationStarted, Progress, Started, TrainMetrics
from jobs.storage.formatting import local_time

# Between two looks into the log of a child that has not taken a step yet.
LOOK_SECONDS = 2.0


class RestWatch:
    """Tells when a child is to stop for a rest.

    Not before it has come further than it began: with a short time and a long start it would rest
    for ever.

    Args:
        rest: None: children run for as long as their jobs do.
        begun: when the child was started, in seconds of a clock that only goes forward.
        stepped: tells whether it has come further (:func:`has_stepped`).
    """

    def __init__(self, rest: Rest | None, begun: float, stepped: Callable[[], bool]) -> None:
        self._stepped = stepped
        self._look_at = None if rest is None else begun + rest.after_minutes * 60
        self._due = False

    def due(self, now: float) -> bool:
        """Tell whether the child is to stop; once so, always so."""
        if not self._due and self._look_at is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._due = self._stepped()
        return self._due


def has_stepped(events: Iterable[Envelope], attempt: int) -> bool:
    """Tell whether an attempt has come further than it began: by a step, or by answers."""
    begun = 0
    for envelope in events:
        if envelope.attempt != attempt:
            continue
        event = envelope.event
        if isinstance(event, Started):
            begun = event.resumed_step
        elif isinstance(event, EvaluationStarted):
            begun = event.answered
        elif isinstance(event, Progress | TrainMetrics) and event.step > begun:
            return True
    return False


def resting(rest: Rest, now: datetime) -> str:
    """Return for a person until when the machine rests."""
    return f"resting until {local_time(now + timedelta(minutes=rest.minutes))}"
