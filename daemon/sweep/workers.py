"""How many workers there are for a sweep's trials."""

from __future__ import annotations

from collections.abc import Collection

from daemon.client import FarenseClient
from daemon.store.workers import WorkerCard


def workers_for(client: FarenseClient, queue: str, jobs: Collection[str]) -> int:
    """Return how many daemons run a sweep's jobs, or would if there were more of them.

    Args:
        jobs: of the sweep's open trials.

    Raises:
        QueueUnreachable: the queue is away.
    """
    return count(client.workers(), queue, jobs)


def count(cards: Collection[WorkerCard], queue: str, jobs: Collection[str]) -> int:
    """Return how many of some daemons are free for a sweep, or run its jobs."""
    return sum(
        card.alive
        and card.queue == queue
        and card.held_because is None
        and (card.job is None or card.job in jobs)
        for card in cards
    )
