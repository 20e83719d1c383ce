"""Reading a job's log while its child writes it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jobs.events import Envelope, Failed, parse_event

CHUNK = 262_144
# A line longer than this is no event; it is passed over rather than kept in memory.
MAX_LINE = 4_194_304


@dataclass(frozen=True)
class LogLines:
    """Whole lines of a log, and the offsets in bytes at which they start and end."""

    lines: list[bytes]
    start: int
    end: int

    @property
    def events(self) -> list[Envelope]:
        """The events in the lines; a line that holds none is passed over."""
        return [found for found in self._parsed if found is not None]

    @property
    def unreadable(self) -> list[bytes]:
        """The lines that hold no event."""
        return [line for line, found in self._pairs if found is None]

    @property
    def readable(self) -> LogLines:
        """The same part of the log without the lines that hold no event."""
        return replace(self, lines=[line for line, found in self._pairs if found is not None])

    @cached_property
    def _parsed(self) -> list[Envelope | None]:
        return [parse_event(line) for line in self.lines]

    @property
    def _pairs(self) -> Iterable[tuple[bytes, Envelope | None]]:
        return zip(self.lines, self._parsed, strict=True)


class LogReader:
    """Reads whole lines as they are appended; a line without its end is left for later.

    Args:
        path: the log; it need not exist yet.
        offset: where to begin, in bytes.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self, size: int = CHUNK) -> LogLines | None:
        """Return the next lines, about ``size`` bytes, or None where there is nothing new."""
        start = self.offset
        data = self._peek(size)
        while b"\n" not in data and size <= len(data) <= MAX_LINE:
            size *= 2
            data = self._peek(size)
        whole = data[: data.rfind(b"\n") + 1] if len(data) <= MAX_LINE else data
        if not whole:
            return None
        self.offset += len(whole)
        return LogLines([line for line in whole.split(b"\n") if line.strip()], start, self.offset)

    def _peek(self, size: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(size)
        except FileNotFoundError:
            return b""


def size_of(path: Path) -> int:
    """Return the bytes in a log; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def events_at_end(path: Path, size: int = 65_536) -> list[Envelope]:
    """Return the events in the last ``size`` bytes of a log; an empty list where there is none."""
    if not path.exists():
        return []
    lines = LogReader(path, max(0, path.stat().st_size - size)).read(2 * size)
    return lines.events if lines else []


def text_at_end(path: Path, offset: int = 0, size: int = 65_536) -> str:
    """Return at most ``size`` bytes from the end of a text file; none from before ``offset``."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset, end - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def last_lines(path: Path, offset: int = 0, limit: int = 600) -> str:
    """Return the end of a text file, printable, in one line of at most ``limit`` characters."""
    text = text_at_end(path, offset, 4 * limit)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    clean = "".join(c if c.isprintable() else " " for c in " | ".join(lines[-4:]))
    return clean[-limit:]


def failure_said(path: Path, attempt: int) -> str | None:
    """Return what a child said went wrong in an attempt; None where its log has no such word."""
    for envelope in reversed(events_at_end(path)):
        if isinstance(envelope.event, Failed) and envelope.attempt == attempt:
            return envelope.event.reason
    return None
