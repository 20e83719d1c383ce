"""Many jobs enqueued at once: like one after the other, only faster, and all or none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.lifecycle.claims import Claims
from daemon.queue.broker import Broker
from daemon.settings import Settings
from daemon.submit.checks import SubmitChecks
from daemon.submit.enqueue import UNTOLD
from daemon.submit.placing import Request
from jobs.config.config import Preset, load_preset
from jobs.data import examples
from jobs.data.examples import Example, Problem, scan_examples
from jobs.errors import ConfigError, DataError, InvalidInput, QueueUnreachable, WorkspaceError
from jobs.model_store import store as models
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import JobState, State, read_state
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

QUEUE_KEY = "huey.redis.farense"


def variants(workspace: Workspace, count: int) -> list[Preset]:
    """Return what a sweep enqueues: one preset with ``count`` learning rates."""
    rates = (f"learning_rate={(number + 1) * 1e-4:g}" for number in range(count))
    return [load_preset("tiny", (workspace.configs,), (rate,)) for rate in rates]


def taken(workspace: Workspace) -> list[str]:
    """Take all messages from the queue; return the ids in the order in which they came."""
    broker = Broker(workspace, Settings())
    queue, ids = broker.queue(), []
    while queue.pending_count():
        ids.append(queue.dequeue().args[0])
    broker.close()
    return ids


def test_many_jobs_are_accepted_as_one_is(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    alone = client.enqueue(preset)
    presets = variants(workspace, 30)
    jobs = client.enqueue_many(presets)
    assert len({job.id for job in jobs}) == 30
    blank = {"id": "", "run_dir": "", "created_at": "", "updated_at": ""}
    assert {str(replace(job, **blank)) for job in jobs} == {str(replace(alone, **blank))}  # type: ignore[arg-type]  # any field
    for job, wanted in zip(jobs, presets, strict=True):
        run = workspace.run(job.id)
        assert read_spec(run).config["learning_rate"] == wanted.config.learning_rate
        assert read_state(run).state is State.QUEUED
        assert sorted(path.name for path in run.path.iterdir()) == ["job.json", "state.json"]
    assert client.jobs() == [*reversed(jobs), alone]
    assert client.job("latest") == FileClient(workspace).job("latest") == jobs[-1]
    assert taken(workspace) == [alone.id, *(job.id for job in jobs)]


def test_each_request_has_its_name_and_priority(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    states = [JobState(State.QUEUED, priority=priority) for priority in (0, 2, 0, 1)]
    jobs = client.enqueue_many(
        [Request(preset, f"trial {number}", state) for number, state in enumerate(states)]
    )
    later, urgent = client.enqueue(preset), client.enqueue(preset, priority=2)
    assert [job.name for job in jobs] == ["trial 0", "trial 1", "trial 2", "trial 3"]
    assert [job.priority for job in jobs] == [0, 2, 0, 1]
    spec = [jobs[1], urgent, jobs[3], jobs[0], jobs[2], later]
    assert taken(workspace) == [job.id for job in spec]


def test_none_is_no_work(workspace: Workspace, client: FarenseClient) -> None:
    assert client.enqueue_many([]) == []
    assert client.jobs() == []
    assert taken(workspace) == []


def test_what_jobs_share_is_looked_at_once(
    workspace: Workspace, preset: Preset, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []

    def fingerprint(path: object) -> str:
        looked_at.append(path)
        return "of the model"

    monkeypatch.setattr(models, "fingerprint", fingerprint)
    jobs = client.enqueue_many(variants(workspace, 10))
    assert looked_at == [workspace.models / "tiny"]
    prints = {read_spec(workspace.run(job.id)).model_fingerprint for job in jobs}
    assert prints == {"of the model"}


def test_the_data_of_a_training_and_its_evaluation_are_parsed_once(
    workspace: Workspace, preset: Preset, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def scan(path: Path) -> Iterator[tuple[int, Example | Problem]]:
        parsed.append(path.name)
        return scan_examples(path)

    monkeypatch.setattr(examples, "scan_examples", scan)
    checks = SubmitChecks(workspace)
    job = client.enqueue(preset, checks=checks)
    assert client.evaluate(job.id, checks=checks).evaluates == job.id
    # The first rows of the training data are also looked at for their language.
    assert sorted(parsed) == ["train.jsonl", "train.jsonl", "valid.jsonl"]


@pytest.mark.parametrize(
    ("override", "refusal"),
    [
        ("data.train=data/nothing.jsonl", DataError),
        ("data.valid=data/broken.jsonl", DataError),
        ("lora.keys=[nothing]", ConfigError),
        ("lora.num_layers=90", ConfigError),
        ("model=../elsewhere", InvalidInput),
    ],
)
def test_one_that_cannot_be_used_refuses_all(
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    override: str,
    refusal: type[InvalidInput],
) -> None:
    (workspace.data / "broken.jsonl").write_text("{")
    bad = load_preset("tiny", (workspace.configs,), (override,))
    with pytest.raises(refusal):
        client.enqueue_many([preset, preset, bad])
    assert list(workspace.runs.iterdir()) == []
    assert client.jobs() == []


def test_a_disk_that_fills_up_leaves_none_behind(
    workspace: Workspace, preset: Preset, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.enqueue(preset)
    before = sorted(path.name for path in workspace.runs.iterdir())
    synced, fsync = [], os.fsync

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 14:  # all ten orders and some of the states are on disk
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match="disk is full"):
        client.enqueue_many([preset] * 10)
    assert sorted(path.name for path in workspace.runs.iterdir()) == before
    assert len(client.jobs()) == 1


def test_everything_is_on_disk_before_the_queue_is_told(
    workspace: Workspace, preset: Preset, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    synced, fsync, execute = [0], os.fsync, client._store.create_many

    def counted(descriptor: int) -> None:
        fsync(descriptor)
        synced[0] += 1

    def looked(records: object) -> int:
        told.append((synced[0], len(FileClient(workspace).jobs())))
        return execute(records)  # type: ignore[arg-type]  # what it was given

    client.enqueue(preset)  # freezes the data
    monkeypatch.setattr(os, "fsync", counted)
    monkeypatch.setattr(client._store, "create_many", looked)
    client.enqueue_many([preset] * 5)
    # Two files and a folder for each, and the folder of all of them.
    assert told == [(16, 6)]


def test_jobs_that_could_not_be_told_do_not_run_later(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    redis = client._broker.redis
    redis.set(QUEUE_KEY, "not a queue")  # the records arrive, the messages do not
    with pytest.raises(QueueUnreachable):
        client.enqueue_many([preset] * 5)
    redis.delete(QUEUE_KEY)
    states = [read_state(workspace.run(job.id)) for job in FileClient(workspace).jobs()]
    assert [state.state for state in states] == [State.CANCELLED] * 5
    assert all("could not be reached" in (state.reason or "") for state in states)
    daemons.start()
    good = client.enqueue(preset)
    wait_until(lambda: client.job(good.id).finished, "the end of a good job")
    others = [job for job in client.jobs() if job.id != good.id]
    assert [(job.state, job.attempt) for job in others] == [(State.CANCELLED, 0)] * 5


def test_one_that_a_daemon_has_begun_is_left_to_it(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    begun, waiting = client.enqueue_many([preset, preset])
    Claims(client._lifecycle).claim(begun.id, "another:1")
    for job in (begun, waiting):
        client._lifecycle.withdraw(job.id, UNTOLD)
    assert read_state(workspace.run(begun.id)).state is State.RUNNING
    assert read_state(workspace.run(waiting.id)).state is State.CANCELLED
