"""The jobs at a glance: the newest, what is under way, and of what waits no more than is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from daemon.store import keys
from daemon.store.job_store import NEWEST, JobStore, texts
from daemon.store.records import JobRecord, to_hash
from daemon.store.scripts import SPLIT
from jobs.state import PENDING, State

# With ten thousand waiting, reading and printing them all took two seconds.
MOST_WAITING = 100
WAITING = PENDING | {State.QUEUED}


@dataclass(frozen=True)
class Overview:
    """Some jobs, newest first, and how many more wait."""

    records: list[JobRecord]
    more_waiting: int


def overview(store: JobStore, most_waiting: int = MOST_WAITING) -> Overview:
    """Return the newest jobs, those under way, and of those that wait the first.

    Raises:
        RedisError: the server is away.
    """
    states = to_hash({state: state for state in WAITING}).values()
    split = store.redis.register_script(SPLIT)
    reply = split(keys=[keys.UNFINISHED], args=[keys.job(""), *states])
    waiting, others = map(texts, cast(list[Any], reply))
    newest = texts(store.redis.zrevrange(keys.JOBS, 0, NEWEST - 1))
    # An id begins with its time.
    shown = {*newest, *others, *sorted(waiting)[:most_waiting]}
    records = store.get_many(shown)
    more = len(waiting) - len(shown.intersection(waiting))
    return Overview(sorted(records, key=_age, reverse=True), more)


def overview_of(records: Sequence[JobRecord], most_waiting: int = MOST_WAITING) -> Overview:
    """Return what :func:`overview` returns of jobs that are known, newest first."""
    waiting = [record for record in records[NEWEST:] if record.state in WAITING]
    cut = {record.id for record in waiting[: max(0, len(waiting) - most_waiting)]}
    return Overview([record for record in records if record.id not in cut], len(cut))


def _age(record: JobRecord) -> tuple[str, str]:
    return record.created_at, record.id
