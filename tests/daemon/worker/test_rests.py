"""Rests of the machine, and GPU time-outs: the same job goes on, to the same bits."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from jobs.config.config import Preset, load_preset
from jobs.errors import QueueUnreachable
from jobs.events import Started
from jobs.paths import RunDirectory, Workspace
from jobs.state import State, read_state
from tests.children import lingering, timing_out
from tests.helpers.jobs import ended, running
from tests.helpers.runs import numbers
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

REAL = (sys.executable, "-P", "-m", "jobs")
SETTINGS = ("num_epochs=12", "save_steps=7", "log_steps=2", "eval_steps=30")
LINGERING = (sys.executable, "-P", str(Path(lingering.__file__)), "2", "15")
TIMING_OUT = (sys.executable, "-P", str(Path(timing_out.__file__)), "3")
# A child may be on its way for a part of a second, the machine rests for an hour or a little.
LONG, SHORT = (json.dumps({"after_minutes": 0.005, "minutes": minutes}) for minutes in (60, 0.005))
# Of a real child on a busy machine.
WITHIN = 120.0


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling kernels for a fresh workspace takes longer than these trainings."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def resting(client: FarenseClient, job_id: str) -> JobRecord:
    """Return the record of a job while the machine rests."""

    def rests() -> JobRecord | None:
        with suppress(QueueUnreachable):  # a daemon that starts brings it up
            return rests_now()
        return None

    def rests_now() -> JobRecord | None:
        record = client.job(job_id)
        queued = record.state is State.QUEUED and (record.reason or "").startswith("resting until")
        held = any((card.held_because or "").startswith("resting") for card in client.workers())
        return record if queued and held else None

    return wait_until(rests, "the rest")


def reached(client: FarenseClient) -> bool:
    with suppress(QueueUnreachable):
        client.workers()
        return True
    return False


def starts(client: FarenseClient, job_id: str) -> list[int]:
    """Return the steps from which the attempts of a job went on."""
    events = [envelope.event for envelope in client.follow(job_id)]
    return [event.resumed_step for event in events if isinstance(event, Started)]


def run_at_once(client: FarenseClient, daemons: Daemons, preset: Preset) -> JobRecord:
    """Run a job that nothing comes in the way of, by a daemon that then ends."""
    daemon = daemons.start(child=REAL)
    whole = client.enqueue(preset)
    record = ended(client, whole.id, WITHIN)
    assert record.state is State.COMPLETED
    daemon.terminate()
    daemon.wait(WITHIN)
    return record


def adapter(run: RunDirectory) -> bytes:
    return (run.adapters / "adapters.safetensors").read_bytes()


def test_a_job_that_rests_ends_with_the_same_bits(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = load_preset(preset.name, (workspace.configs,), SETTINGS)
    whole = run_at_once(client, daemons, long)
    monkeypatch.setenv("FARENSE_REST", SHORT)
    daemons.start(child=LINGERING, max_attempts=1)
    rested = client.enqueue(long)
    record = ended(client, rested.id, WITHIN)
    assert (record.state, record.lost_attempts, record.history) == (State.COMPLETED, 0, [])
    begun = starts(client, rested.id)
    assert len(begun) == record.attempt >= 3
    assert begun == sorted(set(begun))
    runs = [workspace.run(job.id) for job in (whole, rested)]
    assert numbers(runs[0]) == numbers(runs[1])
    assert adapter(runs[0]) == adapter(runs[1])


def test_a_job_whose_gpu_work_is_ended_again_and_again_does_so_too(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    long = load_preset(preset.name, (workspace.configs,), SETTINGS)
    whole = run_at_once(client, daemons, long)
    daemons.start(child=TIMING_OUT, max_attempts=1)
    broken = client.enqueue(long)
    record = ended(client, broken.id, WITHIN)
    assert (record.state, record.attempt, record.lost_attempts) == (State.COMPLETED, 4, 0)
    assert [entry["class"] for entry in record.history] == ["gpu_timeout"] * 3
    assert starts(client, broken.id) == [0, 7, 14, 21]
    runs = [workspace.run(job.id) for job in (whole, broken)]
    assert numbers(runs[0]) == numbers(runs[1])
    assert adapter(runs[0]) == adapter(runs[1])


def test_after_a_rest_the_same_job_goes_on_before_more_urgent_ones(
    client: FarenseClient, daemons: Daemons, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARENSE_REST", SHORT)
    daemons.start("as_named")
    long = client.enqueue(preset, name="endless")
    running(client, long.id)
    urgent = client.enqueue(preset, name="good", priority=9)
    wait_until(lambda: client.job(long.id).attempt >= 3, "the third attempt")
    assert client.job(urgent.id).attempt == 0
    assert client.job(long.id).lost_attempts == 0
    begun = starts_so_far(client, long.id)
    assert begun == sorted(set(begun))
    # Its message is on the queue no more than once, however often it has rested.
    queue = client._broker.queue()
    assert len(queue.storage.enqueued_items()) <= 2
    client.cancel(long.id)
    assert ended(client, long.id).state is State.CANCELLED
    assert ended(client, urgent.id).state is State.COMPLETED


def starts_so_far(client: FarenseClient, job_id: str) -> list[int]:
    path = client.workspace.job_log(job_id)
    told = [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]
    return [event["resumed_step"] for event in told if event["event"] == "started"]


def test_a_job_can_be_cancelled_and_paused_while_the_machine_rests(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FARENSE_REST", LONG)
    daemon = daemons.start("endless")
    first = client.enqueue(preset)
    record = resting(client, first.id)
    assert (record.reason or "").endswith("; goes on from its last checkpoint")
    (why,) = client.why_nothing_starts("default")
    assert "starts nothing: resting until" in why
    assert client.cancel(first.id).state is State.CANCELLED
    # The next one waits for the end of the rest, and a new daemon does not know of it.
    second = client.enqueue(preset)
    daemon.terminate()
    daemon.wait(WITHIN)
    daemon = daemons.start("endless")
    resting(client, second.id)
    assert client.pause(second.id).state is State.PAUSED
    client.resume(second.id)
    daemon.terminate()
    daemon.wait(WITHIN)
    assert read_state(workspace.run(second.id)).state is State.QUEUED
    monkeypatch.delenv("FARENSE_REST")
    daemons.start("good")
    wait_until(lambda: reached(client), "the queue")
    assert ended(client, second.id).state is State.COMPLETED
    begun = starts(client, second.id)
    assert len(begun) == 2
    assert begun[1] > 0
    assert client.job(first.id).attempt == 1


def test_a_job_that_ends_before_knows_nothing_of_it(
    client: FarenseClient, daemons: Daemons, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARENSE_REST", '{"after_minutes": 60, "minutes": 60}')
    daemons.start("good")
    jobs = [client.enqueue(preset) for _ in range(2)]
    assert [ended(client, job.id).attempt for job in jobs] == [1, 1]


def test_one_that_is_killed_for_a_rest_runs_without_until_it_gets_on(
    client: FarenseClient, daemons: Daemons, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stop in time, and writes no checkpoint: it would begin anew for ever."""
    monkeypatch.setenv("FARENSE_REST", SHORT)
    daemons.start("stubborn_unsaved", grace_seconds=0.2)
    job = client.enqueue(preset)
    log = client.workspace.daemon_log
    wait_until(lambda: b"rest_cost_progress" in log.read_bytes(), "the daemon's word")
    wait_until(lambda: client.job(job.id).attempt == 2, "the next attempt")
    wait_until(lambda: client.job(job.id).step > 200, "many steps without a rest")
    record = client.job(job.id)
    assert (record.attempt, record.lost_attempts) == (2, 0)
    client.cancel(job.id, force=True)
