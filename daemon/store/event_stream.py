"""What jobs have said: a stream of log lines for each, and how far its log is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from redis import Redis

from daemon.joblog import LogLines
from daemon.store import keys
from daemon.store.dead_letters import set_aside
from daemon.store.progress import changes
from daemon.store.records import Written, flat, to_hash
from daemon.store.scripts import EVENTS

STREAM_LENGTH = 5_000
STREAM_SECONDS = 7 * 86_400
# A place in a file is a number of 64 bits at most.
MOST_DIGITS = 19


class EventStreams:
    """The streams of all jobs. Methods raise :class:`redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._append = redis.register_script(EVENTS)

    def send(self, job_id: str, attempt: int, lines: LogLines) -> Written:
        """Append lines of a job's log to its stream, and what they change to its record.

        Lines that are no events are set aside.
        """
        values: dict[str, Any] = {}
        for envelope in lines.events:
            values |= changes(envelope)
        written = self.append(job_id, attempt, lines.readable, values)
        if written is Written.DONE:
            for line in lines.unreadable:
                set_aside(self.redis, "event", line, f"no event of {job_id}")
        return written

    def append(
        self, job_id: str, attempt: int, lines: LogLines, values: Mapping[str, Any]
    ) -> Written:
        """Append log lines to the job's stream, with what they change on the record, as one.

        The record keeps how far the log has been carried over, so nothing is appended twice or left
        out, whoever dies in between. The state does not matter: what an attempt said last may
        arrive after its end.
        """
        numbers = [attempt, lines.start, lines.end, STREAM_LENGTH, len(lines.lines)]
        reply = self._append(
            keys=[keys.job(job_id), keys.events(job_id)],
            args=[*numbers, *lines.lines, *flat(to_hash(values))],
        )
        return Written(cast(int, reply))

    def log_offset(self, job_id: str) -> int:
        """Return how much of a job's log is in its stream, in bytes.

        Where the record holds something else, the stream begins anew.
        """
        value = self.redis.hget(keys.job(job_id), "log_offset")
        if value is None:
            return 0
        number = isinstance(value, bytes) and value.isdigit() and len(value) < MOST_DIGITS
        # The script that appends compares it as it stands there: no leading zero.
        if number and value == b"%d" % int(value):
            return int(value)
        self.begin(job_id)
        return 0

    def begin(self, job_id: str) -> bool:
        """Let the stream of a job begin anew, with the first line of its log; True once it does."""
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.hdel(keys.job(job_id), "log_offset")
        pipeline.delete(keys.events(job_id))
        pipeline.execute()
        return True

    def after(self, job_id: str, last: str, block_ms: int | None) -> list[tuple[str, bytes]]:
        """Return (position, log line) pairs of the stream after position ``last`` ("0": all)."""
        streams: dict[Any, Any] = {keys.events(job_id): last}
        reply = self.redis.xread(streams, count=500, block=block_ms)
        # A list of pairs in the old protocol, a mapping in the new one.
        found = reply.items() if isinstance(reply, dict) else cast(list[Any], reply or [])
        entries = [entry for _, batch in found for entry in _batch(batch)]
        return [(key.decode(), entry.get(b"event", b"")) for key, entry in entries]

    def expire(self, job_id: str) -> None:
        """Let the stream and the spec of a finished job go after a week; its files stay on disk."""
        self.redis.expire(keys.events(job_id), STREAM_SECONDS)
        self.redis.expire(keys.spec(job_id), STREAM_SECONDS)


def _batch(batch: Any) -> list[Any]:
    # The new protocol wraps the entries of a stream once more.
    return batch[0] if batch and isinstance(batch[0], list) else batch
