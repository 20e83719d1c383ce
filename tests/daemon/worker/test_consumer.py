"""The way of a job, with a real server, a real daemon and real child processes."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from daemon.client import FarenseClient
from daemon.joblog import LogReader
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.settings import Settings
from daemon.store import keys
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State, read_state
from jobs.storage.files import whole_lines
from jobs.storage.locks import is_held
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until


def test_a_job_runs_to_its_end_and_everything_agrees(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset, name="first", priority=3)
    daemon = daemons.start()
    record = ended(client, queued.id)
    assert record.state is State.COMPLETED
    assert (record.attempt, record.step, record.total_steps) == (1, 20, 20)
    assert (record.loss, record.val_loss, record.gap_status) == (2.0, 2.0, "BOM")
    assert (record.name, record.priority, record.worker) == ("first", 3, None)
    state = read_state(workspace.run(queued.id))
    assert (state.state, state.attempt, state.reason) == (State.COMPLETED, 1, None)
    store = Broker(workspace, Settings()).store
    stream = [line for _, line in store.events.after(queued.id, "0", None)]
    assert stream == list(whole_lines(workspace.job_log(queued.id)))
    events = [envelope.event.kind for envelope in client.follow(queued.id)]
    assert (events[0], events[-1]) == ("started", "finished")
    assert record.pid != daemon.pid


def test_a_child_need_not_compile_what_the_one_before_it_has(
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    daemons: Daemons,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    daemons.start()
    assert ended(client, client.enqueue(preset).id).state is State.COMPLETED
    kept = (workspace.private / "bytecode").rglob("*.pyc")
    assert {"events", "state"} <= {path.name.partition(".")[0] for path in kept}


def test_a_stopped_daemon_puts_its_job_back_and_the_next_one_finishes_it(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    later = client.enqueue(preset)
    daemon = daemons.start("endless")
    running(client, queued.id)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    state = read_state(workspace.run(queued.id))
    assert (state.state, state.attempt, state.lost_attempts) == (State.QUEUED, 1, 0)
    assert not EmbeddedServer(workspace).answers()
    daemons.start("good")
    with FarenseClient.connect(workspace) as again:
        record = ended(again, queued.id)
        assert (record.state, record.attempt) == (State.COMPLETED, 2)
        # What was under way goes first.
        assert (ended(again, later.id).started_at or "") >= (record.finished_at or "")


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGHUP,)])
def test_other_signals_stop_it_as_well(
    signals: tuple[signal.Signals, ...],
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    daemons: Daemons,
) -> None:
    queued = client.enqueue(preset)
    daemon = daemons.start("endless")
    running(client, queued.id)
    for number in signals:
        daemon.send_signal(number)
    assert daemon.wait(20) == 0
    assert read_state(workspace.run(queued.id)).state is State.QUEUED


def test_a_second_signal_does_not_wait_for_a_stubborn_child(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    daemon = daemons.start("stubborn", grace_seconds=300)
    running(client, queued.id)
    daemon.send_signal(signal.SIGTERM)
    log = workspace.daemon_log
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(0.5)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    state = read_state(workspace.run(queued.id))
    assert (state.state, state.lost_attempts) == (State.QUEUED, 0)
    assert b"Traceback" not in log.read_bytes()


def test_a_killed_daemon_leaves_no_child_and_the_next_one_resumes(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    daemon = daemons.start("endless")
    running(client, queued.id)
    daemon.kill()
    wait_until(lambda: not is_held(workspace.run(queued.id).lock), "the end of the child")
    assert read_state(workspace.run(queued.id)).state is State.RUNNING
    daemons.start("good")
    record = ended(client, queued.id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    started = [e for e in client.follow(queued.id) if e.event.kind == "started"]
    assert getattr(started[-1].event, "resumed_step", 0) > 0
    lines = list(whole_lines(workspace.job_log(queued.id)))
    stream = Broker(workspace, Settings()).store.events.after(queued.id, "0", None)
    assert [line for _, line in stream] == lines


def test_a_cancel_that_met_a_dead_daemon_is_not_forgotten(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    daemon = daemons.start("endless")
    running(client, queued.id)
    daemon.kill()
    daemon.wait(20)
    wait_until(lambda: not is_held(workspace.run(queued.id).lock), "the end of the child")
    assert client.cancel(queued.id).state is State.CANCELLED
    daemons.start("good")
    assert client.job(queued.id).state is State.CANCELLED


def test_training_goes_on_while_the_server_is_dead_and_the_record_catches_up(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    daemons.start("endless")
    server = EmbeddedServer(workspace)
    running(client, queued.id)
    first, log = server.pid(), workspace.job_log(queued.id)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    size = log.stat().st_size
    wait_until(lambda: log.stat().st_size > size + 5_000, "training without a server")
    # The daemon needs it, so it starts it again.
    wait_until(lambda: server.pid() not in (None, first), "a new server")
    with FarenseClient.connect(workspace) as again:
        reader = LogReader(log)
        total = 0
        while lines := reader.read():
            total += len(lines.lines)
        stream = Broker(workspace, Settings()).store
        wait_until(lambda: len(stream.events.after(queued.id, "0", None)) >= min(total, 500))
        again.cancel(queued.id)
        record = ended(again, queued.id)
        assert (record.state, record.attempt) == (State.CANCELLED, 1)
    told = [line for line in whole_lines(workspace.daemon_log) if b" is away" in line]
    assert len(told) == 1
    assert b"Traceback" not in workspace.daemon_log.read_bytes()


def test_a_wiped_redis_under_a_running_job_is_mended(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    waiting = client.enqueue(preset)
    daemons.start("endless")
    running(client, queued.id)
    with EmbeddedServer(workspace).client() as redis:
        redis.flushall()
    ids = {queued.id, waiting.id}
    wait_until(lambda: {record.id for record in client.jobs()} == ids, "the records")
    assert running(client, queued.id).attempt == 1
    client.cancel(queued.id)
    assert ended(client, queued.id).state is State.CANCELLED
    lines = list(whole_lines(workspace.job_log(queued.id)))
    store = Broker(workspace, Settings()).store
    assert [line for _, line in store.events.after(queued.id, "0", None)] == lines[:500]
    # The message of the other one was lost as well.
    assert running(client, waiting.id).attempt == 1


def test_a_wiped_redis_is_rebuilt_at_the_start(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    finished = client.enqueue(preset, name="done")
    daemon = daemons.start("good")
    before = ended(client, finished.id)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(20)
    EmbeddedServer(workspace).ensure()
    cancelled = client.enqueue(preset)
    client.cancel(cancelled.id)
    queued = client.enqueue(preset, priority=2)
    with EmbeddedServer(workspace).client() as redis:
        redis.flushall()
    daemons.start("good")
    wait_until(lambda: len(client.jobs(all=True)) == 3, "the records")
    record = ended(client, queued.id)
    assert (record.state, record.priority) == (State.COMPLETED, 2)
    assert client.job(cancelled.id).state is State.CANCELLED
    after = client.job(finished.id)
    assert (after.state, after.attempt, after.step) == (State.COMPLETED, 1, 20)
    assert (after.loss, after.val_loss, after.name) == (before.loss, before.val_loss, "done")
    assert after.finished_at == before.finished_at


def test_a_second_daemon_is_refused(workspace: Workspace, daemons: Daemons) -> None:
    first = daemons.start()
    second = daemons.spawn()
    assert second.wait(20) == 1
    assert second.stderr is not None
    assert f"(pid {first.pid})" in second.stderr.read().decode()
    assert first.poll() is None


def test_a_job_whose_run_directory_is_gone_fails_clearly(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    workspace.run(queued.id).path.rename(workspace.root / "elsewhere")
    daemons.start()
    record = ended(client, queued.id)
    assert record.state is State.FAILED
    assert "not in this workspace" in (record.reason or "")
    other = client.enqueue(preset)
    assert ended(client, other.id).state is State.COMPLETED


def test_a_damaged_record_is_made_again_from_the_files(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    queued = client.enqueue(preset)
    with EmbeddedServer(workspace).client() as redis:
        redis.hset(keys.job(queued.id), "state", "exploded")
    daemons.start()
    wait_until(lambda: read_state(workspace.run(queued.id)).state is State.COMPLETED, "the end")
    assert ended(client, queued.id).state is State.COMPLETED
