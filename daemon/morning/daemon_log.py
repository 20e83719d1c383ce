"""What the daemon's log tells of a time: when it ran, when a job did, and what held it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from daemon.logging import BESIDE
from daemon.times import Window
from jobs.errors import ConfigError
from jobs.paths import Workspace
from jobs.storage.files import whole_lines


@dataclass(frozen=True)
class LogEntry:
    """A line of the daemon's log: when, what, and the rest of it."""

    time: datetime
    event: str
    values: dict[str, Any]

    def text(self, name: str) -> str | None:
        """Return a value that is a text; None where there is none."""
        found = self.values.get(name)
        return found if isinstance(found, str) else None


def log_entries(workspace: Workspace, since: datetime) -> list[LogEntry]:
    """Return the log from some time before a moment on, oldest first.

    How things stood at that moment is said before it: the newest file that ends before it is read
    too. Lines that cannot be read are left out.
    """
    found: list[LogEntry] = []
    for path in _files(workspace.daemon_log, since):
        with suppress(OSError):
            found += _entries(path)
    return sorted(found, key=lambda entry: entry.time)


def last_window(entries: list[LogEntry]) -> Window | None:
    """Return the window of the daemon that was started last; None where it had none."""
    for entry in reversed(entries):
        if entry.event == "daemon_started":
            with suppress(ConfigError):
                text = entry.text("window")
                return Window.parse(text) if text else None
            return None
    return None


def _files(newest: Path, since: datetime) -> list[Path]:
    """Return the files of the log that matter, oldest first."""
    found: list[Path] = []
    for number in count():
        path = newest.with_name(f"{newest.name}.{number}") if number else newest
        try:
            written = path.stat().st_mtime
        except OSError:
            break
        found.insert(0, path)
        if written < since.timestamp():
            break
    return found


def _entries(path: Path) -> Iterator[LogEntry]:
    for line in whole_lines(path):
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            values = orjson.loads(line)
            moment = datetime.fromisoformat(values["time"])
            if values.get(BESIDE):
                continue  # the sender of messages outlives a daemon that was killed
            yield LogEntry(moment.astimezone(UTC), str(values["event"]), values)
