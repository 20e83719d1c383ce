"""The records in Redis: a hash for each job, an index by time, the set of the unfinished, events.

Every change of state is a compare-and-set: a script of the server looks whether the job still is in
the state and attempt that the change was decided for. So of two daemons, or a daemon and a client
that cancels, one wins, and the other learns it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from daemon.store import keys
from daemon.store.dead_letters import set_aside, set_record_aside
from daemon.store.event_stream import EventStreams
from daemon.store.records import JobRecord, Written, flat, from_hash, life, to_hash
from daemon.store.scripts import CREATE, INDEX, LEASE, WRITE
from jobs.errors import JobFailed
from jobs.paths import JOB_ID
from jobs.state import FINISHED, TRANSITIONS, JobState, State

NEWEST = 20
# Records put into the indexes in one exchange.
INDEXED = 500


class JobStore:
    """The records and events of all jobs.

    Attributes:
        shared: machines that have no files of a job may run it: its spec is kept, too.
        events: what the jobs have said.

    Every method raises :class:`redis.exceptions.RedisError` where the server is away.
    """

    def __init__(self, redis: Redis, *, shared: bool = False) -> None:
        self.redis = redis
        self.shared = shared
        self.events = EventStreams(redis)
        self._create = redis.register_script(CREATE)
        self._index = redis.register_script(INDEX)
        self._write = redis.register_script(WRITE)
        self._lease = redis.register_script(LEASE)

    def create_many(self, records: Iterable[JobRecord]) -> int:
        """Store new records in one exchange; return how many: none for an id there is."""
        pipeline = self.redis.pipeline(transaction=False)
        for record in records:
            self._create_in(pipeline, record)
        return sum(pipeline.execute())

    def _create_in(self, pipeline: Pipeline, record: JobRecord) -> None:
        values = {name: value for name, value in to_hash(vars(record)).items() if value}
        self._create(
            keys=[keys.job(record.id), keys.UNFINISHED, keys.JOBS],
            args=[record.id, _score(record), _flag(record.state), *flat(values)],
            client=pipeline,
        )

    def put_specs(self, specs: Mapping[str, bytes]) -> None:
        """Keep the specs of jobs, by their ids, for machines that have no files of them."""
        if specs:
            self.redis.mset({keys.spec(job_id): text for job_id, text in specs.items()})

    def spec(self, job_id: str) -> bytes | None:
        """Return what was kept of a job's spec."""
        found = self.redis.get(keys.spec(job_id))
        return found if isinstance(found, bytes) else None

    def leave(self, queue: str, job_id: str) -> None:
        """Note a job that a daemon of a queue leaves for another."""
        self.redis.sadd(keys.left(queue), job_id)

    def left(self, queue: str) -> set[str]:
        """Return the jobs that were left for others."""
        return set(texts(cast(Iterable[bytes], self.redis.smembers(keys.left(queue)))))

    def take_left(self, queue: str, job_id: str) -> bool:
        """Take a job that was left; of several that do so at once, one gets it."""
        return self.redis.srem(keys.left(queue), job_id) == 1

    def restore(self, record: JobRecord) -> None:
        """Store a record in place of one that is lost or cannot be read; its stream begins anew."""
        set_record_aside(self.redis, record.id)
        # As one: a client may just have stored it, and reads it at this moment.
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.delete(keys.job(record.id), keys.events(record.id))
        self._create_in(pipeline, record)
        pipeline.execute()

    def index(self, records: Iterable[JobRecord]) -> None:
        """Put jobs into the indexes again, by what their records say at that moment."""
        pipeline = self.redis.pipeline(transaction=False)
        ended = to_hash({state: state for state in FINISHED}).values()
        for record in records:
            self._index(
                keys=[keys.job(record.id), keys.UNFINISHED, keys.JOBS],
                args=[record.id, _score(record), *ended],
                client=pipeline,
            )
        pipeline.execute()

    def index_all(self) -> None:
        """Put every job that has a record into the indexes again."""
        found = (name.decode(errors="replace") for name in self.redis.scan_iter(keys.job("*")))
        names = (name.removeprefix(keys.job("")) for name in found)
        jobs = filter(JOB_ID.fullmatch, names)
        while batch := list(islice(jobs, INDEXED)):
            self.index(self.get_many(batch))

    def get(self, job_id: str) -> JobRecord | None:
        """Return a record; None where there is none that can be read."""
        return next(iter(self.get_many([job_id])), None)

    def get_many(self, job_ids: Iterable[str]) -> list[JobRecord]:
        """Return the records that exist, in the order asked for, in one exchange."""
        asked = list(job_ids)
        pipeline = self.redis.pipeline(transaction=False)
        for job_id in asked:
            pipeline.hgetall(keys.job(job_id))
        replies = zip(asked, pipeline.execute(raise_on_error=False), strict=True)
        found = [(job_id, from_hash(_hash(reply))) for job_id, reply in replies]
        # A record under another job's key is none: what is done to it would be done to that one.
        return [record for job_id, record in found if record is not None and record.id == job_id]

    def ids(self) -> list[str]:
        """Return the ids of all jobs, newest first."""
        return texts(self.redis.zrevrange(keys.JOBS, 0, -1))

    def unfinished(self) -> set[str]:
        """Return the ids of the jobs that have not ended."""
        return set(texts(cast(Iterable[bytes], self.redis.smembers(keys.UNFINISHED))))

    def current(self, newest: int = NEWEST) -> list[JobRecord]:
        """Return the ``newest`` jobs and all unfinished ones, newest first."""
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.zrevrange(keys.JOBS, 0, newest - 1)
        pipeline.smembers(keys.UNFINISHED)
        recent, unfinished = pipeline.execute()
        records = self.get_many(set(texts(recent)) | set(texts(unfinished)))
        return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)

    def transition(self, job_id: str, old: JobState, new: JobState, **fields: Any) -> Written:
        """Move a job from ``old`` to ``new``, if it still is in state and attempt of ``old``.

        Raises:
            JobFailed: the transition table does not allow it.
        """
        if new.state not in TRANSITIONS[old.state]:
            raise JobFailed(f"A job that is {old.state} cannot become {new.state}.")
        return self._put(job_id, old, {**life(new), **fields})

    def correct(self, record: JobRecord, state: JobState, **fields: Any) -> Written:
        """Make a record say what ``state.json`` says, whatever it said when it was read."""
        return self._put(record.id, record, {**life(state), **fields})

    def update(self, job_id: str, attempt: int, values: Mapping[str, Any]) -> Written:
        """Set fields of a job that is running in ``attempt``."""
        return self._put(job_id, JobState(State.RUNNING, attempt), values)

    def renew_lease(self, job_id: str, attempt: int, seconds: float) -> Written:
        """Extend the claim on a job that is running in ``attempt``."""
        return Written(
            cast(int, self._lease(keys=[keys.job(job_id)], args=[attempt, int(seconds)]))
        )

    def annotate(self, job_id: str, record: JobRecord, values: Mapping[str, Any]) -> Written:
        """Set fields of a record that still is in the state and attempt it was read in."""
        return self._put(job_id, record, values)

    def set_aside(self, what: str, data: bytes, reason: str) -> None:
        """Keep a message or an event that cannot be read, for a person."""
        set_aside(self.redis, what, data, reason)

    def forget(self, job_id: str) -> None:
        """Remove all there is of a job whose files are gone: record, events, place in the index."""
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.delete(keys.job(job_id), keys.events(job_id), keys.spec(job_id))
        pipeline.zrem(keys.JOBS, job_id)
        pipeline.srem(keys.UNFINISHED, job_id)
        pipeline.execute()

    def _put(self, job_id: str, old: JobState | JobRecord, values: Mapping[str, Any]) -> Written:
        reply = self._write(keys=_keys(job_id), args=_arguments(job_id, old, values))
        return Written(cast(int, reply))


def _keys(job_id: str) -> list[str]:
    return [keys.job(job_id), keys.UNFINISHED]


def _arguments(job_id: str, old: JobState | JobRecord, values: Mapping[str, Any]) -> list[Any]:
    expected = to_hash({"state": old.state, "attempt": old.attempt})
    state = values.get("state", old.state)
    return [*expected.values(), job_id, _flag(state), *flat(to_hash(values))]


def _score(record: JobRecord) -> float:
    """Return where a job stands in the index: when it was created, in seconds."""
    try:
        return datetime.fromisoformat(record.created_at).timestamp()
    except ValueError:
        return 0.0


def _flag(state: State) -> str:
    return "1" if state in FINISHED else "0"


def texts(values: Any) -> list[str]:
    """Return what a reply of the server lists, as texts."""
    return [value.decode(errors="replace") for value in values]


def _hash(reply: Any) -> dict[bytes, bytes]:
    """Return the fields in a reply; none where something else than a hash is under the key."""
    if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
        return {}
    if isinstance(reply, Exception):
        raise reply
    return cast(dict[bytes, bytes], reply)
