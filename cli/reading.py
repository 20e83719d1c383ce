"""Looking at jobs: in Redis where it answers, else in the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.output import note, warn

if TYPE_CHECKING:
    from daemon.file_client import FileClient
    from daemon.latest import Use
    from daemon.reader import QueueReader
    from daemon.store.records import JobRecord


@contextmanager
def reading(*, queue: str | None = None) -> Iterator[QueueReader | FileClient]:
    """Provide a client that only reads, with a warning where it had to take the files.

    Never starts a server.
    """
    from daemon.reader import open_reader  # noqa: PLC0415 - who presses Tab needs no Redis

    reader, warning = open_reader(queue=queue)
    with reader:
        if warning:
            warn(warning)
        yield reader


def job_named(reader: QueueReader | FileClient, argument: str, use: Use) -> JobRecord:
    """Return the job that an argument means; say which one where ``latest`` is not the newest.

    Args:
        use: what ``latest`` has to be good for.

    Raises:
        UnknownJob: it names none, or several.
    """
    from daemon.latest import LATEST  # noqa: PLC0415 - for the same reason

    if argument != LATEST:
        return reader.job(argument)
    found = reader.latest(use)
    if found.remark:
        note(found.remark)
    return found.job
