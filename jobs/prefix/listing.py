"""What can be told of the entries of the prefix cache, for people and for the budget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from jobs.prefix.entry import (
    ENTRY,
    FILLING_LOCK,
    INDEX,
    RECORD,
    DamagedEntry,
    Description,
)
from jobs.storage.locks import LOCK_NAME, FolderLock

LOCKS = (LOCK_NAME, FILLING_LOCK)


class EntryState(StrEnum):
    """What can be said of an entry."""

    COMPLETE = "complete"
    """It holds all that jobs have needed of it."""
    IN_USE = "in use"
    """A process reads it."""
    FILLING = "filling"
    """A process fills it."""
    UNFINISHED = "unfinished"
    """Half filled by a process that is gone; the next one that needs it goes on with it."""
    UNUSABLE = "unusable"
    """Damaged, or of another version of farense; the next job that fills anything removes it."""


@dataclass(frozen=True)
class EntryInfo:
    """What an entry holds and takes.

    Attributes:
        state: whether it can be used, and whether it is.
        about: for people: ``model``, ``data``, ``boundary``; any of them may be missing.
        examples, tokens: how many it holds, or will hold; None where that cannot be read.
        of_examples: how many there are in its data file; a run of few steps needs a part of them.
        bytes: on disk now.
        final_bytes: once it is complete.
        last_used: when a job last opened it, or filled at it; ISO 8601 in UTC.
    """

    key: str
    state: EntryState
    about: dict[str, str]
    examples: int | None
    tokens: int | None
    of_examples: int | None
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


def describe(folder: Path) -> EntryInfo | None:
    """Return what is in a folder; None where it was removed meanwhile."""
    try:
        found = Description.read(folder / ENTRY)
    except DamagedEntry:  # or a filler that has only just begun
        found = None
    state = _state(folder, found)
    try:
        files = [path.stat() for path in folder.iterdir() if path.name not in LOCKS]
        used = max((file.st_mtime for file in files), default=folder.stat().st_mtime)
    except FileNotFoundError:
        return None
    return EntryInfo(
        key=folder.name,
        state=state,
        about=found.about if found else {},
        examples=found.examples if found else None,
        tokens=found.tokens if found else None,
        of_examples=found.of_examples if found else None,
        bytes=sum(file.st_size for file in files),
        final_bytes=found.bytes if found else 0,
        last_used=datetime.fromtimestamp(used, UTC).isoformat(timespec="microseconds"),
    )


def _state(folder: Path, found: Description | None) -> EntryState:
    if _is_free(folder, LOCK_NAME):
        if found is None:
            return EntryState.UNUSABLE
        whole = filled_count(folder) >= found.examples
        return EntryState.COMPLETE if whole else EntryState.UNFINISHED
    return EntryState.IN_USE if _is_free(folder, FILLING_LOCK) else EntryState.FILLING


def _is_free(folder: Path, name: str) -> bool:
    lock = FolderLock.of_folder(folder, name=name)
    if lock is not None:
        lock.release()
    return lock is not None


def filled_count(folder: Path) -> int:
    """Return how many examples of an entry are on disk."""
    try:
        return (folder / INDEX).stat().st_size // RECORD.itemsize
    except OSError:
        return 0
