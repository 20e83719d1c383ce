"""Looking at jobs: in Redis where it answers, else in the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.output import warn

if TYPE_CHECKING:
    from daemon.file_client import FileClient
    from daemon.reader import QueueReader


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
