"""The states that enter the first adapted block: computed once, kept on disk, cut into batches.

An example's states are always computed from that example alone, in its own padded width, so that
they are the same bits whoever asks for them and whether they come from the cache or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from jobs.backend.mlx import mx
from jobs.backend.streams import Lanes
from jobs.data.batching import MULTIPLE, padded
from jobs.data.tokenize import TokenizedExample
from jobs.prefix.entry import DamagedEntry, Entry, Layout

Rows = npt.NDArray[np.uint8]
# How many tokens are started together at most, but for one example a lane. MLX takes the memory of
# all that was started: with sixteen examples of 1,024 tokens it was 3.7 GB, more than the allocator
# keeps, and 40% of the time went into pages that were given back and asked for again.
STARTED_TOKENS = 4096
# NumPy has no bfloat16; states pass through it as bytes.
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


class Prefix:
    """The frozen blocks below the adapted ones.

    Args:
        compute: token ids [B, L] -> states [B, L, D].
        load: reads the weights that ``compute`` needs, if they are not in memory.
        lanes: examples are computed in turn on each.
    """

    def __init__(
        self, compute: Callable[[mx.array], mx.array], load: Callable[[], None], lanes: Lanes
    ) -> None:
        self._compute, self._load, self._lanes = compute, load, lanes
        self._compiled: list[Callable[[mx.array], mx.array]] = []
        # A graph that is never evaluated tells shape and type without loading a weight.
        states = compute(mx.zeros((1, MULTIPLE), dtype=mx.int32))
        self.dtype = str(states.dtype).rpartition(".")[2]
        self.row_bytes = states.shape[-1] * states.itemsize

    def layout(self, examples: Iterable[TokenizedExample]) -> Layout:
        """Return the size of the states of ``examples``: the last token predicts nothing."""
        lengths = tuple(len(example.tokens) - 1 for example in examples)
        return Layout(lengths, self.row_bytes, self.dtype)

    def states(self, examples: Sequence[TokenizedExample]) -> list[Rows]:
        """Return the states of each example as bytes, [tokens - 1, row_bytes]. Waits for them."""
        # Steps may be computed on fewer lanes: the states are the same bits all the same.
        with self._lanes.with_blas():
            return self._computed(examples)

    def _computed(self, examples: Sequence[TokenizedExample]) -> list[Rows]:
        if not self._compiled:
            # Before anything is traced: a graph would keep the reading of a file as a part of it.
            self._load()
            self._compiled = [mx.compile(self._compute) for _ in self._lanes.streams]
        pending: list[mx.array] = []
        started = 0
        for number, example in enumerate(examples):
            width = padded(len(example.tokens) - 1)
            lane = number % len(self._lanes)
            if lane == 0 and started + len(self._lanes) * width > STARTED_TOKENS:
                mx.eval(pending)
                started = 0
            started += width
            ids = np.zeros((1, width), dtype=np.int32)
            ids[0, : len(example.tokens) - 1] = example.tokens[:-1]
            with mx.stream(self._lanes.streams[lane]):
                states = self._compiled[lane](mx.array(ids))
                pending.append(states[0, : len(example.tokens) - 1].view(mx.uint8))
        mx.eval(pending)
        return [np.array(states) for states in pending]

    def forget(self) -> None:
        """Let go of the compiled graphs, which hold the weights below the boundary."""
        self._compiled = []


class PrefixStates:
    """The states of one data file's examples: from the cache, or computed when asked for."""

    def __init__(
        self, prefix: Prefix, examples: Sequence[TokenizedExample], warn: Callable[[str], None]
    ) -> None:
        self._prefix, self.examples, self._warn = prefix, examples, warn
        self.entry: Entry | None = None

    def use(self, entry: Entry) -> None:
        """Read from ``entry``, which holds all examples that will be asked for."""
        self.entry = entry

    def padded(self, rows: Sequence[int], width: int) -> mx.array:
        """Return the states of some examples, [B, width, D], zero behind each one's end."""
        found = self._read(rows)
        padded = np.zeros((len(rows), width, self._prefix.row_bytes), dtype=np.uint8)
        for row, states in enumerate(found):
            padded[row, : len(states)] = states
        return mx.array(padded).view(DTYPES[self._prefix.dtype])

    def _read(self, rows: Sequence[int]) -> list[Rows]:
        if self.entry is not None:
            try:
                return [self.entry.read(row) for row in rows]
            except DamagedEntry as error:
                self._warn(f"The prefix cache is damaged ({error}): going on without it.")
                self.entry.discard()
                self.entry = None
        return self._prefix.states([self.examples[row] for row in rows])
