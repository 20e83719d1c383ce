"""Data frozen by content: ``data/imported/<sha256>.jsonl``, which later edits do not reach."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO

from daemon.runs.private_folder import PRIVATE
from jobs.errors import DataError
from jobs.paths import Workspace
from jobs.storage.files import explain, sha256_of, write_with


def frozen_path(digest: str, workspace: Workspace) -> Path:
    """Return where data of a SHA-256 digest stand once they are frozen."""
    return workspace.imported / f"{digest}.jsonl"


def freeze(source: Path, digest: str, workspace: Workspace) -> Path:
    """Copy a data file to where its content names it, unless it is there; return that path.

    Raises:
        DataError: the file has changed since ``digest`` was taken.
        WorkspaceError: the workspace cannot be written.
    """
    target = frozen_path(digest, workspace)
    if not target.exists():
        _make_private(target.parent)
        write_with(target, partial(_copy, source))
        if sha256_of(target) != digest:
            target.unlink()
            raise DataError(f"{source} changed while it was being copied.", "Enqueue again.")
        target.chmod(0o444)
    return target


def _make_private(folder: Path) -> None:
    """Make a folder for the user alone, where there is none."""
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error


def _copy(source: Path, target: IO[bytes]) -> None:
    with source.open("rb") as file:
        while chunk := file.read(1 << 20):
            target.write(chunk)
