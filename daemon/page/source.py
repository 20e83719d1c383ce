"""Where the page reads: in Redis where it answers, else in the files; and again in Redis later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from daemon.as_shown import as_shown
from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.queue.board import Board, Span, board_of_records
from daemon.reader import QueueReader
from daemon.runs.files import job_ids, record_shown
from jobs.errors import QueueUnreachable
from jobs.paths import Workspace

Found = TypeVar("Found")
Reader = QueueReader | FileClient

# Jobs that are read from the files, newest first: without Redis each costs some files.
MOST_FROM_FILES = 500


class PageSource:
    """The jobs of a workspace, wherever they can be read now. Safe to use from several threads.

    Attributes:
        away: why they are read from the files; None while Redis answers.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.away: str | None = None
        self._reader: QueueReader | None = None
        self._lock = threading.Lock()

    def look(self, see: Callable[[Reader], Found]) -> Found:
        """Return what ``see`` makes of a reader of the queue; where Redis is away, of the files."""
        reader = self._connected()
        if reader is not None:
            try:
                return see(reader)
            except QueueUnreachable as error:
                self._lost(reader, error)
        return see(FileClient(self.workspace))

    def board(self, queued: Span, past: Span) -> Board:
        """Return all jobs under way, and of those that are queued or have ended a part."""

        def see(reader: Reader) -> Board:
            if isinstance(reader, QueueReader):
                return reader.board(queued, past)
            ids = job_ids(self.workspace)[:MOST_FROM_FILES]
            records = [record_shown(self.workspace, job_id) for job_id in ids]
            shown = [as_shown(record, self.workspace) for record in records if record]
            return board_of_records(shown, queued, past)

        return self.look(see)

    def change(self, change: Callable[[FarenseClient], Found]) -> Found:
        """Return what ``change`` makes of a client, as a command's; the server is started for it.

        Raises:
            QueueUnreachable: Redis is away and cannot be started.
        """
        with FarenseClient.connect(self.workspace) as client:
            return change(client)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _connected(self) -> QueueReader | None:
        with self._lock:
            if self._reader is None:
                try:
                    self._reader = QueueReader.connect(self.workspace, start_server=False)
                except QueueUnreachable as error:
                    self.away = error.message
            if self._reader is not None:
                self.away = None
            return self._reader

    def _lost(self, reader: QueueReader, error: QueueUnreachable) -> None:
        with self._lock:
            self.away = error.message
            if self._reader is reader:
                self._reader = None
        reader.close()
