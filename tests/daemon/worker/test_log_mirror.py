"""What a child writes into its log arrives in the stream of its job, whoever carries it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from daemon.joblog import LogReader
from daemon.lifecycle.transitions import Lifecycle
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.queue.reconnect import RedisLink
from daemon.recovery.recovery import Recovery
from daemon.runs.files import record_from_files
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.dead_letters import dead_letters
from daemon.store.records import Claim
from daemon.worker.log_mirror import LogMirror
from jobs.events import Envelope, Progress
from jobs.paths import Workspace
from jobs.state import JobState, State, write_state
from jobs.storage.files import write_json
from tests.helpers.runs import make_run

JOB = "20261122-210000-v2-abcd"


@pytest.fixture
def broker(workspace: Workspace) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    broker.ensure()
    yield broker
    broker.close()
    EmbeddedServer(workspace).shut_down()


def line(step: int) -> bytes:
    envelope = Envelope(Progress(step, 9, 1, None, None), JOB, 1, "2026-11-22T21:00:00+00:00")
    return orjson.dumps(envelope.as_dict()) + b"\n"


@pytest.fixture
def mirror(broker: Broker, tmp_path: Path) -> LogMirror:
    """One of a running job, whose log is said to be carried over up to byte 5000."""
    redis = broker.redis
    fields = {"id": f'"{JOB}"', "state": '"running"', "attempt": "1", "log_offset": "5000"}
    for name, value in fields.items():
        redis.hset(keys.job(JOB), name, value)
    reader = LogReader(tmp_path / "log.jsonl", 5000)
    return LogMirror(
        Claim(JOB, 1, 0, 5000), reader, broker.store, RedisLink(broker), 9, lambda: None
    )


def test_a_log_that_was_removed_is_carried_over_from_its_beginning(
    mirror: LogMirror, broker: Broker, tmp_path: Path
) -> None:
    broker.redis.xadd(keys.events(JOB), {"event": "of the log before"})
    log = tmp_path / "log.jsonl"
    log.write_bytes(line(1))
    while not mirror.carry():
        pass
    log.write_bytes(line(1) + line(2))
    assert mirror.carry()
    stream = [line for _, line in broker.store.events.after(JOB, "0", None)]
    assert stream == [line(1)[:-1], line(2)[:-1]]


def test_lines_that_are_no_events_are_set_aside(
    mirror: LogMirror, broker: Broker, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(line(1) + b'\x80\x04K\x01.\n{"event": "owned"}\n' + line(2))
    assert mirror.carry()
    stream = [line for _, line in broker.store.events.after(JOB, "0", None)]
    assert stream == [line(1)[:-1], line(2)[:-1]]
    letters = {(letter.what, letter.beginning) for letter in dead_letters(broker.redis)}
    assert letters == {("event", '{"event": "owned"}'), ("event", "\\x80\\x04K\\x01.")}


def test_what_a_child_said_after_its_daemon_had_died_is_carried_over(
    workspace: Workspace, broker: Broker, tiny_model: Path
) -> None:
    run = make_run(workspace, tiny_model, JOB)
    write_state(run, JobState(State.RUNNING, 1))
    record = record_from_files(workspace, JOB)
    assert record is not None
    broker.store.create_many([replace(record, step=0)])
    log = workspace.job_log(JOB)
    log.parent.mkdir(parents=True)
    log.write_bytes(line(1) + line(7))
    write_json(run.summary, {"state": "completed"})
    assert Recovery(Lifecycle(workspace, broker), Settings()).run()
    found = broker.store.get(JOB)
    assert found is not None
    assert (found.state, found.step) == (State.COMPLETED, 7)
    stream = [line for _, line in broker.store.events.after(JOB, "0", None)]
    assert stream == [line(1)[:-1], line(7)[:-1]]
