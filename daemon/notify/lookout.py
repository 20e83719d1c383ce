"""What a daemon notices beside the ends of jobs: nothing is left to do, or jobs are held.

It looks at what the daemon knows anyway. Redis is asked only after work was done, or while jobs are
held, and less and less often.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from daemon.notify.happening import What, held_class
from daemon.times import Window
from jobs.state import JobState, now

ASK_SECONDS = 1.0
LONGEST_SECONDS = 60.0
OUTSIDE, RESTING = "outside the window", "rest"


@dataclass(frozen=True)
class Left:
    """What there is still to do.

    Attributes:
        waiting: jobs on the queue.
        unfinished: those that run, wait or are scheduled, and sweeps under way.
        paused: jobs that wait for a person.
    """

    waiting: int
    unfinished: int
    paused: int


class Told(Protocol):
    """Who is told."""

    def __call__(self, what: What, subject: str | None = None, **detail: object) -> None:
        """Put down something that happened."""


class Lookout:
    """Notices what happens to the queue as a whole.

    Args:
        tell: puts down what happened.
        left: returns what is left to do; None where that cannot be known now.
        notice_seconds: how long jobs are held before that is told: what passes is none's business.
        window: in which jobs run.
    """

    def __init__(
        self,
        tell: Told,
        left: Callable[[], Left | None],
        notice_seconds: float,
        window: Window | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._left, self._notice_seconds = tell, left, notice_seconds
        self._window, self._clock = window, clock
        self._ended: Counter[str] = Counter()
        self._since: str | None = None
        self._ask_at, self._wait = 0.0, ASK_SECONDS
        self._held: str | None = None
        self._held_since = 0.0
        self._held_told = False
        self._was_open = False

    def job_ended(self, state: JobState) -> None:
        """Note that a job has ended."""
        self._ended[str(state.state)] += 1
        self._since = self._since or state.started_at or now()
        self._ask_at, self._wait = 0.0, ASK_SECONDS

    def forget(self) -> None:
        """Forget what was done so far: nobody wanted to be told."""
        self._ended.clear()
        self._since = None

    def look(self, *, busy: bool, closed: str | None, away: bool) -> None:
        """Look at the queue as it stands.

        Args:
            busy: a job runs.
            closed: why no job may start; None where one may.
            away: Redis does not answer.
        """
        self._look_at_hold(closed or ("the queue does not answer" if away else None), busy=busy)
        if not (busy or closed or away):
            self._look_for_end()

    def _look_at_hold(self, reason: str | None, *, busy: bool) -> None:
        moment = self._clock()
        outside = reason is not None and reason.startswith(OUTSIDE)
        if outside and self._was_open and not busy:
            self._was_open = False
            self._tell(What.WINDOW_ENDED, since=self._window_began())
        elif not outside:
            self._was_open = self._was_open or self._window is not None
        # A rest of the machine is over soon, and was asked for.
        kind = None if reason is None or reason.startswith(RESTING) else held_class(reason)
        if kind != self._held:
            self._held, self._held_since, self._held_told = kind, moment, False
            self._ask_at, self._wait = 0.0, ASK_SECONDS
        if kind is None:
            return
        if self._held_told or moment - self._held_since < self._notice_seconds:
            return
        if moment < self._ask_at:
            return
        self._later(moment)
        left = self._left()
        if left is None or left.waiting or busy:
            self._held_told = True
            self._tell(What.HELD, reason=reason, waiting=left.waiting if left else None)

    def _look_for_end(self) -> None:
        """Tell once nothing is left to do, if something was done."""
        moment = self._clock()
        if not self._ended or moment < self._ask_at:
            return
        self._later(moment)
        left = self._left()
        if left is None or left.waiting or left.unfinished:
            return
        ended, since = dict(self._ended), self._since
        self.forget()
        self._tell(What.QUEUE_EMPTY, ended=ended, since=since, paused=left.paused)

    def _later(self, moment: float) -> None:
        self._ask_at, self._wait = moment + self._wait, min(2 * self._wait, LONGEST_SECONDS)

    def _window_began(self) -> str | None:
        """Return when the window began that has just ended."""
        if self._window is None:
            return None
        began = self._window.began(datetime.now(UTC))
        return began.astimezone(UTC).isoformat(timespec="seconds")
