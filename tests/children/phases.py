"""The real training child, noting in a shared file what it is doing at every moment.

``python -P phases.py NOTES RUN_DIRECTORY``. Functions are wrapped from outside, so that nothing in
farense knows of it; the file is mapped into memory, so that what it says outlives a SIGKILL.
"""

from __future__ import annotations

import functools
import mmap
import struct
import sys
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any


class Phase(IntEnum):
    """What a child is doing."""

    OTHER = 0
    """Anything else: importing, loading, the first step of an update, the end."""
    FILL = 1
    """Filling the prefix cache."""
    UPDATE = 2
    """Some gradients of an update are accumulated, and the update is not made."""
    VALIDATION = 3
    CHECKPOINT = 4


ENTRY = struct.Struct("<QQ")  # beginnings, nanoseconds of the shortest
FIRST_ENTRY = 8  # after the byte that says the phase
SIZE = FIRST_ENTRY + ENTRY.size * len(Phase)


class Notes:
    """A shared file: the phase now; how often each began, and how long it took at least."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    @property
    def phase(self) -> Phase:
        return Phase(self._map[0])

    def beginnings(self, phase: Phase) -> int:
        return self._entry(phase)[0]

    def shortest_seconds(self, phase: Phase) -> float:
        return self._entry(phase)[1] / 1e9

    def begin(self, phase: Phase) -> None:
        count, shortest = self._entry(phase)
        self._map[0] = phase  # first: who waits for the count looks at the phase next
        self._write(phase, count + 1, shortest)

    def end(self, phase: Phase, nanoseconds: int, then: Phase) -> None:
        self._map[0] = then
        count, shortest = self._entry(phase)
        self._write(phase, count, min(shortest or nanoseconds, nanoseconds))

    def _entry(self, phase: Phase) -> tuple[int, int]:
        count, shortest = ENTRY.unpack_from(self._map, FIRST_ENTRY + ENTRY.size * phase)
        return count, shortest

    def _write(self, phase: Phase, count: int, shortest: int) -> None:
        ENTRY.pack_into(self._map, FIRST_ENTRY + ENTRY.size * phase, count, shortest)


def note_calls(notes: Notes, phase: Phase, owner: Any, name: str) -> None:
    """Wrap a function: while it runs, the phase is ``phase``; then it is what it was before."""
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        before = notes.phase
        notes.begin(phase)
        started = time.perf_counter_ns()
        try:
            return function(*arguments, **options)
        finally:
            notes.end(phase, time.perf_counter_ns() - started, before)

    setattr(owner, name, noted)


def note_updates(notes: Notes, engine: Any) -> None:
    """Note an update from the end of its first step to its own end."""
    step, update = engine.step, engine.update
    started = 0

    @functools.wraps(step)
    def noted_step(*arguments: Any, **options: Any) -> Any:
        nonlocal started
        result = step(*arguments, **options)
        if notes.phase is not Phase.UPDATE:
            notes.begin(Phase.UPDATE)
            started = time.perf_counter_ns()
        return result

    @functools.wraps(update)
    def noted_update(*arguments: Any, **options: Any) -> Any:
        result = update(*arguments, **options)
        notes.end(Phase.UPDATE, time.perf_counter_ns() - started, Phase.OTHER)
        return result

    engine.step, engine.update = noted_step, noted_update


def main() -> int:
    """Run the child; all of it counts as a beginning of ``Phase.OTHER``."""
    import jobs.__main__
    import jobs.training.trainer
    from jobs.prefix.cache import PrefixCache
    from jobs.training.engine import Engine

    notes = Notes(Path(sys.argv[1]))
    note_calls(notes, Phase.FILL, PrefixCache, "fill")
    note_calls(notes, Phase.VALIDATION, jobs.training.trainer.Trainer, "_measure")
    note_calls(notes, Phase.CHECKPOINT, jobs.training.trainer, "save_checkpoint")
    note_updates(notes, Engine)
    note_calls(notes, Phase.OTHER, jobs.__main__, "main")
    return int(jobs.__main__.main([sys.argv[2]]))


if __name__ == "__main__":
    sys.exit(main())
