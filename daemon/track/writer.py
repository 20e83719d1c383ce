"""What a tracker has to offer, so that a job can be forwarded to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from daemon.track.source import Row, TrackedEnd


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker is told of it.

    Attributes:
        id: under which it is found again; the job's, or that with the number of the course.
        name: for people.
        config: the settings, by their dotted names.
        folder: for what the tracker keeps, unless a variable of its own leads elsewhere.
    """

    id: str
    name: str
    config: dict[str, Any]
    folder: Path


class Writer(Protocol):
    """One run of one tracker. Each call may be the last one before a kill, and comes again then."""

    def begin(self) -> int:
        """Open the run, anew or where it stood; return the last step that it holds, -1 for none."""

    def rows(self, rows: Sequence[Row]) -> None:
        """Add rows, each of a later step than all before."""

    def outcome(self, kind: str, found: TrackedEnd, step: int) -> None:
        """Add what there is at the end; ``kind`` is ``summary`` or ``evaluation``."""

    def close(self) -> None:
        """Take leave: all that was given is kept."""


def seconds_of(row: Row) -> float:
    """Return when a row was written, seconds since 1970."""

    return datetime.fromisoformat(row["timestamp"]).timestamp()
