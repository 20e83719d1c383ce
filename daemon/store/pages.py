"""Many jobs, a page at a time: of ten thousand no more is read than is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from daemon.store import keys
from daemon.store.job_store import JobStore, texts
from daemon.store.records import JobRecord, to_hash
from daemon.store.scripts import APART, ENDED
from jobs.state import State


@dataclass(frozen=True)
class Unfinished:
    """The jobs that have not ended, counted, and some of them.

    Attributes:
        queued: how many are queued; none of them is named.
        others: how many neither run nor are queued.
        running: the ids of all that run; ``named``: of some of the others.
    """

    queued: int
    others: int
    running: list[str]
    named: list[str]

    @property
    def count(self) -> int:
        """How many there are."""
        return self.queued + self.others + len(self.running)


def unfinished(store: JobStore, most: int) -> Unfinished:
    """Return the jobs that have not ended, at most ``most`` of the idle ones by name.

    Raises:
        RedisError: the server is away.
    """
    states = to_hash({state: state for state in (State.QUEUED, State.RUNNING)}).values()
    script = store.redis.register_script(APART)
    reply = script(keys=[keys.UNFINISHED], args=[keys.job(""), *states, most])
    queued, others, running, named = cast(list[Any], reply)
    return Unfinished(queued, others, texts(running), texts(named))


def queued_among(store: JobStore, ids: Sequence[str]) -> list[str]:
    """Return those of some jobs that are queued, in their order: a message outlives a pause.

    Raises:
        RedisError: the server is away.
    """
    pipeline = store.redis.pipeline(transaction=False)
    for job_id in ids:
        pipeline.hget(keys.job(job_id), "state")
    [queued] = to_hash({"state": State.QUEUED}).values()
    states = pipeline.execute(raise_on_error=False)
    return [job_id for job_id, state in zip(ids, states, strict=True) if state == queued]


def ended(store: JobStore, first: int, count: int) -> tuple[int, list[JobRecord]]:
    """Return how many jobs have ended, and ``count`` of them from the ``first``, newest first.

    Raises:
        RedisError: the server is away.
    """
    script = store.redis.register_script(ENDED)
    total, ids = cast(list[Any], script(keys=[keys.JOBS, keys.UNFINISHED], args=[first, count]))
    return max(0, total), store.get_many(texts(ids))
