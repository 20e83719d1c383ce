"""``run.lock``: a lock, not a clock, says whether a job is alive."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import JobLocked
from jobs.files import explain


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock at ``path`` exclusively; the kernel lets go of it when the process ends.

    Raises:
        JobLocked: another process holds it.
        WorkspaceError: the file cannot be written.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JobLocked(f"Another process holds {path}: it is running this job.") from error
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a live process holds the lock at ``path``."""
    if not path.exists():
        return False
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, path) from error
