"""The files of checkpoints, read without MLX: whether they are there and whole.

A command that lets a job go on looks at them before the job is queued.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.errors import CheckpointError
from jobs.paths import CHECKPOINT, RunDirectory
from jobs.storage.files import from_plain, read_json, sha256_of

VERSION = 2
DESCRIPTION = "checkpoint.json"
# What reading a checkpoint that is not whole raises.
TORN = (OSError, ValueError, KeyError, TypeError, AttributeError)


def checkpoint_folders(run: RunDirectory) -> list[Path]:
    """Return the checkpoint folders of a run, whole or not, in no order."""
    return [path for path in run.path.glob("checkpoint_epoch*") if CHECKPOINT.fullmatch(path.name)]


def newest_first(run: RunDirectory) -> Iterator[Path]:
    """Yield the checkpoint folders of a run, whole or not, from the newest to the oldest."""
    yield from sorted(checkpoint_folders(run), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """Return the step that a checkpoint folder's name gives."""
    match = CHECKPOINT.fullmatch(path.name)
    if not match:
        raise CheckpointError(f"{path} is not a checkpoint folder.")
    return int(match[2])


def described(path: Path) -> dict[str, Any]:
    """Return the ``checkpoint.json`` of a checkpoint, once all its files are what it says.

    Raises:
        CheckpointError: a newer farense wrote it.
        OSError, ValueError, KeyError, TypeError, AttributeError: it is not whole (:data:`TORN`).
    """
    values: dict[str, Any] = from_plain(read_json(path / DESCRIPTION))
    if values["version"] > VERSION:
        raise CheckpointError(f"{path} was written by a newer farense.", "Update farense.")
    if values["version"] < VERSION:
        raise ValueError("an older farense wrote it")
    for name, digest in values["files"].items():
        if sha256_of(path / name) != digest:
            raise ValueError(f"{name} does not match its checksum")
    return values
