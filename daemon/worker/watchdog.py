"""When to stop a child that nobody asked to stop: it hangs, or its time is up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from daemon.lifecycle.failures import FailureClass, StopReason
from jobs.events import Envelope, TrainMetrics

# Between two looks no more than this counts: the daemon, or the whole machine, stood still.
MAX_STEP_SECONDS = 60.0


class Watchdog:
    """Watches over one attempt.

    Whatever the child appends to its log is a sign of life. Training logs every second; filling
    the prefix cache does too; loading a model and a validation are silent for a while.

    Args:
        stall_minutes: of silence, after which the child hangs; None: it may be silent for ever.
        max_hours: of all attempts together; None: as long as it takes.
        seconds_before: of training in the attempts before (:func:`trained_before`).
        now: of a clock that only goes forward, in seconds.
    """

    def __init__(
        self,
        stall_minutes: float | None,
        max_hours: float | None,
        seconds_before: float,
        now: float,
    ) -> None:
        self._stall_minutes = stall_minutes
        self._max_hours = max_hours
        self._trained = seconds_before
        self._silent = 0.0
        self._looked_at = now
        self._log_size: int | None = None

    def look(self, now: float, log_size: int) -> StopReason | None:
        """Return why the child is to be stopped; None where it may go on.

        Args:
            now: by the clock of the beginning.
            log_size: bytes in the job's log.
        """
        step = min(now - self._looked_at, MAX_STEP_SECONDS)
        self._looked_at = now
        self._trained += step
        self._silent = self._silent + step if log_size == self._log_size else 0.0
        self._log_size = log_size
        return self._time_is_up() or self._hangs()

    def _time_is_up(self) -> StopReason | None:
        if self._max_hours is None or self._trained < self._max_hours * 3600:
            return None
        reason = f"it has run for {self._max_hours:g} hours (max_hours)"
        return StopReason(FailureClass.TIME_LIMIT, reason)

    def _hangs(self) -> StopReason | None:
        if self._stall_minutes is None or self._silent < self._stall_minutes * 60:
            return None
        reason = f"it gave no sign of life for {self._stall_minutes:g} minutes (stall_minutes)"
        return StopReason(FailureClass.HANG, reason)


def watchdog_of(config: Mapping[str, Any], events: Iterable[Envelope], now: float) -> Watchdog:
    """Return what watches over an attempt.

    Args:
        config: of the job.
        events: of the attempts before, at least the last of them.
        now: of a clock that only goes forward, in seconds.
    """
    limits = config.get("stall_minutes"), config.get("max_hours")
    return Watchdog(*limits, trained_before(events), now)


def trained_before(events: Iterable[Envelope]) -> float:
    """Return the seconds of training that the last metrics row among ``events`` tells of."""
    seconds = 0.0
    for envelope in events:
        if isinstance(envelope.event, TrainMetrics):
            seconds = envelope.event.elapsed_time_sec
    return seconds
