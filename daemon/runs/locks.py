"""Locks that die with their holder.

An flock belongs to an open file: when the last process that has it open ends, however it ends, the
lock is gone. A pid in a file may belong to anybody by now; a held lock cannot.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from jobs.errors import WorkspaceError
from jobs.storage.files import explain
from jobs.storage.locks import is_held

RETRY_SECONDS = 0.01
# A probe holds the lock for some microseconds; who finds it held asks again for this long.
PROBE_ALLOWANCE = 0.1


class FileLock:
    """An exclusive flock on ``path``, held from :meth:`acquire` until :meth:`release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, timeout: float = PROBE_ALLOWANCE) -> FileLock | None:
        """Return the lock, or None where another holds it for ``timeout`` seconds.

        Raises:
            WorkspaceError: the file cannot be opened or locked.
        """
        descriptor = _open(path)
        deadline = time.monotonic() + timeout
        while True:
            if _try(path, descriptor):
                return cls(path, descriptor)
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(RETRY_SECONDS)

    def write(self, text: str) -> None:
        """Replace the content of the file: what a person or program should know of the holder."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def release(self) -> None:
        """Close the file; the lock is free unless a child has inherited the descriptor."""
        os.close(self.descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def held_by(path: Path) -> int | None:
    """Return the pid that the holder of ``path`` wrote into it; None where nobody holds it."""
    if not is_held(path):
        return None
    try:
        return int(path.read_text().strip() or 0) or None
    except (OSError, ValueError):
        return None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, path) from error


def _try(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(descriptor)
        raise WorkspaceError(
            f"{path} cannot be locked: {error.strerror}.",
            "The workspace must lie on a file system with flock (a local disk, say).",
        ) from error
    return True
