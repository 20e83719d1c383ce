"""The queue: order, and messages that are not ours."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import keys
from daemon.broker import Broker
from daemon.client import FarenseClient
from daemon.dead_letters import KEPT
from daemon.job_queue import JobQueue
from daemon.server import EmbeddedServer
from daemon.settings import Settings
from jobs.config import Preset
from jobs.files import whole_lines
from jobs.paths import Workspace
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
        broker.store.set_aside(f"{number} ".encode() * 10_000)
    assert broker.redis.llen(keys.DEAD_LETTERS) == KEPT
    newest = broker.redis.lindex(keys.DEAD_LETTERS, 0)
    assert isinstance(newest, bytes)
    assert len(newest) < 5_000


def test_a_daemon_passes_over_them_with_a_line_each(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons, tmp_path: Path
) -> None:
    broker = Broker(workspace, Settings())
    for _ in range(3):
        broker.queue().storage.enqueue(pickle.dumps(Trap(tmp_path / "trace")), 9)
    job = client.enqueue(preset)
    daemons.start()
    wait_until(lambda: client.job(job.id).finished, "the end of the good job")
    log = list(whole_lines(workspace.daemon_log))
    assert sum(b"set aside" in line for line in log) == 3
    assert not any(b"Traceback" in line for line in log)
    assert not (tmp_path / "trace").exists()
    assert broker.redis.llen(keys.DEAD_LETTERS) == 3
