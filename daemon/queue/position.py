"""What waits, in the order in which it will run, and how a job is moved within that order.

The queue is a sorted set, scored by minus the priority; messages of one priority lie in the order
in which they were pushed. Moving a job gives its message another score, in one command of the
server: a message is never missing meanwhile, and among its new equals it keeps its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from daemon.queue.broker import Broker
from daemon.store.records import JobRecord
from jobs.state import IDLE, State

SHOWN = ("id", "preset", "name", "state", "priority", "schedule", "after", "reason")


@dataclass(frozen=True)
class QueuedJob:
    """A job that waits.

    Attributes:
        position: from 1; None for a job that is not queued yet, whose place cannot be counted.
    """

    position: int | None
    record: JobRecord

    def as_dict(self) -> dict[str, Any]:
        """Return what is shown of it as JSON-ready values."""
        values = self.record.as_dict()
        return {"position": self.position, **{name: values[name] for name in SHOWN}}


def places(records: Iterable[JobRecord], messages: Sequence[str] = ()) -> list[QueuedJob]:
    """Return the jobs that wait, in the order in which they will run.

    Args:
        messages: the ids that the messages on the queue point to, in their order. A queued job
            without one comes after the others: the daemon finds it and pushes it again. Where none
            are known, priority and time decide, as they do on the queue.
    """
    turn = {job_id: number for number, job_id in reversed(list(enumerate(messages)))}
    groups: dict[State, list[JobRecord]] = {state: [] for state in IDLE}
    for record in records:
        if record.state in groups:
            groups[record.state].append(record)

    def when_queued(record: JobRecord) -> tuple[int, int, bool, str, str]:
        # A job that was under way goes before fresh ones of its priority.
        fresh, came = not record.attempt, record.created_at
        return (turn.get(record.id, len(messages)), -record.priority, fresh, came, record.id)

    queued = sorted(groups.pop(State.QUEUED), key=when_queued)
    groups[State.SCHEDULED].sort(key=lambda record: (record.schedule or "", record.id))
    for state in (State.WAITING, State.PAUSED):
        groups[state].sort(key=lambda record: (-record.priority, record.id))
    later = [QueuedJob(None, record) for group in groups.values() for record in group]
    return [*(QueuedJob(number, record) for number, record in enumerate(queued, 1)), *later]


class QueueOrder:
    """The order of the messages on the queue.

    Methods raise :class:`redis.exceptions.RedisError` where Redis is away.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def messages(self, queue: str) -> list[str]:
        """Return the ids that the messages on a queue point to, in their order."""
        return [job_id for _, job_id in self._members(queue)]

    def page(self, queue: str, first: int, count: int) -> list[str]:
        """Return the ids that ``count`` of the messages point to, from the ``first``, from 0."""
        return [job_id for _, job_id in self._members(queue, first, first + count - 1)]

    def top(self, record: JobRecord) -> int:
        """Return the priority with which a job goes before all that are queued."""
        waiting = self.broker.store.get_many(self.broker.store.unfinished())
        others = [
            other.priority
            for other in waiting
            if (other.state, other.queue) == (State.QUEUED, record.queue) and other.id != record.id
        ]
        return max([record.priority, *(priority + 1 for priority in others)])

    def score(self, job_id: str, name: str, priority: int, *, resumed: bool) -> None:
        """Give the message of a job on the queue of a name its place; put one there if it has none.

        Args:
            resumed: the job has run: it goes before fresh ones of its priority.
        """
        from daemon.queue.job_queue import RESUMED  # noqa: PLC0415 - readers need no Huey

        score = -(priority + (RESUMED if resumed else 0))
        found = {member: score for member, owner in self._members(name) if owner == job_id}
        queue = self.broker.queue(name)
        if found:
            queue.storage.conn.zadd(queue.storage.queue_key, found, xx=True)
        else:
            queue.push(job_id, priority, resumed=resumed)

    def _members(self, queue: str, first: int = 0, last: int = -1) -> list[tuple[bytes, str]]:
        """Return the readable messages as they stand on a queue, each with its job."""
        from daemon.queue.serializer import JsonSerializer  # noqa: PLC0415 - for the same reason

        storage, serializer = self.broker.queue(queue).storage, JsonSerializer()
        found = []
        for member in cast(list[bytes], storage.conn.zrange(storage.queue_key, first, last)):
            try:
                message = serializer.deserialize(member[8:])  # after the time it was pushed
                found.append((member, str(message.args[0])))
            except (ValueError, AttributeError):
                continue
        return found
