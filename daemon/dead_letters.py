"""What could not be read, kept for a person: messages, records, events. Nothing of it is loaded."""

from __future__ import annotations

import logging
from typing import cast

from redis import Redis
from redis.exceptions import ResponseError

from daemon import keys

log = logging.getLogger(__name__)

KEPT = 100
BYTES_EACH = 4_096


def set_aside(redis: Redis, *letters: bytes) -> None:
    """Keep what cannot be read; the oldest give way."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.lpush(keys.DEAD_LETTERS, *(letter[:BYTES_EACH] for letter in letters[-KEPT:]))
    pipeline.ltrim(keys.DEAD_LETTERS, 0, KEPT - 1)
    pipeline.execute()


def set_aside_record(redis: Redis, job_id: str) -> None:
    """Keep what stands in the place of a job's record, if anything does."""
    key = keys.job(job_id)
    try:
        fields = cast(dict[bytes, bytes], redis.hgetall(key))
        content = b", ".join(name + b"=" + value for name, value in fields.items())
    except ResponseError:  # something else than a hash
        content = redis.dump(key) or b""
    if content:
        log.warning("the record of %s cannot be read and was set aside", job_id)
        set_aside(redis, key.encode() + b": " + content)
