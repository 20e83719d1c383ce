"""What a page can follow, by name: JSON values that are sent again when they have changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from daemon.page.job_view import job_view
from daemon.page.log_tail import LogTail
from daemon.page.machine import disk, machines
from daemon.page.rows import place, row
from daemon.page.source import PageSource, Reader
from daemon.page.sweep_view import SweepViews
from daemon.queue.board import Board, Span
from daemon.reader import QueueReader
from daemon.standstill import daemon_runs, held_lines
from jobs.errors import FarenseError, UnknownJob
from jobs.paths import JOB_ID, Workspace
from jobs.storage.values import printable

# Jobs on a page of a list.
PAGE = 25
NUMBER = r"(?:0|[1-9]\d{0,5})"
TOPIC = re.compile(
    rf"(?:now|sweeps|machines|board:{NUMBER}:{NUMBER}|(?:job|log|sweep):{JOB_ID.pattern})"
)
# A log whose page nobody has open any more is let go after so many others.
MOST_LOGS = 16


class Topics:
    """Looks up topics, one thread at a time; what it keeps only saves reading things again.

    Args:
        source: where jobs are read.
    """

    def __init__(self, source: PageSource) -> None:
        self._source, self._workspace = source, source.workspace
        self._sweeps = SweepViews(source.workspace)
        self._logs: dict[str, LogTail] = {}

    def see(self, topic: str) -> Any:
        """Return the value of a topic now; of one that cannot be told, ``error`` and ``hint``."""
        kind, *rest = topic.split(":")
        looks: dict[str, Callable[..., Any]] = {
            "now": self._now,
            "board": self._board,
            "job": self._job,
            "log": self._log,
            "sweeps": self._sweeps.listed,
            "sweep": self._sweeps.one,
            "machines": self._machines,
        }
        try:
            return looks[kind](*rest)
        except FarenseError as error:
            unknown = isinstance(error, UnknownJob)
            return {"error": printable(error.message), "hint": error.hint, "unknown": unknown}

    def _now(self) -> dict[str, Any]:
        """What stands on every view: whether Redis and the daemon are there, and the disk."""
        alive = self._source.look(_daemons_alive)
        return {
            "away": self._source.away,
            "daemon": daemon_runs(self._workspace),
            "daemons": alive,
            "disk": disk(self._workspace),
        }

    def _board(self, queued: str, past: str) -> dict[str, Any]:
        wanted = Span(int(queued) * PAGE, PAGE), Span(int(past) * PAGE, PAGE)
        found = self._source.board(*wanted)
        shown = [*found.running, *(job.record for job in (*found.queued, *found.later))]
        held = self._source.look(lambda reader: held_lines(reader, shown))
        return _board(found, held, self._workspace)

    def _job(self, job_id: str) -> dict[str, Any]:
        return self._source.look(lambda reader: job_view(reader, job_id, self._workspace))

    def _log(self, job_id: str) -> dict[str, Any]:
        if job_id not in self._logs:
            while len(self._logs) >= MOST_LOGS:
                self._logs.pop(next(iter(self._logs)))
            self._logs[job_id] = LogTail(self._workspace, job_id)
        return self._source.look(self._logs[job_id].read)

    def _machines(self) -> dict[str, Any]:
        return self._source.look(lambda reader: machines(reader, self._workspace))


def _daemons_alive(reader: Reader) -> int:
    """Return how many daemons work on this Redis; asking also tells whether Redis is there."""
    cards = reader.workers() if isinstance(reader, QueueReader) else []
    return sum(card.alive for card in cards)


def _board(found: Board, held: list[str], workspace: Workspace) -> dict[str, Any]:
    return {
        "page": PAGE,
        "running": [row(record, workspace) for record in found.running],
        "queued": [place(job, workspace) for job in found.queued],
        "queued_count": found.queued_count,
        "later": [place(job, workspace) for job in found.later],
        "later_count": found.later_count,
        "ended": [row(record, workspace) for record in found.ended],
        "ended_count": found.ended_count,
        "held": [printable(line) for line in held],
    }
