"""The locks of a workspace under which jobs change and data are frozen, each held for moments.

Clients and the daemon meet in the same run directories: who moves a job from one state to another,
or takes its directory away, holds the one; who freezes data for a job that does not name them yet,
or removes data that no job names, holds the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.runs.private_folder import private_folder
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.storage.locks import FileLock

STATE_SECONDS = 20.0
# Who freezes data may copy a large file meanwhile.
DATA_SECONDS = 120.0


@contextmanager
def changing(workspace: Workspace) -> Iterator[None]:
    """Hold the lock under which a job's state changes."""
    with _held(workspace, "state.lock", STATE_SECONDS):
        yield


@contextmanager
def freezing(workspace: Workspace) -> Iterator[None]:
    """Hold the lock under which data are frozen, until a job's ``job.json`` names them."""
    with _held(workspace, "imported.lock", DATA_SECONDS):
        yield


@contextmanager
def _held(workspace: Workspace, name: str, limit: float) -> Iterator[None]:
    path = private_folder(workspace) / name
    lock = FileLock.acquire(path, limit)
    if lock is None:
        raise WorkspaceError(f"{path} is held by another process for {limit:.0f} s.")
    with lock:
        yield


def daemon_lock(workspace: Workspace) -> Path:
    """Return the lock that a workspace's daemon holds for its whole life; its pid stands in it."""
    return workspace.private / "daemon.lock"
