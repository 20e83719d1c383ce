"""Pausing, resuming, retrying, scheduling: with a real server, real daemons and children."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from daemon.client import FarenseClient
from daemon.queue.embedded_server import EmbeddedServer
from jobs.config.config import Preset
from jobs.errors import InvalidInput, JobFailed
from jobs.events import Envelope
from jobs.paths import Workspace
from jobs.state import State, read_state
from jobs.storage.files import whole_lines, write_json
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until


def in_state(client: FarenseClient, job_id: str, state: State) -> None:
    wait_until(lambda: client.job(job_id).state is state, f"{job_id} becoming {state}")


def test_a_running_job_pauses_with_a_checkpoint_and_makes_room(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    long = client.enqueue(preset, name="endless")
    short = client.enqueue(preset, name="good")
    daemons.start("as_named")
    running(client, long.id)
    assert client.pause(long.id).pause_requested
    assert ended(client, short.id).state is State.COMPLETED
    paused = client.job(long.id)
    assert (paused.state, paused.pause_requested) == (State.PAUSED, False)
    assert client.resume(long.id).state in (State.QUEUED, State.RUNNING)

    def starts() -> list[Envelope]:
        return [e for e in client.follow(long.id, follow=False) if e.event.kind == "started"]

    wait_until(lambda: len(starts()) == 2, "the second attempt")
    started = starts()
    assert started[-1].attempt == 2
    assert getattr(started[-1].event, "resumed_step", 0) > 0
    assert read_state(workspace.run(long.id)).lost_attempts == 0
    client.cancel(long.id)
    assert ended(client, long.id).state is State.CANCELLED


def test_a_queued_job_pauses_at_once_and_is_passed_over(
    preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    first, second = client.enqueue(preset), client.enqueue(preset)
    assert client.pause(first.id).state is State.PAUSED
    daemons.start()
    assert ended(client, second.id).state is State.COMPLETED
    assert client.job(first.id).state is State.PAUSED
    client.resume(first.id)
    assert ended(client, first.id).state is State.COMPLETED


def test_a_forced_cancel_does_not_wait(
    preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    daemons.start("stubborn", grace_seconds=300)
    running(client, queued.id)
    client.cancel(queued.id)
    assert client.cancel(queued.id, force=True).cancel_requested
    record = ended(client, queued.id)
    assert record.state is State.CANCELLED
    assert record.reason == "cancelled by the user; its process was killed, as asked"


def test_a_child_that_somebody_else_told_to_stop_goes_on_and_says_so(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    job = client.enqueue(preset, name="endless")
    daemons.start("as_named")
    pid = running(client, job.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: client.job(job.id).attempt == 2, "the next attempt")
    said = [json.loads(line) for line in whole_lines(workspace.daemon_log)]
    reasons = [line["reason"] for line in said if line["event"] == "job_ended"]
    assert reasons == ["its process was told to stop; the job goes on from its last checkpoint"]


def test_moving_a_job_whose_state_is_damaged_says_so(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    job = client.enqueue(preset)
    workspace.run(job.id).state.write_text("")
    with pytest.raises(JobFailed, match=r"state\.json is damaged"):
        client.move(job.id)


def test_a_scheduled_job_starts_at_its_time(
    preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    late = client.enqueue(preset, schedule=datetime.now(UTC) + timedelta(hours=8))
    record = client.enqueue(preset, schedule=soon)
    assert record.state is State.SCHEDULED
    daemons.start()
    done = ended(client, record.id)
    assert done.state is State.COMPLETED
    assert datetime.fromisoformat(done.started_at or "") >= soon.replace(microsecond=0)
    assert client.job(late.id).state is State.SCHEDULED
    assert client.cancel(late.id).state is State.CANCELLED


def test_jobs_follow_one_another(preset: Preset, client: FarenseClient, daemons: Daemons) -> None:
    first = client.enqueue(preset, name="failing")
    well = client.enqueue(preset, name="good", after=first.id)
    anyhow = client.enqueue(preset, name="good", after=first.id, after_any=True)
    last = client.enqueue(preset, name="good", after=anyhow.id)
    assert {client.job(r.id).state for r in (well, anyhow, last)} == {State.WAITING}
    daemons.start("as_named")
    assert ended(client, last.id).state is State.COMPLETED
    assert ended(client, well.id).state is State.FAILED
    assert "has failed" in (client.job(well.id).reason or "")
    began = [client.job(r.id).started_at or "" for r in (first, anyhow, last)]
    assert began == sorted(began)
    with pytest.raises(InvalidInput, match="never start"):
        client.enqueue(preset, after=first.id)


def test_a_retried_job_goes_on_where_the_other_stood(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset, name="endless")
    with pytest.raises(InvalidInput, match="only a job that has ended"):
        client.retry(queued.id)
    client.cancel(queued.id)
    with pytest.raises(InvalidInput, match="no checkpoint"):
        client.retry(queued.id, from_checkpoint=True)
    checkpoint = workspace.run(queued.id).checkpoint(0, 5)
    checkpoint.mkdir()
    (checkpoint / "whole").write_text("5")
    with pytest.raises(InvalidInput, match="no whole checkpoint"):
        client.retry(queued.id, from_checkpoint=True)
    whole = {"version": 3, "counters": {}, "versions": {}, "files": {}}
    write_json(checkpoint / "checkpoint.json", whole)
    with pytest.raises(InvalidInput, match="written by a newer farense"):
        client.retry(queued.id, from_checkpoint=True)
    write_json(checkpoint / "checkpoint.json", {**whole, "version": 2})
    again = client.retry(queued.id, from_checkpoint=True)
    copied = workspace.run(again.id).checkpoint(0, 5) / "whole"
    assert copied.read_text() == "5"
    assert (again.state, again.preset, again.name) == (State.QUEUED, queued.preset, "endless")
    daemons.start("good")
    assert ended(client, again.id).state is State.COMPLETED


def test_outside_its_window_a_daemon_starts_nothing_and_stops_what_runs(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    here = datetime.now().astimezone()
    closed = f"{here + timedelta(hours=2):%H:%M}-{here + timedelta(hours=3):%H:%M}"
    daemons.start("endless", window=closed)
    wait_until(lambda: any(card.held_because for card in client.workers()), "a closed queue")
    assert client.job(queued.id).state is State.QUEUED
    assert client.workers()[0].workspace == str(workspace.root)


def test_one_job_in_each_state_survives_a_wiped_redis(
    preset: Preset, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    later = datetime.now(UTC) + timedelta(hours=8)
    good, bad = client.enqueue(preset, name="good"), client.enqueue(preset, name="failing")
    early = client.enqueue(preset, name="early")
    daemons.start("as_named")
    for record in (good, bad, early):
        ended(client, record.id)
    live = client.enqueue(preset, name="endless")
    running(client, live.id)
    cancelled, paused, queued = (client.enqueue(preset, name="good") for _ in range(3))
    client.cancel(cancelled.id)
    client.pause(paused.id)
    scheduled = client.enqueue(preset, schedule=later)
    waiting = client.enqueue(preset, after=live.id)
    before = {record.id: record.state for record in client.jobs(all=True)}
    assert set(before.values()) == set(State)
    with EmbeddedServer(workspace).client() as redis:
        redis.flushall()
    wait_until(lambda: len(client.jobs(all=True)) == len(before), "the records")
    assert {record.id: record.state for record in client.jobs(all=True)} == before
    client.cancel(live.id)
    assert ended(client, queued.id).state is State.COMPLETED
    assert ended(client, waiting.id).state is State.FAILED
    assert client.job(scheduled.id).state is State.SCHEDULED
    assert client.resume(paused.id).state in (State.QUEUED, State.RUNNING)
    assert ended(client, paused.id).state is State.COMPLETED
    for record in (good, bad, early, cancelled):
        assert client.job(record.id).state is before[record.id]
