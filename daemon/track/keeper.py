"""A daemon's part in tracking: it notes what is to be forwarded, and keeps couriers running.

Nothing here waits, and nothing raises: no job is delayed or lost for a tracker. Where no job names
one, a look costs the listing of a folder that is not there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from daemon import piped
from daemon.piped import Piped
from daemon.track.kinds import TRACKERS
from daemon.track.paths import (
    Cursor,
    mark,
    marked,
    read_cursor,
    track_folder,
    trackers_of,
    unmark,
    why_behind,
)
from daemon.track.source import TrackedFiles
from jobs.errors import ExitCode, FarenseError
from jobs.paths import Workspace
from jobs.spec import read_spec

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
FIRST_DELAY, LONGEST_DELAY = 5.0, 600.0
# At one time; the others wait for their turn.
MOST = 8


@dataclass
class Pairing:
    """One tracker of one job, as this process knows it."""

    process: Piped | None = None
    seen: tuple[object, ...] | None = None
    delay: float = FIRST_DELAY
    not_before: float = 0.0
    said: str = ""


class Tracking:
    """Looks after the couriers of a workspace."""

    def __init__(self, workspace: Workspace, clock: Callable[[], float] = time.monotonic) -> None:
        self._workspace, self._clock = workspace, clock
        self._kept: dict[tuple[str, str], Pairing] = {}
        self._look_at = 0.0

    def began(self, job_id: str) -> None:
        """Note that a job is about to run here."""
        self._note(job_id)

    def ended(self, job_id: str) -> None:
        """Note that a job has ended: of an evaluation, for the training that it evaluates."""
        with suppress(FarenseError):
            spec = read_spec(self._workspace.run(job_id))
            self._note(spec.evaluation.job if spec.evaluation else job_id)

    def tick(self) -> None:
        """Start couriers where something is to be forwarded, from time to time."""
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + LOOK_SECONDS
        jobs = marked(self._workspace)
        for job_id, tracker in list(self._kept):
            self._reap(job_id, tracker, self._kept[job_id, tracker])
        for job_id in jobs:
            self._look(job_id)

    def close(self) -> None:
        """Let the couriers take a last look; what they do not forward waits for the next daemon."""
        for kept in self._kept.values():
            if kept.process is not None:
                os.close(kept.process.pipe)
                kept.process = None

    def _note(self, job_id: str) -> None:
        try:
            if trackers_of(self._workspace, job_id):
                mark(self._workspace, job_id)
                self._look_at = 0.0
        except (FarenseError, OSError) as error:
            log.warning("not_tracked", job=job_id, reason=str(error))

    def _look(self, job_id: str) -> None:
        run = self._workspace.run(job_id)
        trackers = [name for name in trackers_of(self._workspace, job_id) if name in TRACKERS]
        try:
            source = TrackedFiles(self._workspace, job_id)
        except (FarenseError, OSError, ValueError, TypeError):
            source = None
        if source is None or not trackers:
            unmark(self._workspace, job_id)  # it was removed
            return
        stamp = source.stamp()
        for tracker in trackers:
            kept = self._kept.setdefault((job_id, tracker), Pairing())
            if kept.process is None and kept.seen != stamp and self._may_start(kept):
                kept.seen = stamp
                self._start(job_id, tracker, kept)
        cursors = [read_cursor(run, tracker) for tracker in trackers]
        running = any(self._kept[job_id, tracker].process for tracker in trackers)
        if source.ended and not running and all(_done(cursor, source) for cursor in cursors):
            unmark(self._workspace, job_id)
            for tracker in trackers:
                self._kept.pop((job_id, tracker), None)

    def _may_start(self, kept: Pairing) -> bool:
        running = sum(other.process is not None for other in self._kept.values())
        return self._clock() >= kept.not_before and running < MOST

    def _start(self, job_id: str, tracker: str, kept: Pairing) -> None:
        command = [sys.executable, "-P", "-m", "daemon.track.courier", job_id, tracker]
        if not TRACKERS[tracker].installed:
            self._wait(job_id, tracker, kept, "its library is not installed: make trackers")
            return
        try:
            said = track_folder(self._workspace) / f"{job_id}.{tracker}.stderr"
            with said.open("wb") as output:
                kept.process = piped.start(command, self._workspace, os.environ, output)
        except (FarenseError, OSError) as error:
            self._wait(job_id, tracker, kept, str(error))

    def _reap(self, job_id: str, tracker: str, kept: Pairing) -> None:
        if kept.process is None or (code := kept.process.process.poll()) is None:
            return
        os.close(kept.process.pipe)
        with suppress(OSError):  # what its library has started
            os.killpg(kept.process.process.pid, signal.SIGKILL)
        kept.process = None
        if code == ExitCode.OK:
            kept.delay, kept.said = FIRST_DELAY, ""
        elif code == ExitCode.LOCKED:  # that of an earlier daemon, or of a command, is still there
            kept.seen, kept.not_before = None, self._clock() + LOOK_SECONDS
        else:
            cursor = read_cursor(self._workspace.run(job_id), tracker)
            self._wait(job_id, tracker, kept, why_behind(code, cursor))

    def _wait(self, job_id: str, tracker: str, kept: Pairing, reason: str) -> None:
        """Let some time pass before the next try, and more each time."""
        if reason != kept.said:
            log.warning("tracker_behind", job=job_id, tracker=tracker, reason=reason)
        kept.said, kept.seen = reason, None
        kept.not_before = self._clock() + kept.delay
        kept.delay = min(2 * kept.delay, LONGEST_DELAY)


def _done(cursor: Cursor, source: TrackedFiles) -> bool:
    return cursor.ended and cursor.evaluation >= source.evaluation_time
