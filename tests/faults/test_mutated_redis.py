"""Everything that stands in Redis, damaged at random, under a daemon's worker and a client."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import cast

import orjson
import pytest

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.queue.reconnect import RedisLink
from daemon.settings import Settings
from daemon.store import keys
from daemon.worker.worker import Worker
from jobs.config.config import Preset
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.state import read_state, write_state
from tests.daemon.conftest import preset
from tests.helpers.mutations import Mutator
from tests.helpers.trials import EACH, tried

__all__ = ["preset"]

# Fields that a record has only once its job has run, or waits.
FIELDS = {
    "log_offset": b"0", "lease_until": b"1764060000", "worker": b'"mac:1"', "home": b'"mac:/x"',
    "after": b'"20261122-210000-v2-abcd"', "schedule": b'"2026-11-25T23:00:00+00:00"',
}  # fmt: skip
RESULTS = "huey.results.farense"


@pytest.fixture
def broker(workspace: Workspace) -> Iterator[Broker]:
    """A real server with nothing in it."""
    server, broker = EmbeddedServer(workspace), Broker(workspace, Settings())
    server.ensure()
    yield broker
    broker.close()
    server.shut_down()


def test_redis(workspace: Workspace, preset: Preset, broker: Broker) -> None:
    client, redis = FarenseClient(workspace, broker), broker.redis
    jobs = [client.enqueue(preset).id for _ in range(2)]
    states = {job: read_state(workspace.run(job)) for job in jobs}
    kept = {key: redis.dump(key) for key in cast(list[bytes], redis.keys("*"))}
    worker = Worker(workspace, Settings(), broker, RedisLink(broker), Event(), Event())

    def attempt(mutator: Mutator) -> bool:
        redis.flushall()
        for key, value in kept.items():
            redis.restore(key, 0, cast(bytes, value))
        for job, state in states.items():
            write_state(workspace.run(job), state)
        damaged = mutator.random.choice(jobs)
        damage(broker, mutator, damaged)
        accepted = broker.store.get(damaged) is not None
        client.jobs()
        client.queue()
        client.workers()
        ask(mutator, client, damaged)
        # What a daemon does before each message, and then with it.
        worker.link.lost_something = mutator.random.random() < 0.5
        worker._recheck_at = 0.0
        worker.mend()
        assert not worker.link.away
        for job in jobs:
            claim = worker.claims.claim(job, "mac:1")
            if claim is not None:
                worker.lifecycle.publish(job)
            assert broker.store.get(job) is not None
        list(client.follow(damaged, follow=False))
        return accepted

    tried("redis", attempt, EACH // 4)  # each writes some files, and waits for the disk


def damage(broker: Broker, mutator: Mutator, job: str) -> None:
    """Damage one to three fields of a record, and now and then what stands beside the records."""
    redis, key = broker.redis, keys.job(job)
    found = cast(dict[bytes, bytes], redis.hgetall(key))
    fields = FIELDS | {name.decode(): value for name, value in found.items()}
    for name in mutator.random.sample(sorted(fields), mutator.random.randint(1, 3)):
        redis.hset(key, name, mutator.json_or_bytes(orjson.loads(fields[name] or b"null")))
    match mutator.random.randrange(6):
        case 0:
            redis.hset(keys.WORKERS, "mac:1", mutator.json_or_bytes({"name": "mac:1", "at": 1.5}))
        case 1:
            redis.hset(RESULTS, "rt:daemon.job_queue.run_job", mutator.json_or_bytes([None, False]))
        case 2:
            message = {"id": "1", "name": "daemon.job_queue.run_job", "args": [job]}
            broker.queue().storage.enqueue(mutator.json_or_bytes({"message": message}), 3)
        case 3:
            redis.lpush(keys.DEAD_LETTERS, mutator.json_or_bytes({"what": "event", "size": 1}))


def ask(mutator: Mutator, client: FarenseClient, job: str) -> None:
    """Ask something of a job, whose record may be unreadable until a daemon has mended it."""
    try:
        match mutator.random.randrange(4):
            case 0:
                client.cancel(job)
            case 1:
                client.pause(job)
            case 2:
                client.move(job, 3)
        client.dead_letters()
    except FarenseError:
        return
