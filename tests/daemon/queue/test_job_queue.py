"""The queue: order, and messages that are not ours."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.queue.job_queue import JobQueue
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.dead_letters import KEPT, dead_letters
from jobs.config.config import Preset
from jobs.events import parse_event
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import whole_lines
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until


@pytest.fixture
def broker(workspace: Workspace, server: EmbeddedServer) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    yield broker
    broker.close()


class Trap:
    """A pickle that leaves a trace where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.trace),))


def drained(queue: JobQueue) -> list[str]:
    taken = []
    while queue.pending_count():
        task = queue.dequeue()
        if task is not None:
            taken.append(task.args[0])
    return taken


def test_higher_priorities_and_resumed_jobs_come_first(broker: Broker) -> None:
    queue = broker.queue()
    queue.push("second")
    queue.push("third")
    queue.push("resumed", resumed=True)
    queue.push("urgent", 1)
    queue.push("later", -1)
    assert queue.job_ids() == {"second", "third", "resumed", "urgent", "later"}
    assert drained(queue) == ["urgent", "resumed", "second", "third", "later"]


def test_unreadable_messages_are_set_aside_at_once_and_never_executed(
    broker: Broker, tmp_path: Path
) -> None:
    taken: list[str] = []
    queue = broker.queue(run=taken.append)
    trace = tmp_path / "trace"
    for _ in range(30):
        queue.storage.enqueue(pickle.dumps(Trap(trace)), 9)
    queue.storage.enqueue(b'{"message": {"id": "1", "name": "os.system", "args": ["x"]}}', 9)
    queue.push("good")
    began = time.monotonic()
    assert drained(queue) == ["good"]
    assert time.monotonic() - began < 1
    assert not trace.exists()
    assert broker.redis.llen(keys.DEAD_LETTERS) == 31


def test_the_list_of_dead_letters_is_capped(broker: Broker) -> None:
    for number in range(KEPT + 20):
        broker.store.set_aside("message", f"{number} \x1b[2J".encode() * 10_000, "why\nnot")
    found = dead_letters(broker.redis)
    assert len(found) == KEPT
    assert found[0].beginning.startswith(f"{KEPT + 19} \\x1b[2J")
    assert (found[0].size, found[0].reason) == (80_000, "why not")
    assert len(str(found[0])) < 5_000


def test_what_is_no_dead_letter_is_passed_over_and_all_are_forgotten(broker: Broker) -> None:
    for entry in (b"", b"\x80\x05.", b"[]", b'{"what": 1}', pickle.dumps({})):
        broker.redis.lpush(keys.DEAD_LETTERS, entry)
    broker.store.set_aside("event", b"x", "why")
    assert [letter.what for letter in dead_letters(broker.redis, clear=True)] == ["event"]
    assert not broker.redis.exists(keys.DEAD_LETTERS)


def test_a_daemon_passes_over_them_with_a_line_each(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons, tmp_path: Path
) -> None:
    broker = Broker(workspace, Settings())
    for number in range(30):
        bad = b"[1, %d]" % number if number % 2 else pickle.dumps(Trap(tmp_path / "trace"))
        broker.queue().storage.enqueue(bad, 9)
    job = client.enqueue(preset)
    daemons.start()
    wait_until(lambda: client.job(job.id).finished, "the end of the good job")
    log = list(whole_lines(workspace.daemon_log))
    assert sum(b"set aside" in line for line in log) == 30
    assert not any(b"Traceback" in line for line in log)
    assert not (tmp_path / "trace").exists()
    assert [letter.what for letter in client.dead_letters()] == ["message"] * 30
    broker.close()


@pytest.mark.parametrize("planted", [pickle.dumps({}), b"[null, false]"])
def test_what_huey_keeps_beside_the_queue_stops_no_job(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons, planted: bytes
) -> None:
    broker = Broker(workspace, Settings())
    for name in ("rt:daemon.queue.job_queue.run_job", "rt:run_job"):
        broker.queue().storage.put_data(name, planted)
    broker.close()
    job = client.enqueue(preset)
    daemons.start()
    assert ended(client, job.id).state is State.COMPLETED
    assert b"Traceback" not in workspace.daemon_log.read_bytes()


def test_records_and_events_that_cannot_be_read_are_set_aside(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    broken = client.enqueue(preset)
    broker = Broker(workspace, Settings())
    broker.redis.hset(keys.job(broken.id), "attempt", b"\x80pickled")
    odd = client.enqueue(preset)
    broker.redis.delete(keys.job(odd.id))
    broker.redis.set(keys.job(odd.id), "no hash")
    daemons.start("garbage")  # its first attempt writes lines that are no events, and dies
    files = FileClient(workspace)  # until the daemon has mended them, Redis has no records
    for job in (broken, odd):
        wait_until(lambda job_id=job.id: files.job(job_id).finished, "the end of the job")  # type: ignore[misc]  # bound now
        assert ended(client, job.id).state is State.COMPLETED
    reasons = {(letter.what, letter.reason) for letter in client.dead_letters()}
    records = {("record", f"the record of {job.id} fits no schema") for job in (broken, odd)}
    assert reasons == records | {("event", f"no event of {job.id}") for job in (broken, odd)}
    for job in (broken, odd):
        shown = [line for _, line in broker.store.events.after(job.id, "0", None)]
        assert all(map(parse_event, shown))
    assert b"Traceback" not in workspace.daemon_log.read_bytes()
    broker.close()
