"""The end of a job is known at one place, whoever brings it about, and told once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from daemon.client import FarenseClient
from daemon.lifecycle.claims import Claims
from daemon.lifecycle.decisions import cancelled, paused, resumed
from daemon.lifecycle.outcome import Outcome
from daemon.lifecycle.transitions import Lifecycle
from daemon.lifecycle.waiting import Pending
from daemon.queue.broker import Broker
from daemon.recovery.recovery import Recovery
from daemon.settings import Settings
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import JobState, State, read_state
from jobs.storage.files import write_json

Told = list[tuple[str, State]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def lifecycle(workspace: Workspace, client: FarenseClient, told: Told) -> Iterator[Lifecycle]:
    broker = Broker(workspace, Settings())

    def on_end(job_id: str, state: JobState) -> None:
        told.append((job_id, state.state))

    yield Lifecycle(workspace, broker, on_end)
    broker.close()


def test_an_attempt_that_ends_its_job_is_told_once(
    client: FarenseClient, preset: Preset, lifecycle: Lifecycle, told: Told
) -> None:
    job = client.enqueue(preset)
    claim = Claims(lifecycle).claim(job.id, "here:1")
    assert claim is not None
    assert lifecycle.conclude(claim, Outcome(State.COMPLETED)) is not None
    assert lifecycle.conclude(claim, Outcome(State.FAILED)) is None
    lifecycle.publish(job.id)
    lifecycle.change(job.id, cancelled)
    assert Recovery(lifecycle, Settings()).run()
    assert client.job(job.id).state is State.COMPLETED
    assert told == [(job.id, State.COMPLETED)]


def test_what_goes_on_later_has_not_ended(
    client: FarenseClient, preset: Preset, lifecycle: Lifecycle, told: Told
) -> None:
    job = client.enqueue(preset)
    for outcome in (State.QUEUED, State.PAUSED):
        claim = Claims(lifecycle).claim(job.id, "here:1")
        assert claim is not None
        lifecycle.conclude(claim, Outcome(outcome))
        lifecycle.publish(job.id)
    lifecycle.change(
        job.id, lambda seen: resumed(seen, lambda old: replace(old, state=State.QUEUED))
    )
    lifecycle.change(job.id, paused)
    assert told == []
    lifecycle.change(job.id, cancelled)
    assert told == [(job.id, State.CANCELLED)]


def test_ends_that_nobody_was_there_to_see_are_told_by_who_finds_them(
    workspace: Workspace, client: FarenseClient, preset: Preset, lifecycle: Lifecycle, told: Told
) -> None:
    done, lost = client.enqueue_many([preset] * 2)
    for job in (done, lost):
        assert Claims(lifecycle).claim(job.id, "here:1") is not None
    write_json(workspace.run(done.id).summary, {"state": "early_stopped"})
    Recovery(lifecycle, Settings(max_attempts=1)).run()
    expected = [(done.id, State.EARLY_STOPPED), (lost.id, State.FAILED)]
    assert sorted(told) == sorted(expected)


def test_a_job_that_can_never_start_is_told(
    workspace: Workspace, client: FarenseClient, preset: Preset, lifecycle: Lifecycle, told: Told
) -> None:
    first = client.enqueue(preset)
    second = client.enqueue(preset, after=first.id)
    lifecycle.change(first.id, cancelled)
    pending = Pending(lifecycle)
    pending.add(second.id)
    pending.tick(clock=lambda: 1e9)
    assert read_state(workspace.run(second.id)).state is State.FAILED
    assert told == [(first.id, State.CANCELLED), (second.id, State.FAILED)]


def test_the_end_of_a_job_without_files_here_is_told_by_the_one_that_moves_its_record(
    workspace: Workspace, client: FarenseClient, preset: Preset, lifecycle: Lifecycle, told: Told
) -> None:
    job = client.enqueue(preset)
    record = replace(client.store.get(job.id) or job, home="south:/farense#0123456789ab")
    client.store.annotate(job.id, record, {"home": record.home})
    workspace.run(job.id).path.rename(workspace.root / "elsewhere")
    state = JobState(State.CANCELLED, reason="asked")
    assert lifecycle.move_record(record, state)
    assert not lifecycle.move_record(record, state)
    assert told == [(job.id, State.CANCELLED)]
