"""Something else stands under a key of the queue than farense keeps there: the daemon heals it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.queue.reconnect import MAX_DELAY, RedisLink
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.dead_letters import dead_letters
from jobs.config.config import Preset
from jobs.errors import QueueUnreachable
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import whole_lines
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until


@pytest.fixture
def broker(workspace: Workspace, daemons: Daemons) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    broker.ensure()
    yield broker
    broker.close()


def index_keys(broker: Broker) -> list[str]:
    storage = broker.queue().storage
    own = [keys.JOBS, keys.UNFINISHED, keys.WORKERS, keys.DEAD_LETTERS, keys.left("default")]
    return [*own, storage.queue_key, storage.schedule_key]


def spoil(redis: Redis, name: str) -> None:
    redis.delete(name)
    if name in (keys.JOBS, keys.DEAD_LETTERS):
        redis.hset(name, "field", "boo")
    else:
        redis.set(name, "boo")


def test_jobs_run_whatever_stands_in_the_place_of_the_indexes(
    workspace: Workspace, client: FarenseClient, broker: Broker, preset: Preset, daemons: Daemons
) -> None:
    done = client.enqueue(preset, name="hasty")
    daemons.start("as_named", reconcile_seconds=0.2)
    ended(client, done.id)
    under_way = client.enqueue(preset, name="endless")
    running(client, under_way.id)
    queued = [client.enqueue(preset, name="hasty") for _ in range(2)]
    waiting = client.enqueue(preset, name="hasty", after=queued[1].id)
    names = index_keys(broker)
    for name in names:
        spoil(broker.redis, name)
    wait_until(lambda: len(dead_letters_of(broker)) == len(names), "the letters")
    jobs = [done, under_way, *queued, waiting]
    wait_until(
        lambda: {record.id for record in client.jobs(all=True)} == {job.id for job in jobs},
        "the index of all jobs",
    )
    open_ones = {job.id for job in jobs[1:]}
    wait_until(lambda: broker.store.unfinished() == open_ones, "the index of the open ones")
    assert client.job(under_way.id).state is State.RUNNING
    client.cancel(under_way.id)
    assert ended(client, under_way.id).state is State.CANCELLED
    for job in (*queued, waiting):
        record = ended(client, job.id)
        assert (record.state, record.attempt) == (State.COMPLETED, 1)
    said = list(whole_lines(workspace.logs / "daemon.jsonl"))
    assert len([line for line in said if b"the index is made again" in line]) == len(names)
    assert len([line for line in said if b"is back" in line]) <= 3


def dead_letters_of(broker: Broker) -> list[str]:
    if broker.redis.type(keys.DEAD_LETTERS) == b"hash":
        return []
    return [letter.reason for letter in dead_letters(broker.redis) if letter.what == "index"]


def test_without_a_daemon_a_client_says_what_is_wrong_and_who_mends_it(
    client: FarenseClient, broker: Broker, preset: Preset, daemons: Daemons
) -> None:
    job = client.enqueue(preset)
    spoil(broker.redis, keys.UNFINISHED)
    for look in (client.jobs, client.overview):
        with pytest.raises(QueueUnreachable, match="something else than farense keeps") as caught:
            look()
        assert "farense daemon" in (caught.value.hint or "")
        assert "does not answer" not in caught.value.message
    daemons.start("hasty", reconcile_seconds=0.2)
    assert ended(client, job.id).state is State.COMPLETED
    assert [record.id for record in client.jobs()] == [job.id]


def test_a_server_that_refuses_one_of_two_commands_is_asked_less_and_less(broker: Broker) -> None:
    moment = [0.0]
    link = RedisLink(broker, clock=lambda: moment[0])
    broker.redis.set("odd", "boo")
    tries = 0

    def refused() -> None:
        nonlocal tries
        tries += 1
        broker.redis.smembers("odd")

    while moment[0] < 60.0:
        link.call(broker.redis.ping)
        link.call(refused)
        moment[0] += 0.1
    assert tries < 15
    moment[0] += 3 * MAX_DELAY
    link.call(broker.redis.ping)
    link.call(refused)
    assert link.seconds_to_next_try < 1.0
