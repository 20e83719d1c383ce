"""How fast a run is going, and how long it still takes."""

from __future__ import annotations

import time
from collections import deque

from jobs.events import Progress

PROGRESS_SECONDS = 1.0
MARKS = 60


class Pace:
    """The speed of the last minute: what came before says little about what is left."""

    def __init__(self) -> None:
        self._marks = deque[tuple[float, int]](maxlen=MARKS)

    def start(self, step: int) -> None:
        """Begin to measure at ``step``."""
        self._marks.clear()
        self._marks.append((time.monotonic(), step))

    def is_due(self) -> bool:
        """Tell whether about a second has passed since the last report."""
        return time.monotonic() - self._marks[-1][0] >= PROGRESS_SECONDS

    def report(self, step: int, total_steps: int, epoch: int) -> Progress:
        """Return the event that says how far the run has come.

        Where nothing was done since the oldest mark, speed and time left are unknown.
        """
        then, step_then = self._marks[0]
        self._marks.append((time.monotonic(), step))
        speed = (step - step_then) / (self._marks[-1][0] - then)
        left = (total_steps - step) / speed if speed else None
        return Progress(step, total_steps, epoch, speed or None, left)
