"""What comes between a look at a job and a change of it, and what stands in the way of either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import pytest

from daemon.client import FarenseClient
from daemon.lifecycle.claims import Claims
from daemon.lifecycle.decisions import come_to
from daemon.lifecycle.outcome import Outcome
from daemon.lifecycle.takeover import release
from daemon.lifecycle.transitions import Lifecycle
from daemon.lifecycle.waiting import Pending
from daemon.queue.broker import Broker
from daemon.queue.reconnect import RedisLink
from daemon.recovery.recovery import Recovery
from daemon.runs.snapshot import snapshot_of
from daemon.settings import Settings
from daemon.worker.worker import Worker
from jobs.config.config import Preset
from jobs.errors import JobFailed
from jobs.paths import Workspace
from jobs.state import JobState, State, now, read_state, write_state
from jobs.storage.files import write_json


@pytest.fixture
def broker(workspace: Workspace, client: FarenseClient) -> Iterator[Broker]:
    found = Broker(workspace, Settings())
    yield found
    found.close()


@pytest.fixture
def lifecycle(workspace: Workspace, broker: Broker) -> Lifecycle:
    return Lifecycle(workspace, broker)


@pytest.mark.parametrize(("fresh", "expected"), [(False, State.QUEUED), (True, State.COMPLETED)])
def test_only_a_summary_of_the_attempt_that_was_lost_says_how_it_ended(
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    lifecycle: Lifecycle,
    fresh: bool,
    expected: State,
) -> None:
    job, claims = client.enqueue(preset), Claims(lifecycle)
    first = claims.claim(job.id, "here:1")
    assert first is not None
    # It came to its end, and was killed before it had said so.
    write_json(workspace.run(job.id).summary, {"state": "completed", "finished_at": now()})
    lifecycle.conclude(first, Outcome(State.QUEUED, "killed"))
    lifecycle.publish(job.id)
    assert claims.claim(job.id, "here:1") is not None
    state = read_state(workspace.run(job.id))
    began = "2026-01-01T00:00:00+00:00" if fresh else "2099-01-01T00:00:00+00:00"
    write_state(workspace.run(job.id), replace(state, attempt_started_at=began))
    Recovery(lifecycle, Settings()).run()
    assert read_state(workspace.run(job.id)).state is expected


def test_a_change_that_came_first_is_not_overwritten(
    workspace: Workspace, preset: Preset, client: FarenseClient, lifecycle: Lifecycle
) -> None:
    first = client.enqueue(preset)
    second = client.enqueue(preset, after=first.id)
    seen = snapshot_of(workspace, second.id)
    assert seen.state is not None
    client.move(second.id, 7)
    assert not lifecycle.settle(seen, come_to(seen.state.to(State.QUEUED)))
    state = read_state(workspace.run(second.id))
    assert (state.state, state.priority) == (State.WAITING, 7)


def test_a_file_that_cannot_be_read_holds_up_its_own_job_alone(
    workspace: Workspace, preset: Preset, client: FarenseClient, lifecycle: Lifecycle
) -> None:
    first = client.enqueue(preset)
    held = client.enqueue(preset, after=first.id)
    due = client.enqueue(preset, after=first.id)
    state = read_state(workspace.run(due.id))
    write_state(workspace.run(due.id), replace(state, state=State.SCHEDULED, after=None))
    unreadable = workspace.run(first.id).state
    unreadable.unlink()
    unreadable.symlink_to(unreadable.name)  # a link to itself
    pending = Pending(lifecycle)
    for job in (held, due):
        pending.add(job.id)
    pending.tick(clock=lambda: 1e9)
    pending.tick(clock=lambda: 2e9)
    assert read_state(workspace.run(held.id)).state is State.WAITING
    assert read_state(workspace.run(due.id)).state is State.QUEUED
    assert Recovery(lifecycle, Settings()).run()


def test_a_job_waits_again_where_the_one_before_it_is_damaged_meanwhile(
    workspace: Workspace, preset: Preset, client: FarenseClient, lifecycle: Lifecycle
) -> None:
    first = client.enqueue(preset)
    second = client.enqueue(preset, after=first.id)
    state = read_state(workspace.run(second.id))
    write_state(workspace.run(second.id), replace(state, state=State.SCHEDULED))
    workspace.run(first.id).state.write_text("{")
    client.store.forget(first.id)
    pending = Pending(lifecycle)
    pending.add(second.id)
    pending.tick(clock=lambda: 1e9)
    assert read_state(workspace.run(second.id)).state is State.WAITING


def test_a_job_that_changes_while_it_is_let_go_is_said_to_have_been_kept(
    preset: Preset, client: FarenseClient
) -> None:
    job = client.enqueue(preset)
    client.store.put_specs({job.id: b"{}"})
    with pytest.raises(JobFailed, match="is changing"):
        release(client.store, replace(job, attempt=3))


def test_a_failing_duty_ends_neither_the_job_nor_the_daemon(
    workspace: Workspace, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(workspace, Settings(), broker, RedisLink(broker), Event(), Event())
    asked = []

    def tick() -> None:
        asked.append(1)
        raise PermissionError(13, "Permission denied", "sweep.lock")

    monkeypatch.setattr(worker.sweeps, "tick", tick)
    worker.mend()
    worker.mend()
    assert asked == [1, 1]
    assert not worker.link.away


def test_a_file_in_the_way_does_not_count_as_a_queue_that_is_away(broker: Broker) -> None:
    link = RedisLink(broker)

    def read() -> JobState:
        raise PermissionError(13, "Permission denied", "state.json")

    def ask() -> JobState:
        raise ConnectionResetError("no answer")

    assert link.call(read) is None
    assert not link.away
    assert link.call(ask) is None
    assert link.away
