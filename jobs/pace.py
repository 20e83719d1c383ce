"""How fast a run is going, and how long it still takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from jobs.events import Progress

PROGRESS_SECONDS = 1.0
MARKS = 60


class Pace:
    """The speed of the last minute: what came before says little about what is left.

    The clock stands still during what is no step (:meth:`paused`), which is counted apart.
    """

    def __init__(self) -> None:
        self._marks = deque[tuple[float, int]](maxlen=MARKS)
        self._said = self._paused = 0.0
        self._pauses: dict[str, float] = {}

    def start(self, step: int) -> None:
        """Begin to measure at ``step``."""
        self._said = time.monotonic()
        self._marks.clear()
        self._marks.append((self._now, step))

    def mark(self, step: int) -> None:
        """Note that the run has come to ``step``."""
        if step > self._marks[-1][1]:
            self._marks.append((self._now, step))

    def turn(self, step: int) -> None:
        """Measure anew: the steps from here on are of another kind."""
        if len(self._marks) > 1:
            # Nothing is compiled any more, so nothing is to be left out.
            self._marks = deque([(self._now, step)] * 2, maxlen=MARKS)

    def is_due(self) -> bool:
        """Tell whether about a second has passed since the last report."""
        return time.monotonic() - self._said >= PROGRESS_SECONDS

    def paused(self, what: str, seconds: float) -> None:
        """Note what took time and was no step: a validation, say."""
        self._paused += seconds
        self._pauses[what] = seconds

    def report(
        self, step: int, total_steps: int, epoch: int, pauses_left: dict[str, int] | None = None
    ) -> Progress:
        """Return the event that says how far the run has come.

        Args:
            pauses_left: how many pauses of which kind are still to come.
        """
        self._said = time.monotonic()
        found = speed(self._marks)
        left = time_left(self._marks, total_steps, self._now)
        if left is not None:
            # What has not been measured yet counts for nothing: it is small beside the rest.
            left += sum(
                count * self._pauses.get(what, 0.0) for what, count in (pauses_left or {}).items()
            )
        return Progress(step, total_steps, epoch, found, left)

    @property
    def _now(self) -> float:
        return time.monotonic() - self._paused


def speed(marks: Sequence[tuple[float, int]]) -> float | None:
    """Return the steps a second; None before it is known.

    Args:
        marks: at how many seconds how many steps were done, the oldest first. The first two say
            nothing of what is to come: between them kernels were compiled.
    """
    later = [*marks][1:]
    if len(later) < 2 or later[-1][0] <= later[0][0] or later[-1][1] <= later[0][1]:
        return None
    return (later[-1][1] - later[0][1]) / (later[-1][0] - later[0][0])


def time_left(
    marks: Sequence[tuple[float, int]], total_steps: int, now: float | None = None
) -> float | None:
    """Return the seconds that the steps from the last mark to ``total_steps`` take; None before
    that is known.

    Args:
        marks: as for :func:`speed`. Steps may be done many at a time, as answers are: between two
            marks as many as then are under way.
        now: on the same clock; the time since the last mark is work at the next steps.
    """
    found = speed(marks)
    if found is None:
        return None
    then, done = marks[-1]
    rest = (total_steps - done) / found
    if now is None:
        return rest
    # Of the steps under way at most their own time is over, however long they take.
    under_way = (done - marks[-2][1]) / found
    return max(rest - min(now - then, under_way), 0.0)
