"""A prefix cache with known content, and processes that fill it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.prefix.cache import PrefixCache
from jobs.prefix.entry import Entry, Layout, Rows
from jobs.prefix.listing import EntryState
from tests.children.prefix_filler import digest_of, key_of, layout_of, rows_of
from tests.helpers.waiting import wait_until

EXAMPLES = 100
NEVER = 10**9


@dataclass
class Filling:
    """Fills entries in this process and remembers what it computed."""

    cache: PrefixCache
    layout: Layout = field(default_factory=lambda: layout_of(EXAMPLES))
    computed: list[int] = field(default_factory=list)
    progress: list[int] = field(default_factory=list)
    before_chunk: Callable[[], object] = lambda: None

    def compute(self, indices: Sequence[int]) -> list[Rows]:
        self.before_chunk()
        self.computed += indices
        return [rows_of(self.layout, index) for index in indices]

    def fill(
        self,
        name: str = "a",
        stop: Callable[[], str | None] = lambda: None,
        wanted: Sequence[int] | None = None,
    ) -> Entry:
        about = {"model": "tiny", "data": "train.jsonl", "boundary": "22"}
        chosen = self.all if wanted is None else wanted
        told = self.compute, lambda done, total: self._progress(done, total, len(chosen)), stop
        return self.cache.fill(key_of(name), self.layout, chosen, about, *told)

    @property
    def all(self) -> range:
        return range(len(self.layout.lengths))

    def _progress(self, done: int, total: int, expected: int) -> None:
        assert total == expected
        self.progress.append(done)


class Filler:
    """A process that fills the entry `a`.

    Args:
        folder: of the cache.
        scratch: where its log goes.
        pause_at: from this example on, each chunk waits for :meth:`go_on`.
    """

    def __init__(self, folder: Path, scratch: Path, *, pause_at: int = NEVER) -> None:
        scratch.mkdir()
        self._log, self._go = scratch / "log", scratch / "go"
        spec = {
            "folder": str(folder),
            "log": str(self._log),
            "go": str(self._go),
            "pause_at": pause_at,
            "examples": EXAMPLES,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.children.prefix_filler", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def computed(self) -> list[int]:
        words = [line.split() for line in self.lines()]
        return [int(line[1]) for line in words if line[0] == "computed"]

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self.lines(), line)

    def go_on(self) -> None:
        self._go.touch()

    def digest(self) -> str:
        """Return what it read, once it is done; it keeps the entry open."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        self.process.communicate(timeout=30)


def states(cache: PrefixCache) -> dict[str, EntryState]:
    """Return the entries by name, with their states."""
    names = {key_of(name): name for name in "abcd"}
    return {names[entry.key]: entry.state for entry in cache.listing()}


def content(cache: PrefixCache, name: str = "a") -> dict[str, bytes]:
    folder = cache.folder / key_of(name)
    return {name: (folder / name).read_bytes() for name in ("states.bin", "index")}


def fresh_digest(cache: PrefixCache, name: str) -> str:
    """Return the digest of the same examples, filled as ``name`` without an interruption."""
    with Filling(cache).fill(name) as entry:
        return digest_of(entry)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    with path.open("rb+") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
