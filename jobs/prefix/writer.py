"""Filling an entry of the prefix cache, so that a crash loses at most the last few examples."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from jobs.prefix.entry import (
    INDEX,
    RECORD,
    STATES,
    Layout,
    Rows,
    RowSpan,
    index_records,
    read_index,
    read_rows,
)
from jobs.storage.files import sync_folder, write_with


class EntryWriter:
    """Adds examples to an entry, behind those that are in it.

    Args:
        folder: of the entry; the caller holds its ``filling.lock``.
        layout: of the whole data file.

    Attributes:
        filled: the examples that are on disk, and where.

    Raises:
        OSError: the disk is full or cannot be written; also from every method.
        WorkspaceError: the same, for the small files.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._layout = folder, layout
        noted = read_index(folder, layout)
        self.filled = self._whole(noted)
        records = index_records(self.filled)
        # Others may read meanwhile. They have read the index, and never what is cut off here: of
        # that no record was whole.
        if not _begins_with(folder / INDEX, records):
            write_with(folder / INDEX, lambda file: file.write(records))
        self._end = max((place.first + place.rows for place in self.filled.values()), default=0)
        self._states = _open_cut(folder / STATES, self._end * layout.row_bytes)
        self._index = _open_cut(folder / INDEX, len(self.filled) * RECORD.itemsize)

    def append(self, numbers: Sequence[int], examples: Sequence[Rows]) -> None:
        """Write more examples, each of shape [length, row_bytes].

        Args:
            numbers: theirs in the data file.

        Raises:
            ValueError: one has another shape than the layout says.
        """
        for number, rows in zip(numbers, examples, strict=True):
            expected = (self._layout.lengths[number], self._layout.row_bytes)
            if rows.shape != expected or rows.dtype != np.uint8:
                raise ValueError(f"example {number} is {rows.dtype} {rows.shape}, not {expected}")
        added: dict[int, RowSpan] = {}
        for number, rows in zip(numbers, examples, strict=True):
            content = np.ascontiguousarray(rows)
            _write(self._states, content.reshape(-1).data)
            added[number] = RowSpan(self._end, len(rows), zlib.crc32(content.data))
            self._end += len(rows)
        os.fsync(self._states.fileno())
        _write(self._index, memoryview(index_records(added)))
        self.filled |= added

    def complete(self) -> None:
        """See to it that all of it outlives a power cut."""
        os.fsync(self._index.fileno())
        sync_folder(self._folder)

    def close(self) -> None:
        """Close the files; what is filled stays for the next one."""
        self._states.close()
        self._index.close()

    def _whole(self, noted: dict[int, RowSpan]) -> dict[int, RowSpan]:
        """Return the examples whose rows are what was written."""
        if not noted or not (self._folder / STATES).exists():
            return {}
        whole: dict[int, RowSpan] = {}
        with (self._folder / STATES).open("rb") as file:
            for number, place in noted.items():
                rows = read_rows(file.fileno(), place.first, place.rows, self._layout.row_bytes)
                if rows is not None and zlib.crc32(rows.data) == place.crc32:
                    whole[number] = place
        return whole


def _begins_with(path: Path, content: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(content)) == content
    except OSError:
        return False


def _open_cut(path: Path, size: int) -> FileIO:
    """Open a file to append behind its first ``size`` bytes; the rest is cut off."""
    # Unbuffered: what could not be written must not be tried again when the file is closed.
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    file.truncate(size)
    file.seek(size)
    return file


def _write(file: FileIO, left: memoryview) -> None:
    while len(left):
        left = left[file.write(left) :]
