"""What was found in Redis or in a job's log and could not be read: kept for a person, never run."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import cast

import orjson
from redis import Redis

from daemon.store import keys
from jobs.state import now
from jobs.storage.values import well_typed

log = logging.getLogger(__name__)

KEPT = 100
# Of what was found: enough to see what it is.
BEGINNING = 400


@dataclass(frozen=True)
class DeadLetter:
    """Something that fits no schema.

    Attributes:
        what: ``message`` of the queue, ``record`` or ``event`` of a job.
        reason: why it could not be read.
        at: when it was set aside, ISO 8601 in UTC.
        size: of all of it, in bytes.
        beginning: its first bytes, as text in which nothing is obeyed by a terminal.
    """

    what: str
    reason: str
    at: str
    size: int
    beginning: str


def set_aside(redis: Redis, what: str, data: bytes, reason: str) -> None:
    """Keep something that cannot be read, and log a line; the oldest give way.

    Raises:
        RedisError: the server is away.
    """
    # Python's way of writing bytes: printable ASCII, whatever they are.
    beginning = repr(data[:BEGINNING])[2:-1]
    letter = DeadLetter(what, " ".join(reason.split())[:BEGINNING], now(), len(data), beginning)
    log.warning(
        "a %s that cannot be read was set aside (farense queue dead): %s", what, letter.reason
    )
    pipeline = redis.pipeline(transaction=False)
    pipeline.lpush(keys.DEAD_LETTERS, orjson.dumps(asdict(letter)))
    pipeline.ltrim(keys.DEAD_LETTERS, 0, KEPT - 1)
    pipeline.execute()


def set_record_aside(redis: Redis, job_id: str) -> None:
    """Keep what stands in the place of a job's record and is none, where there is something.

    Raises:
        RedisError: the server is away.
    """
    kind = cast(bytes, redis.type(keys.job(job_id)))
    if kind == b"none":
        return
    found = cast(dict[bytes, bytes], redis.hgetall(keys.job(job_id))) if kind == b"hash" else {}
    data = b", ".join(name + b"=" + value for name, value in sorted(found.items()))
    set_aside(redis, "record", data or kind, f"the record of {job_id} fits no schema")


def dead_letters(redis: Redis, *, clear: bool = False) -> list[DeadLetter]:
    """Return what was set aside, the newest first; with ``clear``, it is gone afterwards.

    Raises:
        RedisError: the server is away.
    """
    pipeline = redis.pipeline()
    pipeline.lrange(keys.DEAD_LETTERS, 0, -1)
    if clear:
        pipeline.delete(keys.DEAD_LETTERS)
    entries = cast(list[bytes], pipeline.execute()[0])
    return [letter for entry in entries if (letter := _read(entry)) is not None]


def _read(entry: bytes) -> DeadLetter | None:
    try:
        letter = DeadLetter(**orjson.loads(entry))
    except (ValueError, TypeError):
        return None
    return letter if well_typed(letter) else None
