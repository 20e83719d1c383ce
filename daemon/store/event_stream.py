"""How far a job's log has been carried over into its stream, and what to do where that is lost."""

from __future__ import annotations

from redis import Redis

from daemon.store import keys

# A place in a file is a number of 64 bits at most.
MOST_DIGITS = 19


def log_offset(redis: Redis, job_id: str) -> int:
    """Return how much of a job's log is in its stream, in bytes.

    Where the record holds something else, the stream begins anew.
    """
    value = redis.hget(keys.job(job_id), "log_offset")
    if value is None:
        return 0
    number = isinstance(value, bytes) and value.isdigit() and len(value) < MOST_DIGITS
    # The script that appends compares it as it stands there: no leading zero.
    if number and value == b"%d" % int(value):
        return int(value)
    begin(redis, job_id)
    return 0


def begin(redis: Redis, job_id: str) -> None:
    """Let the stream of a job begin anew, with the first line of its log."""
    pipeline = redis.pipeline(transaction=True)
    pipeline.hdel(keys.job(job_id), "log_offset")
    pipeline.delete(keys.events(job_id))
    pipeline.execute()
