"""A queue to be measured: workspace, server, client, daemons; and whether its jobs were all done.

The jobs' child is ``tests/children/quick.py``, which speaks the worker's protocol and trains
nothing, or the real one on a tiny model.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.runs import SETTINGS, TINY_LORA, benchmark_workspace
from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.settings import Settings
from jobs.config.config import Preset, config_from
from jobs.paths import REPOSITORY, Workspace
from jobs.storage.files import whole_lines
from tests.helpers.servers import Daemons

SAMPLE = REPOSITORY / "data" / "sample"
REAL = (sys.executable, "-P", "-m", "jobs")
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Room:
    """A workspace whose queue is measured.

    Attributes:
        url: of the shared Redis; None where the workspace has a server of its own.
    """

    workspace: Workspace
    client: FarenseClient
    daemons: Daemons
    url: str | None = None

    def start(self, child: Sequence[str], **settings: Any) -> int:
        """Start a daemon and return its process id."""
        values = {"poll_seconds": Settings.poll_seconds, "redis_url": self.url, **settings}
        return self.daemons.start(child=tuple(child), **values).pid

    @property
    def server_pid(self) -> int:
        """The process id of the workspace's own server."""
        pid = EmbeddedServer(self.workspace).pid()
        assert pid is not None
        return pid


@contextmanager
def room(workspace: Workspace, url: str | None = None) -> Iterator[Room]:
    """Yield a workspace's queue with nothing in it; its daemons and its server end with it."""
    broker = Broker(workspace, Settings(redis_url=url))
    broker.ensure()
    daemons = Daemons(workspace)
    try:
        yield Room(workspace, FarenseClient(workspace, broker), daemons, url)
    finally:
        broker.close()
        daemons.close()


@contextmanager
def fresh_room() -> Iterator[Room]:
    """Yield a queue with a server of its own in a workspace with a tiny model."""
    with benchmark_workspace(tiny=True) as workspace, room(workspace) as queue:
        yield queue


@contextmanager
def real_room() -> Iterator[Room]:
    """Yield a queue in a workspace with the model of the other benchmarks."""
    with benchmark_workspace(tiny=False) as workspace, room(workspace) as queue:
        yield queue


@contextmanager
def two_rooms() -> Iterator[tuple[Room, Room]]:
    """Yield two workspaces with the same model and data that share a Redis, which is in neither."""
    with ExitStack() as stack:
        first = stack.enter_context(benchmark_workspace(tiny=True))
        second = Workspace(first.root / "second")
        hub = EmbeddedServer(Workspace(first.root / "hub"))
        shutil.copytree(first.models, second.models)
        shutil.copytree(REPOSITORY / "data" / "sample", second.data / "sample")
        hub.ensure()
        stack.callback(hub.shut_down)
        url = f"unix://{hub.socket}"
        yield stack.enter_context(room(first, url)), stack.enter_context(room(second, url))


def presets(count: int, *, tiny: bool = True, **settings: Any) -> list[Preset]:
    """Return what a sweep over the sample data enqueues: ``count`` learning rates of one preset."""
    data = {name: str(SAMPLE / f"{name}.jsonl") for name in ("train", "valid")}
    lora = TINY_LORA if tiny else SETTINGS["lora"]
    config = config_from({**SETTINGS, "lora": lora, "data": data, **settings}, "benchmark")
    rates = [(number + 1) * 1e-6 for number in range(count)]
    varied = [config.model_copy(update={"learning_rate": rate}) for rate in rates]
    return [Preset(name="bench", config=one) for one in varied]


def enqueue_one(queue: Room, preset: Preset) -> str:
    """Enqueue a job through a client that is at work already; return its id."""
    return queue.client.enqueue_many([preset])[0].id


def enqueue_by_command(queue: Room, preset: Preset) -> str:
    """Enqueue a job with `farense enqueue`; return its id."""
    queue.workspace.configs.mkdir(exist_ok=True)
    file = queue.workspace.configs / "bench.yaml"
    file.write_bytes(orjson.dumps(preset.config.model_dump(mode="json")))  # JSON is YAML
    farense = Path(sys.executable).with_name("farense")
    environment = os.environ | {"FARENSE_HOME": str(queue.workspace.root)}
    command = [str(farense), "enqueue", str(file), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    return str(orjson.loads(done.stdout)["id"])


def store_jobs(queue: Room, count: int, *, waiting: bool) -> None:
    """Put ``count`` jobs into a workspace whose daemon has not been started.

    Args:
        waiting: they wait for their turn; else they are cancelled, as a user would.
    """
    records = queue.client.enqueue_many(presets(count)) if count else []
    if not waiting:
        for record in records:
            queue.client.cancel(record.id)
        # Their messages would be taken and dropped one by one while something is measured.
        queue.client._broker.queue().storage.flush_queue()


def await_end(
    client: FarenseClient, count: int, limit: float, look: Callable[[int], None]
) -> float:
    """Wait until all jobs have ended; return the seconds it took.

    Args:
        count: of the jobs.
        limit: seconds after which the program ends.
        look: called again and again with the number of jobs that have ended.
    """
    began = time.perf_counter()
    while left := len(client._store.unfinished()):
        if time.perf_counter() - began > limit:
            sys.exit(f"{left} jobs have not ended within {limit:.0f} s.")
        look(count - left)
        time.sleep(POLL_SECONDS)
    look(count)
    return time.perf_counter() - began


def daemon_events(workspace: Workspace, kind: str) -> dict[str, dict[str, Any]]:
    """Return the last event of a kind for each job in the daemon's log."""
    log: Path = workspace.daemon_log
    events = [orjson.loads(line) for line in whole_lines(log)] if log.exists() else []
    return {event["job"]: event for event in events if event["event"] == kind and "job" in event}
