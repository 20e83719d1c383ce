"""The order of the queue, as it is shown and as it is worked off, and moving a job within it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from daemon.client import FarenseClient
from daemon.latest import RAN
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.queue.position import places
from daemon.runs.files import record_from_files
from daemon.settings import Settings
from daemon.store.records import JobRecord, run_dir_of
from jobs.config.config import Preset
from jobs.errors import InvalidInput, JobFailed, QueueUnreachable
from jobs.paths import Workspace
from jobs.state import State, read_state
from tests.helpers.ended import job_id, put_job
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons

NOT_WAITING = sorted(set(State) - {State.QUEUED, State.SCHEDULED, State.WAITING, State.PAUSED})


@pytest.fixture
def broker(workspace: Workspace, server: EmbeddedServer) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    yield broker
    broker.close()


def put(
    workspace: Workspace, broker: Broker, number: int, state: State = State.QUEUED, **fields: Any
) -> JobRecord:
    """Put a job into the workspace, Redis and, where it is queued, onto the queue."""
    put_job(workspace, number, state, **{"attempt": 0, **fields})
    record = record_from_files(workspace, job_id(number))
    assert record is not None
    broker.store.create_many([record])
    if state is State.QUEUED:
        broker.queue().push(record.id, record.priority, resumed=record.attempt > 0)
    return record


def worked_off(broker: Broker) -> list[int]:
    """Return the numbers of the jobs in the order in which a worker gets their messages."""
    queue, taken = broker.queue(), []
    while queue.pending_count():
        task = queue.dequeue()
        if task is not None:
            taken.append(int(task.args[0][9:15]))
    return taken


def shown(client: FarenseClient) -> list[int]:
    """Return the numbers of the queued jobs as they are shown, counted from 1."""
    queued = [place for place in client.queue() if place.position is not None]
    assert [place.position for place in queued] == list(range(1, len(queued) + 1))
    return [int(place.record.id[9:15]) for place in queued]


def test_what_is_shown_is_the_order_in_which_it_is_worked_off(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    put(workspace, broker, 5)
    put(workspace, broker, 1)
    put(workspace, broker, 4, attempt=1)
    put(workspace, broker, 2, priority=3)
    put(workspace, broker, 3, priority=-1)
    put(workspace, broker, 6, State.RUNNING)
    put(workspace, broker, 7, State.COMPLETED)
    broker.queue().push(job_id(1))  # a second message changes nothing
    broker.queue().storage.enqueue(pickle.dumps("no message"), 9)
    order = shown(client)
    assert order == [2, 4, 5, 1, 3]
    assert list(dict.fromkeys(worked_off(broker))) == order


def test_what_is_not_queued_yet_comes_after_without_a_number(workspace: Workspace) -> None:
    def record(number: int, state: State, **fields: Any) -> JobRecord:
        return replace(JobRecord(job_id(number), "v2", state, ""), **fields)

    found = places(
        [
            record(1, State.PAUSED),
            record(2, State.WAITING, after=job_id(8)),
            record(3, State.SCHEDULED, schedule="2026-11-24T23:00:00+00:00"),
            record(4, State.SCHEDULED, schedule="2026-11-23T23:00:00+00:00"),
            record(5, State.QUEUED),
            record(6, State.PAUSED, priority=1),
            record(8, State.RUNNING),
        ]
    )
    assert [(place.position, int(place.record.id[9:15])) for place in found] == [
        (1, 5), (None, 4), (None, 3), (None, 2), (None, 6), (None, 1)
    ]  # fmt: skip


def test_without_messages_priority_progress_and_time_decide() -> None:
    def record(number: int, **fields: Any) -> JobRecord:
        return replace(JobRecord(job_id(number), "v2", State.QUEUED, ""), **fields)

    waiting = [record(3), record(1, attempt=1), record(2, priority=1), record(4, created_at="")]
    numbers = [int(place.record.id[9:15]) for place in places(waiting)]
    assert numbers == [2, 1, 3, 4]
    # One without a message comes last: it has to be found and pushed first.
    assert [place.record.id for place in places(waiting, [job_id(4), job_id(3)])] == [
        job_id(4), job_id(3), job_id(2), job_id(1)
    ]  # fmt: skip


def test_a_moved_job_is_worked_off_in_its_new_turn(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    for number in range(1, 6):
        put(workspace, broker, number)
    broker.queue().push(job_id(3))  # both of its messages move
    assert client.move(job_id(3), 2).priority == 2
    assert read_state(workspace.run(job_id(3))).priority == 2
    client.move(job_id(5), 2)
    client.move(job_id(1), -1)
    assert shown(client) == [3, 5, 2, 4, 1]
    client.move(job_id(5), 0)  # back among its equals, it has the turn it had
    assert shown(client) == [3, 2, 4, 5, 1]
    assert broker.queue().pending_count() == 6
    assert list(dict.fromkeys(worked_off(broker))) == [3, 2, 4, 5, 1]


def test_top_goes_before_all_that_are_queued(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    put(workspace, broker, 1, priority=7)
    put(workspace, broker, 2, priority=7, attempt=1)  # goes before its equals
    put(workspace, broker, 3)
    put(workspace, broker, 4, State.PAUSED, priority=50)
    put(workspace, broker, 5, State.RUNNING, priority=60)
    assert client.move(job_id(3)).priority == 8
    assert shown(client) == [3, 2, 1]
    assert client.move(job_id(3)).priority == 8
    assert client.move(job_id(1)).priority == 9
    assert worked_off(broker) == [1, 3, 2]


def test_the_daemon_takes_the_job_at_the_top_first(
    preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    jobs = [client.enqueue(preset) for _ in range(3)]
    client.move(jobs[2].id)
    client.move(jobs[0].id, -1)
    daemons.start()
    records = [ended(client, job.id) for job in jobs]
    starts = sorted(records, key=lambda record: record.started_at or "")
    assert [record.id for record in starts] == [jobs[2].id, jobs[1].id, jobs[0].id]
    assert client.queue() == []


def test_a_job_alone_is_at_the_top_already(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    put(workspace, broker, 1, priority=-3)
    assert client.move(job_id(1)).priority == -3


def test_a_job_that_is_not_queued_yet_keeps_its_state_and_takes_the_priority_along(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    before = put(workspace, broker, 1, State.WAITING, after=job_id(9), reason="starts after it")
    record = client.move(job_id(1), 4)
    assert record == replace(before, priority=4)
    state = read_state(workspace.run(job_id(1)))
    assert (state.state, state.priority, state.after) == (State.WAITING, 4, job_id(9))
    assert broker.queue().pending_count() == 0


def test_a_lost_message_and_a_lost_record_come_back(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    put(workspace, broker, 1)
    put(workspace, broker, 2)
    broker.redis.delete(broker.queue().storage.queue_key)
    client.move(job_id(2), 1)
    assert worked_off(broker) == [2]
    # The record goes after the look at it, say.
    record = client.job(job_id(1))
    client.job = lambda argument, use=RAN: record  # type: ignore[method-assign]
    broker.store.forget(job_id(1))
    client.move(job_id(1), 5)
    restored = broker.store.get(job_id(1))
    assert restored is not None
    assert (restored.priority, restored.state) == (5, State.QUEUED)


@pytest.mark.parametrize("state", NOT_WAITING)
def test_what_does_not_wait_is_not_moved(
    workspace: Workspace, client: FarenseClient, broker: Broker, state: State
) -> None:
    before = put(workspace, broker, 1, state, attempt=1)
    with pytest.raises(InvalidInput, match=rf"{job_id(1)} .* \({state}\)"):
        client.move(job_id(1), 4)
    assert broker.store.get(job_id(1)) == before  # a reader would add that nothing runs it
    assert read_state(workspace.run(job_id(1))).priority == 0


def test_a_job_whose_files_are_elsewhere_is_not_moved(
    workspace: Workspace, client: FarenseClient, broker: Broker
) -> None:
    run = run_dir_of(job_id(1))
    record = JobRecord(job_id(1), "v2", State.QUEUED, run, home="mac-mini:/Users/ana/farense")
    broker.store.create_many([record])
    with pytest.raises(JobFailed, match="not in this workspace") as caught:
        client.move(job_id(1), 4)
    assert "mac-mini" in (caught.value.hint or "")
    assert broker.store.get(job_id(1)) == record


def test_the_file_is_changed_first(
    workspace: Workspace, client: FarenseClient, broker: Broker, server: EmbeddedServer
) -> None:
    record = put(workspace, broker, 1)
    client.job = lambda argument, use=RAN: record  # type: ignore[method-assign]
    server.shut_down()
    with pytest.raises(QueueUnreachable):
        client.move(job_id(1), 6)
    assert read_state(workspace.run(job_id(1))).priority == 6
    with FarenseClient.connect(workspace) as again:  # asked again, all agree
        again.move(job_id(1), 6)
        assert [place.record.priority for place in again.queue()] == [6]
