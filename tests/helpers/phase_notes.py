"""What a child is doing at every moment: it notes when a phase begins and when it ends.

One JSON object a line, appended, so that what a killed child noted stays. Times are of the clock
that all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from jobs.storage.files import whole_lines


class Phase(StrEnum):
    """The parts of a job's life in which it is struck."""

    START = "start"
    """From the first line of the program to the event ``started``; it takes ``run.lock`` here."""
    FILL = "fill"
    """Filling the prefix cache."""
    STEPS = "steps"
    VALIDATION = "validation"
    CHECKPOINT = "checkpoint"
    FINISH = "finish"
    """Writing the summary and the event ``finished``, until the process is gone."""


@dataclass(frozen=True)
class Span:
    """A phase that a process was in.

    Attributes:
        end: None where it never came to that: it was killed.
        broken: it ended by an error, or with the process.
    """

    phase: Phase
    pid: int
    attempt: int
    begin: float
    end: float | None
    broken: bool = False

    def holds(self, first: float, last: float) -> bool:
        """Tell whether the process was in the phase from ``first`` to ``last``, or fell at that."""
        if self.end is None:
            return self.begin <= first
        return self.begin <= first <= self.end and (self.broken or last <= self.end)


class Notebook:
    """Writes the notes of one process."""

    def __init__(self, path: Path, attempt: int) -> None:
        self._lines = Lines(path)
        self._attempt = attempt
        self._open: list[Phase] = []

    def begin(self, phase: Phase) -> None:
        self._open.append(phase)
        self._note("begin", phase)

    def end(self, phase: Phase, *, broken: bool = False) -> None:
        self._open.remove(phase)
        self._note("end", phase, broken=broken)

    def close(self, *, broken: bool) -> None:
        """Note that the process ends, and with it whatever it was in."""
        while self._open:
            self.end(self._open[-1], broken=broken)

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Note that the phase lasts as long as this context."""
        self.begin(phase)
        try:
            yield
        except BaseException:
            self.end(phase, broken=True)
            raise
        self.end(phase)

    def enter(self, phase: Phase) -> None:
        """Note that the phase begins, unless the process is in it already."""
        if phase not in self._open:
            self.begin(phase)

    def leave(self, phase: Phase) -> None:
        """Note that the phase ends, if the process is in it."""
        if phase in self._open:
            self.end(phase)

    def _note(self, what: str, phase: Phase, **values: Any) -> None:
        self._lines.add(what=what, phase=phase, pid=os.getpid(), attempt=self._attempt, **values)


class Lines:
    """A file to which several processes append JSON objects, each in one write: none is torn."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def add(self, **values: Any) -> None:
        """Append an object, with the time."""
        line = orjson.dumps({**values, "at": time.monotonic(), "wall": time.time()}) + b"\n"
        assert os.write(self._descriptor, line) == len(line)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file; none where there is no file."""
    return [orjson.loads(line) for line in whole_lines(path)] if path.exists() else []


def spans(path: Path) -> list[Span]:
    """Return the phases in a file of notes, in the order in which they began."""
    found: list[Span] = []
    for line in read_lines(path):
        phase, pid = Phase(line["phase"]), line["pid"]
        if line["what"] == "begin":
            found.append(Span(phase, pid, line["attempt"], line["at"], None))
            continue
        place = max(i for i, span in enumerate(found) if (span.phase, span.pid) == (phase, pid))
        ended = line["at"], line["broken"]
        found[place] = Span(phase, pid, line["attempt"], found[place].begin, *ended)
    return found
