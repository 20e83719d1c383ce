"""Looking at jobs: in Redis where it answers, else in the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.output import warn

if TYPE_CHECKING:
    from daemon.file_client import FileClient
    from daemon.reader import QueueReader
    from daemon.records import JobRecord


@contextmanager
def reading(*, queue: str | None = None) -> Iterator[QueueReader | FileClient]:
    """Provide a client that only reads, with a warning where it had to take the files.

    Never starts a server.
    """
    from daemon.reader import open_reader

    reader, warning = open_reader(queue=queue)
    with reader:
        if warning:
            warn(warning)
        yield reader


def held_lines(reader: object, records: Sequence[JobRecord]) -> list[str]:
    """Return why none of the queued jobs starts; nothing where one runs, or none is queued.

    Args:
        reader: only one of the queue knows.
    """
    from daemon.machines.workers import why_nothing_starts
    from daemon.reader import QueueReader
    from jobs.state import State

    if not isinstance(reader, QueueReader):
        return []
    if any(record.state is State.RUNNING and not record.interrupted for record in records):
        return []
    queues = dict.fromkeys(record.queue for record in records if record.state is State.QUEUED)
    cards = reader.workers() if queues else []
    return [line for name in queues for line in why_nothing_starts(cards, name)]
