"""What stands in Redis is damaged, by whoever can write there: no job suffers from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import pytest
from redis import Redis

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.queue.reconnect import RedisLink
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.dead_letters import dead_letters
from daemon.store.records import JobRecord
from daemon.worker.worker import Worker
from jobs.config.config import Preset
from jobs.errors import DiskFull
from jobs.paths import Workspace
from jobs.state import State, read_state
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

Damage = Callable[[Redis, str], object]


def replace_by_text(redis: Redis, key: str) -> None:
    redis.delete(key)
    redis.set(key, "owned")


def replace_by_list(redis: Redis, key: str) -> None:
    redis.delete(key)
    redis.rpush(key, "owned")


RECORDS: dict[str, Damage] = {
    "text": replace_by_text,
    "list": replace_by_list,
    "state": lambda redis, key: redis.hset(key, "state", "\x80"),
    "attempt of later": lambda redis, key: redis.hset(key, "attempt", "999999999"),
    "attempt before": lambda redis, key: redis.hset(key, "attempt", "-1"),
    "attempt as nobody writes it": lambda redis, key: redis.hset(key, "attempt", " 0"),
    "no attempt": lambda redis, key: redis.hdel(key, "attempt"),
    "offset": lambda redis, key: redis.hset(key, "log_offset", "\x80"),
    "offset before": lambda redis, key: redis.hset(key, "log_offset", "-5"),
    "offset far behind": lambda redis, key: redis.hset(key, "log_offset", "999999999999"),
    "offset as nobody writes it": lambda redis, key: redis.hset(key, "log_offset", "00"),
}


@pytest.fixture
def broker(workspace: Workspace, daemons: Daemons) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    broker.ensure()
    yield broker
    broker.close()


def test_queued_jobs_run_whatever_became_of_their_records(
    workspace: Workspace, client: FarenseClient, broker: Broker, preset: Preset, daemons: Daemons
) -> None:
    damaged = {name: client.enqueue(preset).id for name in RECORDS}
    for name, job_id in damaged.items():
        RECORDS[name](broker.redis, keys.job(job_id))
    replace_by_text(broker.redis, keys.events(damaged["text"]))
    daemons.start("hasty", reconcile_seconds=0.2)
    for name, job_id in damaged.items():
        record = finished(broker, job_id)
        assert (record.state, record.attempt) == (State.COMPLETED, 1), (name, record)
        state = read_state(workspace.run(job_id))
        assert (state.state, state.attempt) == (record.state, record.attempt)
        log = workspace.job_log(job_id).read_bytes().splitlines()
        stream = [line for _, line in broker.store.events.after(job_id, "0", None)]
        assert stream == log, name
    letters = dead_letters(broker.redis)
    for name in ("text", "list", "state"):
        assert any(damaged[name] in letter.reason for letter in letters if letter.what == "record")


def test_the_record_of_a_job_that_has_ended_is_made_anew(
    client: FarenseClient, broker: Broker, preset: Preset, daemons: Daemons
) -> None:
    jobs = {name: client.enqueue(preset).id for name in ("text", "list", "no attempt")}
    daemons.start("hasty", reconcile_seconds=0.2)
    before = {job_id: ended(client, job_id) for job_id in jobs.values()}
    for name, job_id in jobs.items():
        RECORDS[name](broker.redis, keys.job(job_id))
    for job_id, record in before.items():
        again = finished(broker, job_id)
        assert (again.state, again.attempt) == (record.state, record.attempt)
    assert broker.store.unfinished() == set()


def finished(broker: Broker, job_id: str) -> JobRecord:
    """Return the record of a job once it can be read and says that the job has ended."""

    def found() -> JobRecord | None:
        record = broker.store.get(job_id)
        return record if record is not None and record.finished else None

    return wait_until(found, f"a record of the end of {job_id}")


JOB = "20261122-210000-v2-abcd"


def test_a_job_that_a_full_disk_keeps_from_being_taken_closes_the_queue(
    workspace: Workspace, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(workspace, Settings(), broker, RedisLink(broker), Event(), Event())

    def full(*_: object) -> None:
        raise DiskFull("The disk is full: state.json could not be written.")

    monkeypatch.setattr(worker.claims, "claim", full)
    assert not worker.closed()
    worker.run(JOB)
    assert worker.closed()
    assert "the disk is full" in (worker.admission.closed_because or "")
