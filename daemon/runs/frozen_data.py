"""Files frozen by content, which later edits do not reach: ``data/imported/<sha256>.jsonl``.

The adapter that a training starts from lies beside the data, as ``<sha256>.safetensors``.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import IO

from daemon.runs.private_folder import PRIVATE
from jobs.errors import DataError
from jobs.paths import Workspace
from jobs.storage.files import explain, sha256_of, write_atomic, write_with


def frozen_path(digest: str, workspace: Workspace, ending: str = "jsonl") -> Path:
    """Return where a file of a SHA-256 digest stands once it is frozen."""
    return workspace.imported / f"{digest}.{ending}"


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


def freeze_content(content: bytes, ending: str, workspace: Workspace) -> tuple[Path, str]:
    """Write ``content`` to where it names itself, unless it is there; return path and SHA-256.

    Raises:
        WorkspaceError: the workspace cannot be written.
    """
    digest = hashlib.sha256(content).hexdigest()
    target = frozen_path(digest, workspace, ending)
    if not target.exists():
        _make_private(target.parent)
        write_atomic(target, content)
        target.chmod(0o444)
    return target, digest


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
