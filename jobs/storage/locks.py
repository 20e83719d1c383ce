"""``run.lock``: a lock, not a clock, says whether a job is alive."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobLocked
from jobs.storage.files import explain

RETRY_SECONDS = 0.01
# A probe holds the lock for some microseconds; who finds it held asks again for this long.
PROBE_ALLOWANCE = 0.1
OPEN_FILES = Path("/proc")
BY_HAND = "by hand"


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
    """Hold the lock at ``path`` exclusively; the kernel lets go of it when the process ends.

    Args:
        by_hand: told to who asks for the :func:`holder`.

    Raises:
        JobLocked: another process holds it.
        WorkspaceError: the file cannot be written.
    """
    descriptor = _open(path)
    try:
        if not _locked(descriptor):
            raise JobLocked(f"Another process holds {path}: it is running this job.")
        with suppress(OSError):  # on a full disk the lock alone has to do
            _write(descriptor, f"{os.getpid()} {BY_HAND if by_hand else ''}\n")
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a live process holds the lock at ``path``."""
    if not path.exists():
        return False
    descriptor = _open(path)
    try:
        # Shared: of two who look at the same time, none takes the other for a holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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


def _locked(descriptor: int) -> bool:
    deadline = time.monotonic() + PROBE_ALLOWANCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_SECONDS)
        else:
            return True


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


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
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, path) from error
