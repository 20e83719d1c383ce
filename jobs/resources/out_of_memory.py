"""Running out of memory: how it shows, and what to do about it.

Metal says so when it is too late to catch: its completion handler throws, and the process aborts.
An array larger than one Metal buffer may be, CUDA, and NumPy fail with exceptions. On a Linux CPU
MLX does not check what ``malloc`` returns and crashes by SIGSEGV, or the kernel kills.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.config.memory_size import AUTO
from jobs.errors import OutOfMemory

SIGNS = (
    "kIOGPUCommandBufferCallbackErrorOutOfMemory",
    "Command buffer execution failed: Insufficient Memory",
    "[metal::malloc] Attempting to allocate",
    "Unable to allocate",
    # CUDA's own words, as MLX passes them on.
    "failed: out of memory",
    "std::bad_alloc",
    "Cannot allocate memory",
    "MemoryError",
)
# What helps an evaluation.
FEWER_QUESTIONS = (
    "Evaluate with fewer questions at a time (--batch-size 4), or close other programs."
)


def tells_of_memory(text: str) -> bool:
    """Tell whether an error message, or a process's last words, mean that memory ran out."""
    return any(sign in text for sign in SIGNS)


def as_out_of_memory(error: Exception) -> OutOfMemory | None:
    """Return the error that ``error`` of a library stands for, or None where it is another one."""
    if isinstance(error, MemoryError) or tells_of_memory(str(error)):
        return OutOfMemory(f"Out of memory: {str(error) or type(error).__name__}")
    return None


def next_splits(config: Mapping[str, Any], splits: int) -> int | None:
    """Return how often the next attempt halves each micro-batch; None where it is not to.

    Args:
        config: of the job; ``on_oom`` says whether a smaller attempt is wanted.
        splits: how often the attempt that ran out of memory did: 2**splits pieces, each of one
            row at least.
    """
    wanted = config.get("on_oom") == "retry_smaller"
    return splits + 1 if wanted and _divisible(config, splits) else None


def what_next(config: Mapping[str, Any], splits: int) -> str:
    """Return what happens next to a job that ran out of memory, or what its user can change."""
    more = next_splits(config, splits)
    if more is not None:
        return f"The next attempt computes each micro-batch in {2**more} pieces."
    if config.get("on_oom") != "retry_smaller" and _divisible(config, splits):
        return f"{advice(config, splits)} With on_oom: retry_smaller farense splits micro-batches."
    return advice(config, splits)


def advice(config: Mapping[str, Any], splits: int) -> str:
    """Return what the user of a job that ran out of memory can change."""
    settings = ["batch_size"] if _divisible(config, splits) else []
    settings += ["max_seq_length", "lora.num_layers"]
    lower = [f"Lower {', '.join(settings[:-1])} or {settings[-1]}"]
    # Left out, it was tried where steps did not fit.
    if config.get("grad_checkpoint") is False:
        lower.append("set grad_checkpoint to true")
    if config.get("memory", AUTO) != AUTO:
        lower.append("raise memory")
    return f"{', '.join(lower)}, or close other programs."


def _divisible(config: Mapping[str, Any], splits: int) -> bool:
    """Tell whether a piece of a micro-batch has more than one row."""
    return bool(2**splits < config.get("batch_size", 1))
