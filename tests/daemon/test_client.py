"""What commands and notebooks see: enqueue, look, follow, cancel, with Redis and without."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.queue.embedded_server import EmbeddedServer
from daemon.reader import QueueReader, open_reader
from jobs.config.config import Preset, load_preset
from jobs.errors import ConfigError, QueueUnreachable, UnknownJob
from jobs.events import Envelope
from jobs.paths import JOB_ID, Workspace
from jobs.state import State, read_state
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until


@pytest.fixture
def other_machine(
    workspace: Workspace, client: FarenseClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FarenseClient]:
    """A client with another workspace, which shares the Redis of the first."""
    monkeypatch.setenv("FARENSE_REDIS_URL", f"unix://{workspace.private}/valkey.sock")
    with FarenseClient.connect(Workspace(tmp_path / "other machine")) as other:
        yield other


def test_an_enqueued_job_is_known_at_once(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    job = client.enqueue(preset, name="à noite", priority=2)
    assert JOB_ID.fullmatch(job.id)
    assert (job.state, job.attempt, job.total_steps, job.num_epochs) == (State.QUEUED, 0, 12, 2)
    assert job.run_dir == f"checkpoints_qlora/{job.id}"
    assert client.job(job.id) == job
    assert client.jobs() == [job]
    assert read_state(workspace.run(job.id)).priority == 2
    assert (workspace.runs / "latest").resolve() == workspace.run(job.id).path.resolve()


def test_a_job_is_named_by_any_unique_part_of_its_id(preset: Preset, client: FarenseClient) -> None:
    first, second = client.enqueue(preset), client.enqueue(preset)
    for reader in (client, FileClient(client.workspace)):
        assert reader.job(first.id).id == first.id
        assert reader.job(first.id[-4:]).id == first.id
        assert reader.job("latest").id == second.id
        with pytest.raises(UnknownJob, match="names 2 jobs"):
            reader.job("tiny")
        for unknown in ("nothing", "", "../../etc", "*"):
            with pytest.raises(UnknownJob):
                reader.job(unknown)


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    job, next_job = client.enqueue(preset), client.enqueue(preset)
    record = client.cancel(job.id)
    assert (record.state, record.reason) == (State.CANCELLED, "cancelled by the user")
    assert read_state(workspace.run(job.id)).state is State.CANCELLED
    assert client.cancel(job.id) == record
    daemons.start()
    wait_until(lambda: client.job(next_job.id).finished, "the end of the next job")
    assert client.job(job.id) == record
    assert not workspace.job_log(job.id).exists()


def test_another_machine_sees_follows_and_cancels(
    preset: Preset, client: FarenseClient, other_machine: FarenseClient, daemons: Daemons
) -> None:
    running, waiting = client.enqueue(preset, priority=1), client.enqueue(preset)
    daemons.start("endless")
    events: list[Envelope] = []
    follower = threading.Thread(target=lambda: events.extend(other_machine.follow(running.id)))
    follower.start()
    wait_until(lambda: other_machine.job(running.id).step > 5, "progress")
    assert other_machine.cancel(waiting.id).state is State.CANCELLED
    other_machine.cancel(running.id)
    wait_until(lambda: other_machine.job(running.id).finished, "the end")
    follower.join(10)
    assert not follower.is_alive()
    assert events == list(client.follow(running.id))
    assert [e.event.kind for e in events[:2]] == ["started", "progress"]
    # The daemon takes the other machine's cancel over into its files.
    state = client.workspace.run(waiting.id)
    wait_until(lambda: read_state(state).state is State.CANCELLED, "the cancel on disk")


def test_without_redis_the_files_are_read(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    done = client.enqueue(preset, name="done")
    daemon = daemons.start()
    record = wait_until(lambda: found if (found := client.job(done.id)).finished else None)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(20)
    reader, warning = open_reader(workspace)
    assert isinstance(reader, FileClient)
    assert "is not running" in (warning or "")
    assert not EmbeddedServer(workspace).answers()
    with reader:
        found = reader.job("latest")
        assert (found.state, found.step, found.loss, found.name) == (
            record.state, record.step, record.loss, "done",
        )  # fmt: skip
        assert [e.event.kind for e in reader.follow(done.id)][-1] == "finished"
        assert [job.id for job in reader.jobs()] == [done.id]


def test_with_redis_there_is_no_warning(workspace: Workspace, server: EmbeddedServer) -> None:
    reader, warning = open_reader(workspace)
    with reader:
        assert isinstance(reader, QueueReader)
        assert warning is None


def test_files_show_the_newest_and_all_unfinished(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    jobs = [client.enqueue(preset) for _ in range(23)]
    # In a new workspace a second may hold many jobs; which of them is the oldest is as good as any.
    for job in jobs[1:]:
        client.cancel(job.id)
    reader = FileClient(workspace)
    assert len(reader.jobs(all=True)) == 23
    shown = reader.jobs()
    assert len(shown) in (20, 21)
    assert jobs[0].id in [job.id for job in shown]
    assert [job.id for job in shown] == sorted((job.id for job in shown), reverse=True)


def test_a_dead_address_is_told_in_one_line_and_at_once(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARENSE_REDIS_URL", "redis://me:secret@127.0.0.1:1/0")
    with pytest.raises(QueueUnreachable, match=r"redis://127\.0\.0\.1:1/0") as found:
        FarenseClient.connect(workspace)
    assert "secret" not in f"{found.value.message}{found.value.hint}"
    assert list(workspace.runs.iterdir()) == []


@pytest.mark.parametrize("url", ["http://secret@host", "secret", "redis://h:port", "redis://[x"])
def test_an_address_that_is_none_is_refused(
    workspace: Workspace, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARENSE_REDIS_URL", url)
    with pytest.raises(ConfigError, match="FARENSE_REDIS_URL") as found:
        FarenseClient.connect(workspace)
    assert "secret" not in f"{found.value.message}{found.value.hint}"


def test_a_password_that_is_refused_is_told(
    workspace: Workspace, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.client() as redis:
        redis.config_set("requirepass", "secret")
        for user, what in (("", "asks for a password"), (":wrong@", "refuses the user or")):
            url = f"unix://{user}{server.socket}"
            monkeypatch.setenv("FARENSE_REDIS_URL", url)
            with pytest.raises(QueueUnreachable, match=what):
                FarenseClient.connect(workspace)
        redis.config_set("requirepass", "")


def test_a_job_that_could_not_be_told_does_not_run_later(
    workspace: Workspace, preset: Preset, client: FarenseClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(workspace)
    pid = server.pid()
    assert pid is not None
    monkeypatch.setattr("daemon.queue.embedded_server.START_SECONDS", 0.1)
    with server.client() as redis:
        # From here on every write is refused.
        redis.config_set("maxmemory", 1)
        with pytest.raises(QueueUnreachable):
            client.enqueue(preset)
        redis.config_set("maxmemory", 0)
    (job,) = FileClient(workspace).jobs()
    assert job.state is State.CANCELLED
    assert "could not be reached" in (job.reason or "")


def test_a_server_that_went_away_is_started_again_for_an_enqueue(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    server = EmbeddedServer(workspace)
    first = client.enqueue(preset)
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    second = client.enqueue(preset)
    assert {job.id for job in client.jobs()} == {first.id, second.id}


def test_a_config_file_gives_its_name_to_the_job(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    path = workspace.root / "Às Quintas (v2).yaml"
    path.write_text((workspace.configs / "tiny.yaml").read_text())
    job = client.enqueue(load_preset(str(path), ()))
    assert "-_s_quintas__v2_-" in job.id
    assert client.job(job.id).preset == "Às Quintas (v2)"


def test_a_job_may_have_the_name_of_a_number(preset: Preset, client: FarenseClient) -> None:
    for name in ("NaN", "-Infinity", "3"):
        job = client.enqueue(preset, name=name)
        assert client.job(job.id).name == name


def test_a_job_is_found_by_a_word_of_its_id_or_its_name(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    job = client.enqueue(preset, name="slower one")
    evaluation = client.evaluate(job.id)
    for reader in (client, FileClient(workspace)):
        assert reader.job("tiny").id == job.id
        assert reader.job("eval_tiny").id == evaluation.id
        assert reader.job("slower one").id == job.id
    again = client.enqueue(preset, name="slower one")
    for reader in (client, FileClient(workspace)):
        with pytest.raises(UnknownJob) as caught:
            reader.job("slower one")
        # Of two jobs of one second, the ids do not tell which came later.
        named = caught.value.message.removeprefix("'slower one' names 2 jobs: ")
        assert set(named.split(", ")) == {again.id, job.id}
        with pytest.raises(UnknownJob, match="There is no job ''"):
            reader.job("")
