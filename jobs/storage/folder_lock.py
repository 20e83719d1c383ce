"""A lock in a folder that may itself be removed: many readers, or one that writes or removes."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

LOCK_NAME = "lock"
RETRY_SECONDS = 0.01
# Who only looks whether a folder is in use holds its lock for some microseconds: ask for this long.
PROBE_ALLOWANCE = 0.1


class FolderLock:
    """An flock on a file in a folder, held from :meth:`acquire` until :meth:`release`.

    The kernel lets go of it when the process ends.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(
        cls, folder: Path, *, shared: bool = False, name: str = LOCK_NAME
    ) -> FolderLock | None:
        """Return the lock, or None where there is no such folder or others hold it.

        Args:
            folder: what is locked.
            shared: whether others may hold it too, shared like this one.
            name: of the lock's file: a folder may have several.

        Raises:
            OSError: the folder cannot be written, or its file system has no flock.
        """
        deadline = time.monotonic() + PROBE_ALLOWANCE
        while folder.exists():
            if lock := cls._try(folder / name, shared):
                return lock
            if time.monotonic() >= deadline:
                return None
            time.sleep(RETRY_SECONDS)
        return None

    @classmethod
    def _try(cls, path: Path, shared: bool) -> FolderLock | None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the folder was removed just now
            return None
        lock = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if lock.is_current():
                return lock
        except BlockingIOError:
            pass  # held by another
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def is_current(self) -> bool:
        """Tell whether this is still the folder's lock: the folder may have been removed."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others have the folder; once is enough, more does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
