"""Reading files of other forms, a row at a time: however large one is, little of it is in memory.

What a file is, its first bytes tell; its name counts only where they leave it open.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from jobs.data.examples import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    Problem,
    numbered_lines,
    read_object,
    unreadable,
)
from jobs.data.foreign_form import (
    LOOK_BYTES,
    ForeignForm,
    of_bytes,
    of_text,
    starts_with_object,
    with_names,
)
from jobs.errors import DataError

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
LINES_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
TABLE_ENDINGS = (".csv", ".tsv", ".tab")
DELIMITERS = {",": "CSV", ";": "CSV with semicolons", "\t": "TSV"}
TABLES = frozenset(DELIMITERS.values())
# Of a table, by which its delimiter is told.
LOOK_RECORDS = 10
# Of a Parquet file, decoded at a time.
BATCH_BYTES, BATCH_ROWS = 4_000_000, 1024
READ_AHEAD = 1 << 18

Row = tuple[int, dict[str, Any] | Problem]


@dataclass(frozen=True)
class SourceFile:
    """A file whose rows can be read.

    Attributes:
        kind: what it is, for people.
        unit: what its rows are counted in: ``line``, ``element`` or ``row``.
        columns: of a table; empty where each row has its own keys.
        rows: reads it from the beginning: each row's number, and its values or why it has none.
    """

    path: Path
    kind: str
    unit: str
    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]


def open_source(path: Path) -> SourceFile:
    """Look at a file, and return how to read it.

    Raises:
        DataError: it is missing, unreadable, empty, or nothing of which rows can be read.
    """
    start, packed = _start(path)
    if start.startswith(PARQUET):
        return _parquet(path)
    name = path.name.lower().removesuffix(".gz") if packed else path.name.lower()
    if (found := of_bytes(start)) is not None:
        raise _no_rows(path, found)
    text = start.decode("utf-8", "ignore").lstrip("\ufeff").lstrip()
    if not text:
        raise DataError(f"{path} is empty.", "Name a file with rows in it.")
    open_it = partial(_opened, path, packed=packed)
    if text.startswith("["):
        return SourceFile(path, "a JSON array", "element", (), lambda: _elements(path, open_it))
    if name.endswith(LINES_ENDINGS) or starts_with_object(text.partition("\n")[0]):
        return SourceFile(path, "JSON Lines", "line", (), lambda: _lines(path, open_it))
    found = of_text(text)
    if not name.endswith(TABLE_ENDINGS) and found is not None and not found.is_table:
        raise _no_rows(path, found)
    if name.endswith(TABLE_ENDINGS) or found is not None:
        return _table(path, text, name, open_it)
    raise DataError(
        f"{path} is neither JSON Lines, a JSON array, CSV, TSV nor Parquet.",
        "A table begins with a line that names its columns.",
    )


def _opened(path: Path, *, packed: bool) -> IO[bytes]:
    """Open a file, which is unpacked while it is read where it is packed."""
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _start(path: Path) -> tuple[bytes, bool]:
    """Return how a file begins, unpacked, and whether it is packed by gzip."""
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder.", "Name the files in it.")
        with path.open("rb") as file:
            start = file.read(LOOK_BYTES)
        if not start.startswith(GZIP):
            return start, False
        with gzip.open(path, "rb") as unpacked:
            return unpacked.read(LOOK_BYTES), True
    except (EOFError, gzip.BadGzipFile) as error:
        raise _broken_gzip(path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _no_rows(path: Path, found: ForeignForm) -> DataError:
    action = with_names(found.action, path)
    return DataError(f"{path} looks like {found.what}: farense reads no rows of it.", action)


def _broken_gzip(path: Path) -> DataError:
    return DataError(f"{path} breaks off: it is no whole gzip file.", "Download or pack it anew.")


def _lines(path: Path, open_it: Callable[[], IO[bytes]]) -> Iterator[Row]:
    try:
        with open_it() as file:
            for number, line in numbered_lines(file):
                yield number, read_object(line, number)
    except (EOFError, gzip.BadGzipFile) as error:
        raise _broken_gzip(path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _elements(path: Path, open_it: Callable[[], IO[bytes]]) -> Iterator[Row]:
    import ijson  # noqa: PLC0415 - only an import of such a file needs it

    number = 0
    try:
        with open_it() as file:
            if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
                file.seek(0)
            for element in ijson.items(file, "item", use_float=True):
                number += 1
                if isinstance(element, dict):
                    yield number, element
                else:
                    yield number, Problem(number, f"no object, but {type(element).__name__}")
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else "broken"
        raise DataError(
            f"{path} is not valid JSON after element {number}: {reason}.",
            "The array has to be whole: download or write it anew.",
        ) from error
    except EOFError as error:
        raise _broken_gzip(path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _table(path: Path, text: str, name: str, open_it: Callable[[], IO[bytes]]) -> SourceFile:
    delimiter = "\t" if name.endswith((".tsv", ".tab")) else _delimiter(text)
    header = next(_records(path, delimiter, open_it))[1]
    columns = tuple(column.strip() for column in header)
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(
            f"{path} has more than one column {', '.join(twice)}.",
            "Rename the columns in its first line: each name once.",
        )

    def rows() -> Iterator[Row]:
        records = _records(path, delimiter, open_it)
        next(records)
        for line, record in records:
            if len(record) != len(columns):
                reason = f"{len(record)} fields, and the header has {len(columns)}"
                yield line, Problem(line, reason)
            else:
                # A column without a name is the row number that other programs write.
                yield line, {key: value for key, value in zip(columns, record, strict=True) if key}

    return SourceFile(path, DELIMITERS[delimiter], "line", tuple(filter(None, columns)), rows)


def _delimiter(text: str) -> str:
    """Return what separates the columns: what gives each record as many fields as the header."""

    def fields(delimiter: str) -> tuple[bool, int]:
        widths = []
        for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            widths += [len(record)] if record else []
            if len(widths) == LOOK_RECORDS:
                break
        # The last record that was looked at may be cut.
        return len(set(widths[:-1] or widths)) == 1, widths[0]

    try:
        return max(DELIMITERS, key=lambda it: (fields(it)[1] > 1, *fields(it)))
    except csv.Error:
        return ","


def _records(
    path: Path, delimiter: str, open_it: Callable[[], IO[bytes]]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of a table, and the line on which each begins; the header is the first."""
    csv.field_size_limit(MAX_LINE_BYTES)
    begins = 1
    try:
        with (
            open_it() as file,
            io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text,
        ):
            reader = csv.reader(text, delimiter=delimiter)
            for record in reader:
                if any(not field.isascii() and _undecoded(field) for field in record):
                    raise DataError(
                        f"{path}, line {begins}: not UTF-8.",
                        "Save the table as UTF-8 (in Excel: CSV UTF-8), or with "
                        "iconv -f WINDOWS-1252 -t UTF-8.",
                    )
                if record:
                    yield begins, record
                begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {begins}: no record of a table: {error}.",
            'Often a quote is opened there and not closed; within quotes, write " twice.',
        ) from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise _broken_gzip(path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _undecoded(field: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in field)


def _parquet(path: Path) -> SourceFile:
    import pyarrow as pa  # noqa: PLC0415 - takes a third of a second; only such a file needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    def opened() -> pq.ParquetFile:
        # Read page by page: else a column of a row group is in memory as a whole, and there are
        # files of one row group.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_AHEAD)

    def broken(error: Exception) -> DataError:
        reason = str(error).splitlines()[0][:200]
        return DataError(
            f"{path} cannot be read as Parquet: {reason}", "Download or write it anew."
        )

    def rows() -> Iterator[Row]:
        number = 0
        try:
            with opened() as file:
                for batch in file.iter_batches(_batch_rows(file.metadata), use_threads=False):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except (pa.ArrowException, OSError) as error:
            raise broken(error) from error

    try:
        with opened() as file:
            columns = tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise broken(error) from error
    return SourceFile(path, "Parquet", "row", columns, rows)


def _batch_rows(metadata: Any) -> int:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    rows: int = BATCH_BYTES * metadata.num_rows // max(size, 1)
    return max(1, min(BATCH_ROWS, rows))
