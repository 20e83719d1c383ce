"""One entry of the prefix cache on disk: the hidden states of a data file. NumPy only.

::

    <key>/
      states.bin     the rows of the examples that are filled, one row a token, without padding
      index          a record for each of them: its number in the file, first row, rows, CRC-32
      entry.json     what this is, and how many examples the last fill was to reach
      lock           held by who reads or fills (shared), or removes (exclusive)
      filling.lock   held by who fills

An entry is filled as far as jobs need it, and grows later: what stands in it never changes, so
others read while one fills. An example counts only once its rows were synced and its record is
whole, and is checked again before a fill goes on: a crash at any moment loses at most the last few.
"""

from __future__ import annotations

import os
import secrets
import shutil
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.state import now
from jobs.storage.files import read_json
from jobs.storage.locks import FolderLock
from jobs.storage.values import well_typed

Rows = NDArray[np.uint8]

VERSION = 2
STATES = "states.bin"
INDEX = "index"
ENTRY = "entry.json"
FILLING_LOCK = "filling.lock"
# The last field is the CRC-32 of those before it.
RECORD = np.dtype(
    [("example", "<i8"), ("first", "<i8"), ("rows", "<i8"), ("crc32", "<u4"), ("check", "<u4")]
)
CHECKED = RECORD.itemsize - 4
REMOVED = ".removed-"


class DamagedEntry(Exception):
    """What is on disk is not what was written; the message says where."""


@dataclass(frozen=True)
class Layout:
    """What the entry of a data file can hold.

    Attributes:
        lengths: rows (token positions) of each example of the file.
        row_bytes: bytes of one row: the width of the model times the size of a number.
        dtype: of the numbers: ``float32``, ``float16`` or ``bfloat16``.
    """

    lengths: tuple[int, ...]
    row_bytes: int
    dtype: str

    def bytes_of(self, examples: Iterable[int]) -> int:
        """Return what some examples take on disk."""
        chosen = list(examples)
        rows = sum(self.lengths[example] for example in chosen)
        return rows * self.row_bytes + len(chosen) * RECORD.itemsize


@dataclass(frozen=True)
class RowSpan:
    """Where the rows of an example stand in ``states.bin``."""

    first: int
    rows: int
    crc32: int


@dataclass(frozen=True)
class Description:
    """What ``entry.json`` holds.

    Attributes:
        about: for people: the model, the data, the boundary.
        of_examples, of_tokens: how many there are in the data file.
        examples, tokens: how many the last fill was to reach.
        bytes: on disk with these.
    """

    version: int
    key: str
    about: dict[str, str]
    of_examples: int
    of_tokens: int
    examples: int
    tokens: int
    row_bytes: int
    dtype: str
    bytes: int
    created_at: str

    @classmethod
    def of(
        cls, key: str, layout: Layout, about: dict[str, str], examples: Collection[int]
    ) -> Description:
        """Describe an entry that is to hold ``examples`` once it is filled."""
        return cls(
            version=VERSION,
            key=key,
            about=about,
            of_examples=len(layout.lengths),
            of_tokens=sum(layout.lengths),
            examples=len(examples),
            tokens=sum(layout.lengths[example] for example in examples),
            row_bytes=layout.row_bytes,
            dtype=layout.dtype,
            bytes=layout.bytes_of(examples),
            created_at=now(),
        )

    @classmethod
    def read(cls, path: Path) -> Description:
        """Return what a file holds.

        Raises:
            DamagedEntry: it is missing, or does not fit its schema: another farense wrote it.
        """
        try:
            found = cls(**read_json(path))
        except (OSError, ValueError, TypeError) as error:
            raise DamagedEntry(f"{path} is missing or damaged: {error}") from error
        if found.version != VERSION or not well_typed(found):
            raise DamagedEntry(f"{path} was written by another farense, or is damaged.")
        return found

    def fits(self, layout: Layout) -> bool:
        """Tell whether this describes an entry of that layout."""
        found = self.of_examples, self.of_tokens, self.row_bytes, self.dtype
        lengths = layout.lengths
        return found == (len(lengths), sum(lengths), layout.row_bytes, layout.dtype)


class Entry:
    """An entry, open for reading what it held at that moment; others may read it, and one fill it.

    Rows are read from the file when asked for, not mapped: nothing stays resident, whatever the
    size of the entry, and a file that somebody truncates is an error here instead of a SIGBUS.

    Args:
        folder: of the entry.
        lock: shared, on that folder; taken over, and released by :meth:`close`.
        layout: of the whole data file.

    Raises:
        DamagedEntry: a file is missing or does not fit the layout.
    """

    def __init__(self, folder: Path, lock: FolderLock, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        if not Description.read(folder / ENTRY).fits(layout):
            raise DamagedEntry(f"{folder / ENTRY} describes something else.")
        self._places = read_index(folder, layout)
        end = max((place.first + place.rows for place in self._places.values()), default=0)
        self._states = _open_states(folder / STATES, end * layout.row_bytes)
        self._lock = lock

    def holds(self, examples: Iterable[int]) -> bool:
        """Tell whether all of some examples can be read."""
        return self._places.keys() >= set(examples)

    def read(self, index: int) -> Rows:
        """Return the rows of an example as a new array, shape [length, row_bytes].

        Raises:
            DamagedEntry: they are not what was written, or cannot be read.
        """
        place = self._places[index]
        found = read_rows(self._states, place.first, place.rows, self.layout.row_bytes)
        if found is None or zlib.crc32(found.data) != place.crc32:
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
        # Another reader may have been here before, and the folder be a new one.
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


def read_index(folder: Path, layout: Layout) -> dict[int, RowSpan]:
    """Return where the examples of an entry stand, by their numbers in the data file.

    A record that is torn or damaged is passed over: its example counts as not filled.
    """
    try:
        content = (folder / INDEX).read_bytes()
    except OSError:
        return {}
    size = RECORD.itemsize
    records = np.frombuffer(content[: len(content) // size * size], RECORD)
    found: dict[int, RowSpan] = {}
    for number, (example, first, rows, crc32, check) in enumerate(records.tolist()):
        whole = zlib.crc32(content[number * size : number * size + CHECKED]) == check
        if whole and 0 <= example < len(layout.lengths) and rows == layout.lengths[example]:
            found[example] = RowSpan(first, rows, crc32)
    return found


def index_records(places: Mapping[int, RowSpan]) -> bytes:
    """Return the records of examples, as :func:`read_index` reads them."""
    records = np.zeros(len(places), RECORD)
    for record, (example, place) in zip(records, places.items(), strict=True):
        record["example"], record["first"], record["rows"] = example, place.first, place.rows
        record["crc32"] = place.crc32
        record["check"] = zlib.crc32(record.tobytes()[:CHECKED])
    return records.tobytes()


def _open_states(path: Path, size: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DamagedEntry(f"{path} cannot be read: {error.strerror}") from error
    if (found := os.fstat(descriptor).st_size) < size:
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
