"""What stands in Redis is damaged, by whoever can write there: no job suffers from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import orjson
import pytest
from redis import Redis

from daemon import keys
from daemon.broker import Broker
from daemon.client import FarenseClient
from daemon.dead_letters import dead_letters
from daemon.joblog import LogReader
from daemon.lifecycle import Claim
from daemon.link import Link
from daemon.mirror import Mirror
from daemon.records import JobRecord
from daemon.settings import Settings
from daemon.worker import Worker
from jobs.config import Preset
from jobs.errors import DiskFull
from jobs.events import Envelope, Progress
from jobs.paths import Workspace
from jobs.state import State, read_state
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
        state_file = workspace.run(job_id)
        wait_until(lambda run=state_file: read_state(run).finished, f"the end of the one of {name}")
        record = wait_until(lambda job_id=job_id: finished(broker, job_id), f"the record of {name}")
        assert (record.state, record.attempt) == (State.COMPLETED, 1), (name, record)
        state = read_state(workspace.run(job_id))
        assert (state.state, state.attempt) == (record.state, record.attempt)
        log = workspace.job_log(job_id).read_bytes().splitlines()
        stream = [line for _, line in broker.store.events_after(job_id, "0", None)]
        assert stream == log, name
    letters = dead_letters(broker.redis)
    for name in ("text", "list", "state"):
        assert any(damaged[name] in letter.reason for letter in letters if letter.what == "record")


def finished(broker: Broker, job_id: str) -> JobRecord | None:
    record = broker.store.get(job_id)
    return record if record is not None and record.finished else None


JOB = "20261122-210000-v2-abcd"


def line(step: int) -> bytes:
    envelope = Envelope(Progress(step, 9, 1, None, None), JOB, 1, "2026-11-22T21:00:00+00:00")
    return orjson.dumps(envelope.as_dict()) + b"\n"


@pytest.fixture
def mirror(broker: Broker, tmp_path: Path) -> Mirror:
    """One of a running job, whose log is said to be carried over up to byte 5000."""
    redis = broker.redis
    fields = {"id": f'"{JOB}"', "state": '"running"', "attempt": "1", "log_offset": "5000"}
    redis.hset(keys.job(JOB), mapping=fields)
    reader = LogReader(tmp_path / "log.jsonl", 5000)
    return Mirror(Claim(JOB, 1, 0, 5000), reader, broker.store, Link(broker), 9, lambda: None)


def test_a_log_that_was_removed_is_carried_over_from_its_beginning(
    mirror: Mirror, broker: Broker, tmp_path: Path
) -> None:
    broker.redis.xadd(keys.events(JOB), {"event": "of the log before"})
    log = tmp_path / "log.jsonl"
    log.write_bytes(line(1))
    while not mirror.carry():
        pass
    log.write_bytes(line(1) + line(2))
    assert mirror.carry()
    stream = [line for _, line in broker.store.events_after(JOB, "0", None)]
    assert stream == [line(1)[:-1], line(2)[:-1]]


def test_lines_that_are_no_events_are_set_aside(
    mirror: Mirror, broker: Broker, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(line(1) + b'\x80\x04K\x01.\n{"event": "owned"}\n' + line(2))
    assert mirror.carry()
    stream = [line for _, line in broker.store.events_after(JOB, "0", None)]
    assert stream == [line(1)[:-1], line(2)[:-1]]
    letters = {(letter.what, letter.beginning) for letter in dead_letters(broker.redis)}
    assert letters == {("event", '{"event": "owned"}'), ("event", "\\x80\\x04K\\x01.")}


def test_a_job_that_a_full_disk_keeps_from_being_taken_closes_the_queue(
    workspace: Workspace, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(workspace, Settings(), broker, Link(broker), Event(), Event())

    def full(*_: object) -> None:
        raise DiskFull("The disk is full: state.json could not be written.")

    monkeypatch.setattr(worker.lifecycle, "claim", full)
    assert not worker.closed()
    worker.run(JOB)
    assert worker.closed()
    assert "the disk is full" in (worker.gate.closed_because or "")
