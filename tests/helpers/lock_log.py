"""The locks' own log: who ran a job, when, and the proof that nobody did so beside another.

Every child writes a line when it has got ``run.lock``, before each write of its own, and before it
lets go. Lines are appended in one write each, so the file puts them in one order. Of two children
at a time, both writing, the lines would alternate; and should one of them not write, the other
finds a second lock held: one in the tests' own folder, that farense does not know of.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.helpers.phase_notes import Lines, read_lines

ACQUIRED, WROTE, RELEASED, OVERLAP = "acquired", "wrote", "released", "overlap"


class LockLog:
    """Logs what one child does with its lock.

    Args:
        path: of the log; the second lock lies beside it.
    """

    def __init__(self, path: Path, attempt: int) -> None:
        self._lines = Lines(path)
        self._attempt = attempt
        # Opened before run.lock is: the kernel closes the files of a killed process in the order of
        # their numbers, so this lock is free whenever that one is.
        self._witness = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Log that the lock is held as long as this context."""
        try:
            fcntl.flock(self._witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._add(OVERLAP)
        self._add(ACQUIRED)
        try:
            yield
        finally:
            self._add(RELEASED)
            fcntl.flock(self._witness, fcntl.LOCK_UN)

    def install(self, program: ModuleType, files: ModuleType) -> None:
        """Log what ``jobs.__main__`` does with its lock, and what is written meanwhile."""
        hold = program.hold

        @contextmanager
        def held(path: Path, **about: bool) -> Iterator[None]:
            with hold(path, **about), self.holding():
                yield

        program.hold = held  # type: ignore[attr-defined]
        for name in ("_written_beside", "write_line"):
            setattr(files, name, self._logged(getattr(files, name)))

    def _logged(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def logged(*arguments: Any) -> Any:
            self._add(WROTE)
            return write(*arguments)

        return logged

    def _add(self, what: str) -> None:
        self._lines.add(what=what, pid=os.getpid(), attempt=self._attempt)


def overlaps(path: Path) -> list[str]:
    """Return what in a log tells of two children at a time, or of an attempt that came back."""
    found: list[str] = []
    before: tuple[int, int] | None = None
    seen: list[tuple[int, int]] = []
    for number, line in enumerate(read_lines(path), 1):
        who = line["attempt"], line["pid"]
        name = f"line {number}: attempt {who[0]} (pid {who[1]}) {line['what']}"
        if line["what"] == OVERLAP:
            found.append(f"{name}: another held the lock")
        elif who == before:
            continue
        elif who in seen:
            found.append(f"{name} after attempt {before and before[0]} had begun")
        elif line["what"] != ACQUIRED:
            found.append(f"{name} without the lock")
        elif seen and who[0] <= max(attempt for attempt, _ in seen):
            found.append(f"{name} after attempt {seen[-1][0]}")
        seen.append(who)
        before = who
    return found


def runs(path: Path) -> list[int]:
    """Return the attempts that got the lock, in their order."""
    return [line["attempt"] for line in read_lines(path) if line["what"] == ACQUIRED]
