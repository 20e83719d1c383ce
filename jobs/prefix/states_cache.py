"""The prefix states of a job's data, taken from the cache on disk and put there when missing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.backend import (
    attention,
    backend,
    blas,
    convolution,
    dequantize,
    exchange,
    exponential,
    mlx,
    streams,
    windows,
)
from jobs.backend import cpu_ops as cpu
from jobs.caches import PREFIX_STATES, Inputs, code_input, key_of, tokens_input
from jobs.events import Event, PrefixCached, Warned
from jobs.model import base_model, chain, crossing, gated_delta, load, split
from jobs.pace import MARKS, PROGRESS_SECONDS, time_left
from jobs.prefix import prefix
from jobs.prefix.budget import CacheUnusable
from jobs.prefix.cache import PrefixCache
from jobs.prefix.entry import VERSION, Layout
from jobs.prefix.prefix import Prefix, PrefixStates

# What turns tokens into states beside the libraries. The code counts by its content, since nobody
# would remember to raise a number with every change.
CODE = (
    *(attention, backend, blas, convolution, cpu, dequantize, exchange, exponential, streams),
    *(windows, mlx, base_model, chain, crossing, gated_delta, load, prefix, split),
)


@dataclass(frozen=True)
class CachedFile:
    """One data file in the cache.

    Attributes:
        name: for people.
        rows: which of its examples the run uses; the others are left to runs that do.
        layout: of all its examples.
    """

    name: str
    states: PrefixStates
    rows: Sequence[int]
    layout: Layout
    key: str

    @property
    def bytes(self) -> int:
        """What the run needs of it takes on disk."""
        return self.layout.bytes_of(self.rows)


class StatesCache:
    """The entries of one job.

    Args:
        prefix: computes states.
        cache: where they are kept.
        inputs: what they depend on beside tokens, code and layout (:mod:`jobs.caches`).
        about: the model and the boundary, for people.
    """

    def __init__(
        self,
        prefix: Prefix,
        cache: PrefixCache,
        inputs: Inputs,
        about: dict[str, str],
        emit: Callable[[Event], None],
    ) -> None:
        self._prefix, self._cache, self._emit = prefix, cache, emit
        self._inputs = {**inputs, "layout": str(VERSION), "code": code_input(CODE)}
        self._about = about
        self._files: list[CachedFile] = []
        self._marks = deque[tuple[float, int]](maxlen=MARKS)

    def add(self, name: str, states: PrefixStates, rows: Sequence[int]) -> None:
        """Let the states of one data file come from the cache, once they are there."""
        tokens = tokens_input([example.tokens[:-1] for example in states.examples])
        key = key_of(PREFIX_STATES, {**self._inputs, "tokens": tokens})
        layout = self._prefix.layout(states.examples)
        self._files.append(CachedFile(name, states, rows, layout, key))

    @property
    def is_whole(self) -> bool:
        """Tell whether every entry is in use."""
        return not self._missing

    def open(self) -> None:
        """Use the entries that are there."""
        try:
            for file in self._files:
                if entry := self._cache.open(file.key, file.layout, file.rows):
                    file.states.use(entry)
        except CacheUnusable as error:
            self._emit(Warned(f"The prefix cache cannot be used: {error}."))

    def fill(self, stop: Callable[[], str | None]) -> bool:
        """Compute and keep what is missing; False where it is to be computed at every step.

        Raises:
            FillStopped: ``stop`` gave a reason; what was computed is kept.
        """
        self._marks.append((time.monotonic(), 0))
        try:
            for file in self._missing:
                self._fill(file, stop)
        except CacheUnusable as error:
            names = " and ".join(file.name for file in self._missing)
            self._emit(
                Warned(
                    f"No prefix cache for {names}: {error}. "
                    "The frozen blocks are computed again whenever they are needed."
                )
            )
            return False
        return True

    @property
    def missing_bytes(self) -> int:
        """What filling will take on disk, beyond what it may evict or has already there."""
        if self.is_whole:
            return 0  # listing waits for the lock of each entry in use, these among them
        held = sum(entry.bytes for entry in self._cache.listing())
        return max(0, sum(file.bytes for file in self._missing) - held)

    def forget_weights(self) -> None:
        """Let go of the weights that computed the states."""
        self._prefix.forget()

    @property
    def _missing(self) -> list[CachedFile]:
        return [file for file in self._files if file.states.entry is None]

    def _time_left(self, file: CachedFile, rest: float) -> float | None:
        """Return the seconds until everything is filled; None before that is known.

        Args:
            file: the one that is being filled, of which the part ``rest`` is missing.
        """
        tokens = rest * _tokens(file) + sum(map(_tokens, self._missing[1:]))
        return time_left(self._marks, self._marks[-1][1] + round(tokens))

    def _fill(self, file: CachedFile, stop: Callable[[], str | None]) -> None:
        started = time.monotonic()
        said = -math.inf

        def compute(places: Sequence[int]) -> list[prefix.Rows]:
            states = self._prefix.states([file.states.examples[place] for place in places])
            done = self._marks[-1][1] + sum(file.layout.lengths[place] for place in places)
            self._marks.append((time.monotonic(), done))
            return states

        def progress(done: int, total: int) -> None:
            nonlocal said
            if done == total or time.monotonic() - said >= PROGRESS_SECONDS:
                said = time.monotonic()
                size = file.bytes / 1e6
                left = self._time_left(file, 1 - done / total) if total else None
                self._emit(PrefixCached(file.name, done, total, size, said - started, left))

        about = self._about | {"data": file.name}
        entry = self._cache.fill(file.key, file.layout, file.rows, about, compute, progress, stop)
        file.states.use(entry)


def _tokens(file: CachedFile) -> int:
    return sum(file.layout.lengths[row] for row in file.rows)
