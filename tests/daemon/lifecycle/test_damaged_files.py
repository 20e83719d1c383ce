"""`state.json`, `job.json` or the whole run directory of a job is damaged: no job is lost by it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.queue.broker import Broker
from daemon.settings import Settings
from daemon.store.records import JobRecord
from jobs.config.config import Preset, load_preset
from jobs.paths import RunDirectory, Workspace
from jobs.state import State, read_state, state_values, write_state
from jobs.storage.files import read_json, whole_lines
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons, alive
from tests.helpers.waiting import wait_until

QUICK: dict[str, Any] = {"reconcile_seconds": 0.2}
REAL = (sys.executable, "-P", "-m", "jobs")
LONG = ("num_epochs=2000", "log_steps=2", "eval_steps=500", "save_steps=500")


@pytest.fixture
def broker(workspace: Workspace, daemons: Daemons) -> Iterator[Broker]:
    broker = Broker(workspace, Settings())
    broker.ensure()
    yield broker
    broker.close()


def empty_state(run: RunDirectory) -> None:
    run.state.write_bytes(b"")


def remove_state(run: RunDirectory) -> None:
    run.state.unlink()


def negative_attempt(run: RunDirectory) -> None:
    values = {**state_values(read_state(run)), "attempt": -5}
    run.state.write_text(str(values).replace("'", '"').replace("None", "null").lower())


DAMAGE = [empty_state, remove_state, negative_attempt]


def log_lines(workspace: Workspace, event: str) -> list[dict[str, object]]:
    path = workspace.logs / "daemon.jsonl"
    lines = [orjson.loads(line) for line in whole_lines(path)] if path.exists() else []
    return [line for line in lines if line["event"] == event]


def listed(workspace: Workspace, client: FarenseClient, job_id: str) -> list[JobRecord]:
    """Return what is shown of a job by Redis and, without it, by the files."""
    found = [*client.jobs(all=True), *FileClient(workspace).jobs(all=True)]
    return [record for record in found if record.id == job_id]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_job_whose_state_is_damaged_while_it_runs_ends_as_it_does(
    workspace: Workspace,
    client: FarenseClient,
    preset: Preset,
    daemons: Daemons,
    damage: Callable[[RunDirectory], None],
) -> None:
    daemons.start("good", **QUICK)
    job = client.enqueue(preset)
    follower = client.enqueue(preset, after=job.id)
    running(client, job.id)
    run = workspace.run(job.id)
    damage(run)
    record = ended(client, job.id)
    assert (record.state, record.attempt) == (State.COMPLETED, 1), record.reason
    assert read_state(run).state is State.COMPLETED
    # What stood there is still there for a person, under another name.
    kept = [path.name for path in run.path.glob("state.json.damaged*")]
    assert bool(kept) == (damage is not remove_state)
    assert ended(client, follower.id).state is State.COMPLETED
    assert not log_lines(workspace, "attempt_superseded")


def test_a_job_whose_state_is_damaged_while_it_runs_can_be_cancelled(
    workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    daemons.start("endless", **QUICK)
    job = client.enqueue(preset)
    running(client, job.id)
    empty_state(workspace.run(job.id))
    client.cancel(job.id)
    assert ended(client, job.id).state is State.CANCELLED
    assert read_state(workspace.run(job.id)).state is State.CANCELLED


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_job_whose_state_is_damaged_goes_on_where_its_daemon_died(
    workspace: Workspace,
    client: FarenseClient,
    preset: Preset,
    daemons: Daemons,
    damage: Callable[[RunDirectory], None],
) -> None:
    daemon = daemons.start("endless", **QUICK)
    job = client.enqueue(preset)
    pid = running(client, job.id).pid
    damage(workspace.run(job.id))
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    assert pid is not None
    wait_until(lambda: not alive(pid), "the end of the child")
    daemons.start("good", **QUICK)
    record = ended(client, job.id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2), record.reason
    state = read_state(workspace.run(job.id))
    assert (state.state, state.lost_attempts) == (State.COMPLETED, 1)


def test_waiting_jobs_whose_states_are_damaged_run_all_the_same(
    workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    queued, paused = client.enqueue(preset), client.enqueue(preset)
    waiting = client.enqueue(preset, after=queued.id)
    client.pause(paused.id)
    for job in (queued, waiting, paused):
        empty_state(workspace.run(job.id))
    daemons.start("hasty", **QUICK)
    for job in (queued, waiting):
        assert ended(client, job.id).state is State.COMPLETED
    wait_until(lambda: read_json_state(workspace, paused.id) == "paused", "the paused job's state")
    client.resume(paused.id)
    assert ended(client, paused.id).state is State.COMPLETED


def read_json_state(workspace: Workspace, job_id: str) -> str | None:
    try:
        return str(read_json(workspace.run(job_id).state)["state"])
    except (OSError, ValueError):
        return None


def test_redis_wiped_while_a_job_runs_whose_state_is_damaged(
    workspace: Workspace, client: FarenseClient, broker: Broker, preset: Preset, daemons: Daemons
) -> None:
    daemons.start("endless", **QUICK)
    job = client.enqueue(preset)
    running(client, job.id)
    empty_state(workspace.run(job.id))
    broker.redis.flushall()

    def back() -> JobRecord | None:
        return broker.store.get(job.id)

    record = wait_until(back, "the record")
    assert (record.state, record.attempt) == (State.RUNNING, 1)
    client.cancel(job.id)
    assert ended(client, job.id).state is State.CANCELLED


def test_what_neither_file_nor_record_tells_of_has_failed_and_says_why(
    workspace: Workspace, client: FarenseClient, broker: Broker, preset: Preset, daemons: Daemons
) -> None:
    jobs = {name: client.enqueue(preset) for name in ("state", "order", "both", "ended", "summary")}
    follower = client.enqueue(preset, after=jobs["state"].id)
    runs = {name: workspace.run(job.id) for name, job in jobs.items()}
    client.cancel(jobs["ended"].id)
    broker.redis.flushall()
    for name in ("state", "both", "summary"):
        empty_state(runs[name])
    for name in ("order", "both", "ended"):
        runs[name].job.write_bytes(b"")
    runs["summary"].summary.write_text('{"state": "early_stopped"}')

    def shown(name: str) -> JobRecord:
        job_id = jobs[name].id
        return next(r for r in FileClient(workspace).jobs(all=True) if r.id == job_id)

    # Without Redis.
    assert {name: str(shown(name).state) for name in jobs} == {
        "state": "failed", "order": "failed", "both": "failed", "ended": "cancelled",
        "summary": "early_stopped",
    }  # fmt: skip
    for name, file in (("state", "state.json"), ("order", "job.json"), ("both", "job.json")):
        assert file in (shown(name).reason or "")
        assert FileClient(workspace).job(jobs[name].id).state is State.FAILED
    # With it.
    daemons.start("hasty", **QUICK)
    for name in ("state", "order", "both"):
        wait_until(partial(broker.store.get, jobs[name].id), f"the record of {name}")
        record = ended(client, jobs[name].id)
        assert record.state is State.FAILED
        assert ("state.json" if name == "state" else "job.json") in (record.reason or "")
        assert ("farense retry" if name == "state" else "Enqueue it") in (record.reason or "")
        assert record.preset == preset.name
        assert read_state(runs[name]).state is State.FAILED
    for job in (jobs["ended"], jobs["summary"], follower):
        wait_until(partial(broker.store.get, job.id), "the record")
    assert ended(client, jobs["ended"].id).state is State.CANCELLED
    assert ended(client, jobs["summary"].id).state is State.EARLY_STOPPED
    assert "has failed" in (ended(client, follower.id).reason or "")
    # Nothing is left to do, and nothing said again and again.
    again = client.enqueue(preset)
    ended(client, again.id)
    said = log_lines(workspace, "record_recovered") + log_lines(workspace, "job_recovered")
    for job in jobs.values():
        assert 1 <= len([line for line in said if line["job"] == job.id]) <= 2


def test_a_job_of_a_record_that_is_left_and_a_damaged_order_fails(
    workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    job = client.enqueue(preset)
    for path in (workspace.run(job.id).job, workspace.run(job.id).state):
        path.write_bytes(b"{")
    daemons.start("hasty", **QUICK)
    record = ended(client, job.id)
    assert record.state is State.FAILED
    assert "job.json" in (record.reason or "")


def removed(run: RunDirectory) -> bool:
    """Remove a run directory; False where its child wrote into it just then."""
    shutil.rmtree(run.path, ignore_errors=True)
    return not run.path.exists()


def test_a_run_directory_that_vanishes_while_its_job_runs(
    workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    daemons.start(child=REAL, **QUICK)
    job = client.enqueue(load_preset(preset.name, (workspace.configs,), LONG))
    follower = client.enqueue(preset, after=job.id)
    any_end = client.enqueue(load_preset(preset.name, (workspace.configs,), ("num_epochs=1",)),
                             after=job.id, after_any=True)  # fmt: skip
    running(client, job.id)
    run = workspace.run(job.id)
    wait_until(lambda: removed(run), "the end of the run directory")
    record = ended(client, job.id)
    assert record.state is State.FAILED
    assert "run directory" in (record.reason or "")
    assert not run.path.exists()
    assert "has failed" in (ended(client, follower.id).reason or "")
    assert ended(client, any_end.id).state is State.COMPLETED
    assert not run.path.exists()


def test_a_run_directory_that_vanished_while_no_daemon_was_there(
    workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    daemon = daemons.start("endless", **QUICK)
    job = client.enqueue(preset)
    pid = running(client, job.id).pid
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    assert pid is not None
    wait_until(lambda: not alive(pid), "the end of the child")
    shutil.rmtree(workspace.run(job.id).path)
    daemons.start("good", **QUICK)
    record = ended(client, job.id)
    assert record.state is State.FAILED
    assert "run directory" in (record.reason or "")


def test_a_directory_that_was_never_queued_is_no_job(
    workspace: Workspace, client: FarenseClient, preset: Preset, daemons: Daemons
) -> None:
    """A client that dies while it enqueues leaves an order without a state."""
    job = client.enqueue(preset)
    half = workspace.run(f"{job.id[:-4]}half")
    half.path.mkdir()
    shutil.copy(workspace.run(job.id).job, half.job)
    daemons.start("hasty", **QUICK)
    ended(client, job.id)
    assert not listed(workspace, client, half.job_id)
    assert not half.state.exists()


def test_what_a_person_may_do_while_a_state_is_damaged(
    workspace: Workspace, client: FarenseClient, preset: Preset
) -> None:
    job = client.enqueue(preset)
    state = read_state(workspace.run(job.id))
    empty_state(workspace.run(job.id))
    for change in (client.resume, client.move, client.retry):
        with pytest.raises(Exception, match=r"state\.json.*damaged"):
            change(job.id)
    write_state(workspace.run(job.id), state)
    assert client.cancel(job.id).state is State.CANCELLED
