"""The end of what a job has said, as ``farense logs`` prints it, read on while it speaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from daemon.joblog import LogReader, size_of
from daemon.reader import QueueReader
from jobs.console import Console
from jobs.events import Envelope, parse_event
from jobs.paths import Workspace

LINES = 400
# Of a long log no more is read than its end; whole it comes by a link.
TAIL_BYTES = 1_000_000


class LogTail:
    """The last lines of one job's log.

    Where the log lies here it is read; of a job elsewhere the events come from Redis.
    """

    def __init__(self, workspace: Workspace, job_id: str) -> None:
        path = workspace.job_log(job_id)
        self._job_id = job_id
        self._log = LogReader(path, max(0, size_of(path) - TAIL_BYTES))
        self._cut = self._log.offset > 0
        self._console, self._lines = Console(), deque[str](maxlen=LINES)
        self._last = "0"

    def read(self, reader: object) -> dict[str, object]:
        """Return the lines as they stand now, and whether there were others before them."""
        if self._log.path.exists():
            self._read_file()
        elif isinstance(reader, QueueReader):
            self._read_stream(reader)
        cut = self._cut or len(self._lines) == LINES
        return {"lines": list(self._lines), "cut": cut}

    def _read_file(self) -> None:
        while found := self._log.read():
            events = found.events
            # A tail begins in the middle of a line, which is none.
            self._add(events)

    def _read_stream(self, reader: QueueReader) -> None:
        while entries := reader.events_after(self._job_id, self._last):
            self._last = entries[-1][0]
            self._add(event for _, line in entries if (event := parse_event(line)))

    def _add(self, events: Iterable[Envelope]) -> None:
        for event in events:
            for line in self._console.lines(event):
                self._lines.extend(line.split("\n"))
