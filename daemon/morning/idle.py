"""When jobs ran and when nothing did, and why not: from the lines of the daemon's log. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from daemon.morning.daemon_log import LogEntry
from daemon.morning.facts import IdleTime

NO_DAEMON = "the daemon was not running"
LOST_DAEMON = "the daemon was not running (it had died)"
QUEUE_AWAY = "the queue did not answer"
NOTHING_READY = "nothing was ready to run"
QUEUE = "the queue at "
BACK = " is back"
# What lies between one job and the next is no idle time.
SHORTEST = timedelta(minutes=1)

# Of a full disk each time another number of bytes is wanted: that is one reason.
NUMBER = re.compile(r"[0-9][0-9.:]*")

Span = tuple[datetime, datetime]
Heard = Callable[[str, datetime], datetime | None]


class Timeline:
    """What was the matter from moment to moment.

    Args:
        since: what was before does not count.
        heard: returns when a job last said something before a moment: how long it ran whose daemon
            was killed.
    """

    def __init__(self, since: datetime, heard: Heard = lambda job, before: None) -> None:
        self._since, self._heard = since, heard
        self._from = since
        self._last = since
        self._down: str | None = NO_DAEMON
        self._jobs: set[str] = set()
        self._held: str | None = None
        self._away = False
        self.busy = timedelta()
        self.spans: list[tuple[str, datetime, datetime]] = []

    def take(self, entry: LogEntry) -> None:
        """Follow one line of the log; they come in order."""
        if entry.event == "daemon_started" and self._down is None:
            self._lost(entry.time)
        self._until(entry.time)
        self._last = entry.time
        match entry.event:
            case "daemon_started":
                self._down, self._held, self._away = None, None, False
                self._jobs.clear()
            case "daemon_stopped":
                self._down = NO_DAEMON
                self._jobs.clear()
            case "job_started":
                self._down = None
                self._jobs.add(entry.text("job") or "")
            case "job_ended" | "attempt_superseded" | "run_directory_gone":
                self._jobs.discard(entry.text("job") or "")
            case "queue_held":
                self._held = entry.text("reason")
            case "queue_open":
                self._held = None
            case text if text.startswith(QUEUE):
                self._away = not text.endswith(BACK)
            case _:
                # A log whose beginning is lost: whoever writes there runs.
                pass

    def end(self, now: datetime, *, runs: bool) -> None:
        """Close the timeline; ``runs`` tells whether the daemon runs now."""
        if not runs and self._down is None:
            self._lost(now)
        elif runs and self._down is not None:
            self._down = None
        self._until(now)

    def idle(self) -> list[IdleTime]:
        """Return the time in which nothing ran, by reason, longest first."""
        grouped: dict[str, list[Span]] = defaultdict(list)
        shown: dict[str, str] = {}
        for reason, start, end in self.spans:
            if end - start >= SHORTEST:
                kind = NUMBER.sub("", reason)
                grouped[kind].append((start, end))
                shown.setdefault(kind, reason)
        found = [
            IdleTime(shown[kind], _seconds(spans), tuple(spans)) for kind, spans in grouped.items()
        ]
        return sorted(found, key=lambda idle: -idle.seconds)

    def _lost(self, before: datetime) -> None:
        """Let the daemon have ended when it, or the job it ran, was last heard of."""
        said = [moment for job in self._jobs if (moment := self._heard(job, before)) is not None]
        last = min(before, max([self._last, *said]))
        self._until(last)
        self._down = LOST_DAEMON
        self._jobs.clear()

    def _until(self, moment: datetime) -> None:
        """Write down what was the matter up to a moment."""
        start = max(self._from, self._since)
        if moment <= start:
            return
        why = self._why()
        if why is None:
            self.busy += moment - start
        elif self.spans and self.spans[-1][0] == why and self.spans[-1][2] == start:
            self.spans[-1] = (why, self.spans[-1][1], moment)
        else:
            self.spans.append((why, start, moment))
        self._from = moment

    def _why(self) -> str | None:
        """Return why nothing runs; None where something does."""
        if self._down is not None:
            return self._down
        if self._jobs:
            return None
        if self._held:
            return self._held
        return QUEUE_AWAY if self._away else NOTHING_READY


def timeline(
    entries: Iterable[LogEntry],
    since: datetime,
    now: datetime,
    *,
    runs: bool,
    heard: Heard = lambda job, before: None,
) -> Timeline:
    """Return what was the matter from one moment to another.

    Args:
        runs: whether the daemon runs now.
        heard: see :class:`Timeline`.
    """
    found = Timeline(since, heard)
    for entry in entries:
        if entry.time <= now:
            found.take(entry)
    found.end(now, runs=runs)
    return found


def _seconds(spans: Iterable[Span]) -> float:
    return round(sum((end - start).total_seconds() for start, end in spans), 3)
