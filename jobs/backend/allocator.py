"""The C library's allocator, told to keep what MLX frees.

MLX on Linux CPUs takes every array from ``malloc`` and gives it back at once. Above 128 KiB glibc
answers with fresh pages of the kernel, zeroed again for each array: a third of a training step.
"""

from __future__ import annotations

import ctypes
import sys

# From malloc.h. Never mmap; never give memory back; grow in large pieces; one heap for all threads.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
OPTIONS = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20), (M_ARENA_MAX, 1))


def keep_freed_memory() -> None:
    """Let this process reuse the memory it frees. Does nothing where the C library is another."""
    for option, value in OPTIONS:
        _call("mallopt", option, value)


def return_freed_memory() -> None:
    """Give the system back what is free now: after a large piece that will not be needed again."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if function is not None:
        function(*arguments)
