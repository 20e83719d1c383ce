"""What stands in the files that wandb writes offline, as far as a run's steps need it.

wandb has a reader for them, in Go, that syncs; none for Python. The form is that of LevelDB's log:
blocks of 32 KB, in which a record is whole or in parts, each with a checksum, a length and a kind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from wandb.proto import wandb_internal_pb2

BLOCK = 32_768
HEADER = 7
# Kinds of parts: all of a record, its first, one in between, its last.
WHOLE, FIRST, LAST = 1, 2, 4
STEP = "_step"


def last_step(folder: Path, run_id: str) -> int:
    """Return the last step of a run that files below a folder hold, -1 for none."""
    steps = (row[STEP] for path in files_of(folder, run_id) for row in history(path))
    return max(map(int, steps), default=-1)


def files_of(folder: Path, run_id: str) -> list[Path]:
    """Return the files of a run's sessions, oldest first."""
    return sorted((folder / "wandb").glob(f"*run-*-{run_id}/run-{run_id}.wandb"))


def history(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, with their step under ``_step``; a torn end is left out."""
    for content in records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)
        if record.HasField("history"):
            row = {
                item.key or ".".join(item.nested_key): orjson.loads(item.value_json)
                for item in record.history.item
            }
            yield {STEP: record.history.step.num, **row}


def records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log."""
    at, parts = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # too little is left of a block: it is filled up
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        part = content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if len(part) < length or not kind:
            return
        parts = part if kind in (WHOLE, FIRST) else parts + part
        if kind in (WHOLE, LAST):
            yield parts
