"""The jobs of a queue a page at a time, in the order of their lives: later, queued, running, ended.

With a few hundred unfinished jobs all of them are read; with ten thousand no more than is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from daemon.queue.broker import Broker
from daemon.queue.position import QueuedJob, QueueOrder, places
from daemon.store.pages import Unfinished, ended, queued_among, unfinished
from daemon.store.records import JobRecord
from jobs.state import State

# So many unfinished jobs are all read, which gives them their exact order.
FEW = 200
MOST_LATER = 100
# Messages that are read at a time.
MESSAGES = 200


@dataclass(frozen=True)
class Span:
    """Which part of a list is wanted: ``count`` entries from the ``first``, from 0."""

    first: int
    count: int

    def of(self, found: Sequence[QueuedJob]) -> list[QueuedJob]:
        """Return that part."""
        return list(found[self.first : self.first + self.count])


@dataclass(frozen=True)
class Board:
    """Some of the jobs, and how many there are.

    Attributes:
        running: all that run, or were interrupted.
        queued: some of ``queued_count``, with their places; on a queue with very many jobs those of
            other queues are counted alone.
        later: scheduled, waiting and paused jobs, in the order of ``farense queue``.
        ended: some of ``ended_count``, newest first.
    """

    running: list[JobRecord]
    queued: list[QueuedJob]
    queued_count: int
    later: list[QueuedJob]
    later_count: int
    ended: list[JobRecord]
    ended_count: int

    def mapped(self, change: Callable[[JobRecord], JobRecord]) -> Board:
        """Return the same with each record changed."""

        def moved(found: list[QueuedJob]) -> list[QueuedJob]:
            return [replace(job, record=change(job.record)) for job in found]

        return replace(
            self,
            running=[change(record) for record in self.running],
            queued=moved(self.queued),
            later=moved(self.later),
            ended=[change(record) for record in self.ended],
        )


def board_of(broker: Broker, queue: str, queued: Span, past: Span) -> Board:
    """Return what Redis holds.

    Raises:
        RedisError: the server is away.
    """
    store = broker.store
    found = unfinished(store, MOST_LATER)
    ended_count, records = ended(store, past.first, past.count)
    running = store.get_many(sorted(found.running))
    if found.count <= FEW:
        idle = places(store.get_many(store.unfinished()), QueueOrder(broker).messages(queue))
        waiting = [job for job in idle if job.record.state is State.QUEUED]
        later = [job for job in idle if job.record.state is not State.QUEUED]
        shown = queued.of(waiting)
        return Board(running, shown, len(waiting), later, len(later), records, ended_count)
    return Board(
        running,
        _page(broker, queue, queued),
        found.queued,
        _later(broker, found),
        found.others,
        records,
        ended_count,
    )


def _page(broker: Broker, queue: str, wanted: Span) -> list[QueuedJob]:
    """Return a part of the queue; what stands before it is read, too, but no record of it."""
    order, last = QueueOrder(broker), wanted.first + wanted.count
    found: list[str] = []
    at = 0
    while len(found) < last and (ids := order.page(queue, at, MESSAGES)):
        found += queued_among(broker.store, list(dict.fromkeys(ids)))
        at += MESSAGES
    shown = found[wanted.first : last]
    place = {job_id: number for number, job_id in enumerate(shown, wanted.first + 1)}
    return [QueuedJob(place[record.id], record) for record in broker.store.get_many(shown)]


def _later(broker: Broker, found: Unfinished) -> list[QueuedJob]:
    records = broker.store.get_many(found.named)
    return [job for job in places(records) if job.record.state is not State.QUEUED]


def board_of_records(records: Sequence[JobRecord], queued: Span, past: Span) -> Board:
    """Return what files tell of jobs, newest first."""
    idle = places(records)
    waiting = [job for job in idle if job.record.state is State.QUEUED]
    later = [job for job in idle if job.record.state is not State.QUEUED]
    over = [record for record in records if record.finished]
    return Board(
        [record for record in records if record.state is State.RUNNING],
        queued.of(waiting),
        len(waiting),
        later[:MOST_LATER],
        len(later),
        over[past.first : past.first + past.count],
        len(over),
    )
