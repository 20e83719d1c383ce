"""One entry of the prefix cache on disk: the hidden states of a list of examples. NumPy only.

::

    <key>/
      states.bin     the rows of all examples, one row a token, without padding
      index.npy      for each example its first row, its number of rows, its CRC-32
      entry.json     what this is; its presence says that the entry is complete
      filling.json   the same while states.bin grows; renamed to entry.json at the end
      filled         while states.bin grows: the CRC-32 of each example that is on disk
      lock           held by who reads (shared) or fills and removes (exclusive)

A complete entry never changes. An example counts as filled only after its rows were synced, and is
checked again before a fill goes on: a crash at any moment loses at most the last few examples.
"""

from __future__ import annotations

import os
import secrets
import shutil
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.files import read_json
from jobs.folder_lock import FolderLock
from jobs.state import now

Rows = NDArray[np.uint8]

VERSION = 1
STATES = "states.bin"
INDEX = "index.npy"
ENTRY = "entry.json"
FILLING = "filling.json"
FILLED = "filled"
INDEX_TYPE = np.dtype([("first", "<i8"), ("rows", "<i8"), ("crc32", "<u4")])
CRC_TYPE = np.dtype("<u4")
REMOVED = ".removed-"


class DamagedEntry(Exception):
    """What is on disk is not what was written; the message says where."""


@dataclass(frozen=True)
class Layout:
    """What an entry holds.

    Attributes:
        lengths: rows (token positions) of each example.
        row_bytes: bytes of one row: the width of the model times the size of a number.
        dtype: of the numbers: ``float32``, ``float16`` or ``bfloat16``.
    """

    lengths: tuple[int, ...]
    row_bytes: int
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return sum(self.lengths) * self.row_bytes

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """The row where each example starts and, last, where the last one ends, shape [n + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64)


@dataclass(frozen=True)
class Description:
    """What ``entry.json`` and ``filling.json`` hold.

    Attributes:
        about: for people: the model, the data, the boundary.
        bytes: on disk once it is complete.
    """

    version: int
    key: str
    about: dict[str, str]
    examples: int
    tokens: int
    row_bytes: int
    dtype: str
    bytes: int
    created_at: str

    @classmethod
    def of(cls, key: str, layout: Layout, about: dict[str, str]) -> Description:
        """Describe an entry that is to be filled now."""
        return cls(
            version=VERSION,
            key=key,
            about=about,
            examples=len(layout.lengths),
            tokens=sum(layout.lengths),
            row_bytes=layout.row_bytes,
            dtype=layout.dtype,
            bytes=layout.bytes + len(layout.lengths) * INDEX_TYPE.itemsize,
            created_at=now(),
        )

    @classmethod
    def read(cls, path: Path) -> Description:
        """Return what a file holds.

        Raises:
            DamagedEntry: it is missing or does not fit its schema.
        """
        try:
            return cls(**read_json(path))
        except (OSError, ValueError, TypeError) as error:
            raise DamagedEntry(f"{path} is missing or damaged: {error}") from error

    def fits(self, layout: Layout) -> bool:
        """Tell whether this describes an entry of that layout."""
        expected = Description.of(self.key, layout, self.about)
        return {**asdict(self), "created_at": ""} == {**asdict(expected), "created_at": ""}


class Entry:
    """A complete entry, open for reading; other processes may read it at the same time.

    Rows are read from the file when asked for, not mapped: nothing stays resident, whatever the
    size of the entry, and a file that somebody truncates is an error here instead of a SIGBUS.

    Args:
        folder: of the entry.
        lock: shared, on that folder; taken over, and released by :meth:`close`.
        layout: what it must hold.

    Raises:
        DamagedEntry: a file is missing or does not fit the layout.
    """

    def __init__(self, folder: Path, lock: FolderLock, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        if not Description.read(folder / ENTRY).fits(layout):
            raise DamagedEntry(f"{folder / ENTRY} describes something else.")
        self._index = _read_index(folder / INDEX, layout)
        self._states = _open_states(folder / STATES, layout.bytes)
        self._lock = lock

    def read(self, index: int) -> Rows:
        """Return the rows of an example as a new array, shape [length, row_bytes].

        Raises:
            DamagedEntry: they are not what was written, or cannot be read.
        """
        at = self._index[index]
        found = read_rows(self._states, int(at["first"]), int(at["rows"]), self.layout.row_bytes)
        if found is None or zlib.crc32(found.data) != at["crc32"]:
            raise DamagedEntry(f"Example {index} in {self.folder / STATES} is damaged.")
        return found

    def close(self) -> None:
        """Let the entry be evicted; no more can be read."""
        if self._states >= 0:
            os.close(self._states)
            self._states = -1
        self._lock.release()

    def discard(self) -> None:
        """Close a damaged entry and take it off the disk; who else reads it keeps what it has."""
        # While the shared lock is held nobody fills; another reader may have been here before.
        if self._lock.is_current():
            take_away(self.folder)
        self.close()

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def take_away(folder: Path) -> None:
    """Remove the folder of an entry; at no moment can a part of it be taken for an entry."""
    grave = folder.with_name(f"{REMOVED}{folder.name}-{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):  # somebody else did
        folder.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


def _read_index(path: Path, layout: Layout) -> NDArray[np.void]:
    try:
        index: NDArray[np.void] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedEntry(f"{path} is missing or damaged: {error}") from error
    if index.dtype != INDEX_TYPE or index.shape != (len(layout.lengths),):
        raise DamagedEntry(f"{path} is not the index of {len(layout.lengths)} examples.")
    starts = np.array_equal(index["first"], layout.first_rows[:-1])
    if not starts or not np.array_equal(index["rows"], layout.lengths):
        raise DamagedEntry(f"{path} has other lengths than the examples.")
    return index


def _open_states(path: Path, size: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DamagedEntry(f"{path} cannot be read: {error.strerror}") from error
    if (found := os.fstat(descriptor).st_size) != size:
        os.close(descriptor)
        raise DamagedEntry(f"{path} has {found} bytes, not {size}.")
    return descriptor


def read_rows(descriptor: int, first: int, count: int, row_bytes: int) -> Rows | None:
    """Return ``count`` rows of a file; None where it ends before, or the disk fails."""
    wanted, parts = count * row_bytes, bytearray()
    try:
        # One call returns two gigabytes at most.
        while len(parts) < wanted:
            part = os.pread(descriptor, wanted - len(parts), first * row_bytes + len(parts))
            if not part:
                return None
            parts += part
    except OSError:
        return None
    return np.frombuffer(parts, np.uint8).reshape(count, row_bytes)
