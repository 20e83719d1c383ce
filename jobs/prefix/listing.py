"""What can be told of the entries of the prefix cache, for people and for the budget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from jobs.folder_lock import LOCK_NAME, FolderLock
from jobs.prefix.entry import ENTRY, FILLING, DamagedEntry, Description


class EntryState(StrEnum):
    """What can be said of an entry."""

    COMPLETE = "complete"
    IN_USE = "in use"
    """Complete, and a process reads it."""
    FILLING = "filling"
    """A process fills it."""
    UNFINISHED = "unfinished"
    """Half filled by a process that is gone; the next one that needs it goes on with it."""


@dataclass(frozen=True)
class EntryInfo:
    """What an entry holds and takes.

    Attributes:
        state: whether it can be used, and whether it is.
        about: for people: ``model``, ``data``, ``boundary``; any of them may be missing.
        examples, tokens: how many it holds, or will hold; None where that cannot be read.
        bytes: on disk now.
        final_bytes: once it is complete.
        last_used: when a job last opened it, or filled at it; ISO 8601 in UTC.
    """

    key: str
    state: EntryState
    about: dict[str, str]
    examples: int | None
    tokens: int | None
    bytes: int
    final_bytes: int
    last_used: str

    @property
    def busy(self) -> bool:
        """Whether a process has it open."""
        return self.state in (EntryState.IN_USE, EntryState.FILLING)

    @property
    def claimed_bytes(self) -> int:
        """Bytes that count against the budget: what is being filled counts in full."""
        return max(self.bytes, self.final_bytes if self.state is EntryState.FILLING else 0)


# (idle, busy) of an entry that is complete or not
_STATES = {
    True: (EntryState.COMPLETE, EntryState.IN_USE),
    False: (EntryState.UNFINISHED, EntryState.FILLING),
}


def describe(folder: Path) -> EntryInfo | None:
    """Return what is in a folder; None where it was removed meanwhile."""
    lock = FolderLock.acquire(folder)
    if lock is not None:
        lock.release()
    complete = (folder / ENTRY).exists()
    try:
        found = Description.read(folder / (ENTRY if complete else FILLING))
    except DamagedEntry:  # or a filler that has only just begun
        found, complete = None, False
    try:
        files = [path.stat() for path in folder.iterdir() if path.name != LOCK_NAME]
        used = max((file.st_mtime for file in files), default=folder.stat().st_mtime)
    except FileNotFoundError:
        return None
    idle, busy = _STATES[complete]
    return EntryInfo(
        key=folder.name,
        state=busy if lock is None else idle,
        about=found.about if found else {},
        examples=found.examples if found else None,
        tokens=found.tokens if found else None,
        bytes=sum(file.st_size for file in files),
        final_bytes=found.bytes if found else 0,
        last_used=datetime.fromtimestamp(used, UTC).isoformat(timespec="microseconds"),
    )
