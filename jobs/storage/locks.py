"""Locks that die with their holder.

An flock belongs to an open file: when the last process that has it open ends, however it ends, the
lock is gone. A pid in a file may belong to anybody by now; a held lock cannot. So a lock, not a
clock, says whether a job is alive.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from jobs.errors import JobLocked, WorkspaceError
from jobs.storage.files import explain

RETRY_SECONDS = 0.01
# A probe holds the lock for some microseconds; who finds it held asks again for this long.
PROBE_ALLOWANCE = 0.1
OPEN_FILES = Path("/proc")
BY_HAND = "by hand"
LOCK_NAME = "lock"


def lock_within(descriptor: int, seconds: float = PROBE_ALLOWANCE, *, shared: bool = False) -> bool:
    """Lock an open file; tell whether that came about, or others held it for so long.

    Args:
        shared: whether others may hold it too, shared like this one.

    Raises:
        OSError: the file system has no flock.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_SECONDS)
        else:
            return True


class FileLock:
    """An exclusive lock on a file, held from :meth:`acquire` until :meth:`release`.

    Attributes:
        descriptor: of the open file; a child that inherits it holds the lock too.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, timeout: float = PROBE_ALLOWANCE) -> Self | None:
        """Return the lock, or None where another holds it for ``timeout`` seconds.

        Raises:
            WorkspaceError: the file cannot be opened or locked.
        """
        descriptor = _open(path)
        try:
            if lock_within(descriptor, timeout):
                return cls(path, descriptor)
        except OSError as error:
            os.close(descriptor)
            raise WorkspaceError(
                f"{path} cannot be locked: {error.strerror}.",
                "The workspace must lie on a file system with flock (a local disk, say).",
            ) from error
        os.close(descriptor)
        return None

    def write(self, text: str) -> None:
        """Replace the content of the file: what a person or program should know of the holder."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def release(self) -> None:
        """Close the file; the lock is free unless a child has inherited the descriptor.

        Once is enough, more does no harm.
        """
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class FolderLock(FileLock):
    """A lock in a folder that may be removed: many readers, or one that writes or removes."""

    @classmethod
    def of_folder(
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
        path = folder / name
        while folder.exists():
            try:
                lock = cls(path, _opened(path))
            except FileNotFoundError:  # the folder was removed just now
                return None
            try:
                held = lock_within(lock.descriptor, shared=shared)
            except OSError:
                lock.release()
                raise
            if held and lock.is_current():
                return lock
            lock.release()
            if not held:
                return None
        return None

    def is_current(self) -> bool:
        """Tell whether this is still the folder's lock: the folder may have been removed."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        by_hand: a person has started it; else a daemon has.
    """

    pid: int
    by_hand: bool


@contextmanager
def hold(path: Path, *, by_hand: bool = False) -> Iterator[None]:
    """Hold the lock of a run, and say in its file who does.

    Args:
        by_hand: told to who asks for the :func:`holder`.

    Raises:
        JobLocked: another process holds it.
        WorkspaceError: the file cannot be written or locked.
    """
    lock = FileLock.acquire(path)
    if lock is None:
        raise JobLocked(f"Another process holds {path}: it is running this job.")
    with lock:
        with suppress(OSError):  # on a full disk the lock alone has to do
            lock.write(f"{os.getpid()} {BY_HAND if by_hand else ''}\n")
        yield


def is_held(path: Path) -> bool:
    """Tell whether a live process holds the lock at ``path``.

    Raises:
        WorkspaceError: the file cannot be opened.
        OSError: its file system has no flock.
    """
    if not path.exists():
        return False
    descriptor = _open(path)
    try:
        # Shared: of two who look at the same time, none takes the other for a holder.
        return not lock_within(descriptor, 0.0, shared=True)
    finally:
        os.close(descriptor)


def held_by(path: Path) -> int | None:
    """Return the pid that the holder of ``path`` wrote into it; None where nobody holds it."""
    if not is_held(path):
        return None
    try:
        return int(path.read_text().strip() or 0) or None
    except (OSError, ValueError):
        return None


def holder(path: Path) -> Holder | None:
    """Return the process that holds the lock at ``path``; None where nobody does, or who is unsure.

    What stands in the file counts only while the lock is held, and, where the system tells which
    files a process has open, only if this one is among them: a holder that was killed left its pid
    behind, and for a moment the next one has the lock and has not written its own.
    """
    try:
        pid, _, about = path.read_text().strip().partition(" ")
        found = Holder(int(pid), about == BY_HAND)
    except (OSError, ValueError):
        return None
    return found if found.pid > 1 and _has_open(found.pid, path) and is_held(path) else None


def _has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open; it is believed to where the system does not tell."""
    if not OPEN_FILES.is_dir():
        return True
    with suppress(OSError):  # it has ended, or is of another user
        for link in (OPEN_FILES / str(pid) / "fd").iterdir():
            with suppress(OSError):  # closed just now
                if link.samefile(path):
                    return True
    return False


def _open(path: Path) -> int:
    try:
        return _opened(path)
    except OSError as error:
        raise explain(error, path) from error


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
