"""Filling an entry of the prefix cache, so that a crash loses at most the last few examples."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from jobs.files import sync_folder, write_with
from jobs.prefix.entry import (
    CRC_TYPE,
    ENTRY,
    FILLED,
    FILLING,
    INDEX,
    INDEX_TYPE,
    STATES,
    Layout,
    Rows,
    read_rows,
)


class EntryWriter:
    """Fills an entry, going on where another process stopped.

    Args:
        folder: of the entry, with its ``filling.json``; the caller holds its lock, exclusively.
        layout: what it will hold.

    Raises:
        OSError: the disk is full or cannot be written; also from every method.
        WorkspaceError: the same, for the small files.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._first_rows = layout.first_rows
        self._crcs = self._whole_examples()
        self._states = _open_cut(folder / STATES, int(self._first_rows[self.done]) * self._row)
        self._filled = _open_cut(folder / FILLED, self.done * CRC_TYPE.itemsize)

    @property
    def done(self) -> int:
        """Examples that are on disk."""
        return len(self._crcs)

    @property
    def _row(self) -> int:
        return self._layout.row_bytes

    def append(self, examples: Sequence[Rows]) -> None:
        """Write the next examples, each of shape [length, row_bytes].

        Raises:
            ValueError: one has another shape than the layout says.
        """
        for number, rows in enumerate(examples, self.done):
            expected = (self._layout.lengths[number], self._row)
            if rows.shape != expected or rows.dtype != np.uint8:
                raise ValueError(f"example {number} is {rows.dtype} {rows.shape}, not {expected}")
        contents = [np.ascontiguousarray(rows) for rows in examples]
        for content in contents:
            _write(self._states, content)
        os.fsync(self._states.fileno())
        crcs = [zlib.crc32(content.data) for content in contents]
        _write(self._filled, np.array(crcs, CRC_TYPE).view(np.uint8))
        self._crcs += crcs

    def complete(self) -> None:
        """Make the filled entry one that others may open."""
        index = np.zeros(self.done, INDEX_TYPE)
        index["first"] = self._first_rows[:-1]
        index["rows"] = self._layout.lengths
        index["crc32"] = self._crcs
        write_with(self._folder / INDEX, lambda file: np.save(file, index, allow_pickle=False))
        (self._folder / FILLING).rename(self._folder / ENTRY)
        sync_folder(self._folder)
        (self._folder / FILLED).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files; what is filled stays for the next one."""
        self._states.close()
        self._filled.close()

    def _whole_examples(self) -> list[int]:
        """Return the CRC-32 of the examples on disk, up to the first that is not whole."""
        if not (self._folder / FILLED).exists() or not (self._folder / STATES).exists():
            return []
        noted = np.fromfile(self._folder / FILLED, CRC_TYPE)[: len(self._layout.lengths)]
        whole: list[int] = []
        with (self._folder / STATES).open("rb") as file:
            for first, length, crc in zip(
                self._first_rows, self._layout.lengths, noted.tolist(), strict=False
            ):
                rows = read_rows(file.fileno(), int(first), length, self._row)
                if rows is None or zlib.crc32(rows.data) != crc:
                    break
                whole.append(crc)
        return whole


def filled_examples(folder: Path) -> int:
    """Return how many examples of a half-filled entry are on disk."""
    try:
        return (folder / FILLED).stat().st_size // CRC_TYPE.itemsize
    except OSError:
        return 0


def _open_cut(path: Path, size: int) -> FileIO:
    """Open a file to append behind its first ``size`` bytes; the rest is cut off."""
    # Unbuffered: what could not be written must not be tried again when the file is closed.
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    file.truncate(size)
    file.seek(size)
    return file


def _write(file: FileIO, content: Rows) -> None:
    left = content.reshape(-1).data
    while len(left):
        left = left[file.write(left) :]
