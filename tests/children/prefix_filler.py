"""Fills an entry of a prefix cache in a process of its own; told by one JSON object what to do.

Every example that is computed goes to the log at once, so that a killed filler leaves word of it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.prefix.cache import PrefixCache
from jobs.prefix.entry import Entry, Layout, Rows
from tests.helpers.waiting import wait_until

WIDTH = 48


def layout_of(examples: int) -> Layout:
    """Return the layout of some examples of different lengths; one of them is empty."""
    return Layout(tuple((7 * index) % 23 for index in range(examples)), WIDTH, "float16")


def key_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def rows_of(layout: Layout, index: int) -> Rows:
    """Return the rows that example ``index`` always has."""
    shape = (layout.lengths[index], layout.row_bytes)
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def digest_of(entry: Entry) -> str:
    """Return the SHA-256 of everything an entry gives back."""
    digest = hashlib.sha256()
    for index in range(len(entry.layout.lengths)):
        digest.update(entry.read(index).data)
    return digest.hexdigest()


def main() -> None:
    spec = json.loads(sys.argv[1])
    log, go, layout = Path(spec["log"]), Path(spec["go"]), layout_of(spec["examples"])

    def say(line: str) -> None:
        with log.open("a") as file:
            file.write(line + "\n")

    def compute(indices: Sequence[int]) -> list[Rows]:
        for index in indices:
            say(f"computed {index}")
        if indices[0] >= spec["pause_at"]:
            wait_until(go.exists, "the word to go on")
        return [rows_of(layout, index) for index in indices]

    def progress(done: int, total: int) -> None:
        say(f"progress {done} of {total}")

    cache = PrefixCache(Path(spec["folder"]), budget_gb=1)
    wanted = range(spec["examples"])
    with cache.fill(key_of("a"), layout, wanted, {}, compute, progress, lambda: None) as entry:
        print(digest_of(entry), flush=True)
        sys.stdin.read()  # holds the entry until the test closes this


if __name__ == "__main__":
    main()
