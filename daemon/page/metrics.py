"""The rows of a job's metrics file, read on from where a page has come to."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import orjson

from jobs.paths import RunDirectory

# What is drawn; a row holds more.
DRAWN = ("step", "loss", "val_loss", "train_eval_loss", "overfitting_gap", "learning_rate")
MARK = re.compile(r"(\d{1,15})-(\d{1,15})-(\d{1,10})")
# As much of the file as is read at a time: a page asks again while there is more.
CHUNK = 4_000_000


def rows_after(run: RunDirectory, mark: str) -> dict[str, Any]:
    """Return the rows that stand after a mark, and the mark of their end.

    A mark tells where a row ends, and what it held: an attempt that resumes cuts the file back, and
    a page that knows rows which are gone is given all of them anew.

    Args:
        mark: what came with the rows before; empty for the beginning.
    """
    path, start = run.metrics, _start(run.metrics, mark)
    try:
        with path.open("rb") as file:
            file.seek(start or 0)
            data = file.read(CHUNK)
    except OSError:
        data = b""
    whole = data[: data.rfind(b"\n") + 1]
    lines = [line for line in whole.split(b"\n") if line.strip()]
    end = (start or 0) + len(whole)
    at = _mark(end, lines[-1]) if lines else (mark if start else "")
    rows = [found for line in lines if (found := _row(line)) is not None]
    return {"anew": start is None, "columns": DRAWN, "rows": rows, "mark": at,
            "more": len(data) == CHUNK}  # fmt: skip


def _mark(end: int, line: bytes) -> str:
    return f"{end}-{len(line)}-{zlib.crc32(line)}"


def _start(path: Path, mark: str) -> int | None:
    """Return where a mark points to; None where that row is not there any more, or never was."""
    found = MARK.fullmatch(mark)
    if found is None:
        return None
    end, length, checksum = map(int, found.groups())
    if not 0 < length < min(end, CHUNK):
        return None
    try:
        with path.open("rb") as file:
            file.seek(end - length - 1)
            line = file.read(length + 1)
    except OSError:
        return None
    intact = line.endswith(b"\n") and zlib.crc32(line[:-1]) == checksum
    return end if intact else None


def _row(line: bytes) -> list[Any] | None:
    try:
        values = orjson.loads(line)
        return [values.get(name) for name in DRAWN]
    except (ValueError, AttributeError):
        return None
