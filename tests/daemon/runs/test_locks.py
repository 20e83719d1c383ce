"""Locks that die with their holder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jobs.storage.locks import FileLock, held_by, hold, is_held
from tests.helpers.waiting import wait_until

HOLDER = """
import sys, threading
from pathlib import Path
from jobs.storage.locks import FileLock
lock = FileLock.acquire(Path(sys.argv[1]))
lock.write("4711")
threading.Event().wait()
"""

WATCHER = """
import sys
from pathlib import Path
from jobs.storage.locks import is_held
path = Path(sys.argv[1])
path.write_text("")
while True:
    is_held(path)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not is_held(path)
    first = FileLock.acquire(path)
    assert first is not None
    with first:
        assert is_held(path)
        assert FileLock.acquire(path, timeout=0.05) is None
    assert not is_held(path)
    again = FileLock.acquire(path)
    assert again is not None
    again.release()


def test_the_holder_leaves_its_pid_and_the_lock_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holder = subprocess.Popen([sys.executable, "-P", "-c", HOLDER, path])
    wait_until(lambda: held_by(path) == 4711, "the lock")
    holder.kill()
    holder.wait()
    # The number still stands there, and means nothing.
    assert path.read_text() == "4711"
    assert held_by(path) is None


def test_a_holder_that_wrote_nothing_has_no_pid(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "a.lock")
    assert lock is not None
    with lock:
        assert held_by(tmp_path / "a.lock") is None


def test_who_looks_whether_a_job_runs_does_not_keep_it_from_running(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.write_text("not yet")
    with subprocess.Popen([sys.executable, "-P", "-c", WATCHER, path]) as watcher:
        try:
            wait_until(lambda: path.read_text() == "", "the watcher")
            for _ in range(2000):
                with hold(path):
                    pass
        finally:
            watcher.kill()
