"""Where events go: the job's log, always; the console, when a person started the job."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import orjson

from jobs.console import Console
from jobs.events import Envelope, Event
from jobs.state import now
from jobs.storage.files import end_torn_line, explain, write_line

Sink = Callable[[Envelope], None]


def job_log(path: Path) -> Sink:
    """Return a sink that appends each event to ``path``, one JSON object a line, in one write.

    Raises:
        WorkspaceError: the file cannot be opened.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_torn_line(path)
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise explain(error, path) from error

    def write(envelope: Envelope) -> None:
        try:
            write_line(file, orjson.dumps(envelope.as_dict(), default=str))
        except OSError as error:
            raise explain(error, path) from error

    return write


def console() -> Sink:
    """Return a sink that prints events for a person, on standard output.

    Where nobody reads that any more (``| head``) the job goes on, and its log has everything.
    """
    screen = Console()

    def write(envelope: Envelope) -> None:
        try:
            for line in screen.lines(envelope):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Not closed: what it still holds would be flushed, and fail, again at the exit.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    return write


def emitter(sinks: list[Sink], job: str, attempt: int) -> Callable[[Event], None]:
    """Return the function that a job reports with."""

    def emit(event: Event) -> None:
        envelope = Envelope(event, job, attempt, now())
        for sink in sinks:
            sink(envelope)

    return emit
