"""Lanes: streams of a CPU on which batches are computed at the same time.

MLX runs element-wise kernels on one thread; only the BLAS uses more. So on a CPU the work is dealt
out to as many streams (threads) as there are cores, each with a BLAS of one thread: what is not a
matrix product then runs in parallel too. A GPU has one lane.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.backend.blas import set_blas_threads
from jobs.backend.mlx import mx


@dataclass(frozen=True)
class Lanes:
    """Where pieces are computed.

    Attributes:
        streams: one a lane.
        blas_threads: of each lane; 0 where that is not for us to say. Bits depend on it.
    """

    streams: tuple[mx.Stream, ...]
    blas_threads: int

    def __len__(self) -> int:
        return len(self.streams)

    def fewer(self, count: int) -> Lanes:
        """Return so many of them, at most all; the BLAS of each gets the threads of the others."""
        if count >= len(self):
            return self
        return Lanes(self.streams[:count], self.blas_threads and cpu_threads() // count)

    def take_blas(self) -> None:
        """Let the BLAS compute for these lanes from now on."""
        global _others
        _others = self
        if self.blas_threads:
            set_blas_threads(self.blas_threads)

    @contextlib.contextmanager
    def with_blas(self) -> Iterator[None]:
        """Let the BLAS compute for these lanes for a while, if others have it.

        What is computed meanwhile has to be waited for inside. Bits depend on the threads, so what
        the others have begun is waited for first.
        """
        others = _others
        if others is None or others.blas_threads == self.blas_threads:
            yield
            return
        for stream in others.streams:
            mx.synchronize(stream)
        set_blas_threads(self.blas_threads)
        try:
            yield
        finally:
            set_blas_threads(others.blas_threads)


# The lanes that have taken the BLAS from those of the machine.
_others: Lanes | None = None


def one_lane(blas_threads: int = 0) -> Lanes:
    """Return the one lane that every device has."""
    return Lanes((mx.default_stream(mx.default_device()),), blas_threads)


def cpu_lanes(useful: int) -> Lanes:
    """Return the lanes of a CPU, at most ``useful`` of them, and set the BLAS to them."""
    global _others
    _others = None
    threads = cpu_threads()
    count = min(threads, useful)
    if not set_blas_threads(threads // count) or count == 1:
        return one_lane(threads)
    return Lanes(tuple(mx.new_stream(mx.default_device()) for _ in range(count)), threads // count)


def cpu_name() -> str:
    """Return the processor's model: a BLAS chooses its kernels by it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_threads() -> int:
    """Return how many threads to compute with: ``OMP_NUM_THREADS``, else the usable cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
