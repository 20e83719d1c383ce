"""What of the prefix cache has to go so that a new entry fits. Pure decisions over plain data."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.prefix.listing import EntryInfo, EntryState
from jobs.storage.formatting import size_text


class CacheUnusable(Exception):
    """The cache cannot take an entry: train without it, and say why.

    Not a ``FarenseError``: it never ends a job. Its text says why, as the end of a sentence.
    """


def entries_to_evict(
    others: Sequence[EntryInfo], needed: int, present: int, budget: int, free: int
) -> list[EntryInfo]:
    """Return what to remove for a new entry: half-filled ones first, then the least recently used.

    Args:
        others: every entry but the new one.
        needed: bytes of the new entry.
        present: how many of them are on disk already.
        budget: bytes the whole cache may take.
        free: bytes the file system has left.

    Raises:
        CacheUnusable: it would not fit even then.
    """
    if needed > budget:
        raise CacheUnusable(
            f"it needs {size_text(needed)}, prefix_cache_gb allows {size_text(budget)}"
        )
    claimed = sum(entry.claimed_bytes for entry in others)
    excess = max(claimed + needed - budget, needed - present - free)
    idle = [entry for entry in others if not entry.busy]
    evicted = []
    for entry in sorted(idle, key=lambda e: (e.state is EntryState.COMPLETE, e.last_used)):
        if excess <= 0:
            break
        evicted.append(entry)
        excess -= entry.bytes
    if excess > 0:
        raise CacheUnusable(_why_not(others, needed, present, budget, free))
    return evicted


def _why_not(others: Sequence[EntryInfo], needed: int, present: int, budget: int, free: int) -> str:
    busy = sum(entry.claimed_bytes for entry in others if entry.busy)
    if busy + needed > budget:
        return (
            f"it needs {size_text(needed)}, and other jobs use {size_text(busy)} "
            f"of the {size_text(budget)} that prefix_cache_gb allows"
        )
    return f"it needs {size_text(needed - present)} more, the disk has {size_text(free)} free"
