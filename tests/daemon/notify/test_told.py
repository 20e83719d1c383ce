"""Being told for real: daemons, children, a sender, couriers, apprise and an HTTP server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.notify.kinds import DEFAULT, NoticeKind
from daemon.notify.paths import NotifyFolder
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.locks import held_by, is_held
from tests.daemon.notify.conftest import Add
from tests.helpers.jobs import ended, running
from tests.helpers.receiver import SECRETS, Receiver
from tests.helpers.servers import Daemons
from tests.helpers.sweeps import SweepStage
from tests.helpers.waiting import wait_until

# Apprise takes a second to load, longer where others compute.
LONG = 120.0


@pytest.fixture(autouse=True)
def no_sender_left(workspace: Workspace) -> Iterator[None]:
    """End the sender that a killed daemon has left behind."""
    yield
    kill_sender(workspace)


def kill_sender(workspace: Workspace) -> None:
    """Kill the sender of a workspace, and wait for what it has started."""
    lock = NotifyFolder.of(workspace).lock
    if (pid := held_by(lock)) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_held(lock), "the end of the sender and its couriers", LONG)


def secrets_in(folder: Path) -> list[str]:
    """Return the files that hold something secret of an address, but the one that has to."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "addresses.json"
        if any(secret.encode() in path.read_bytes() for secret in SECRETS)
    ]


def test_each_end_is_told_once_and_no_secret_is_left_anywhere(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons,
    receiver: Receiver, add: Add,
) -> None:  # fmt: skip
    add(receiver)
    best = Receiver()
    add(best, (NoticeKind.BEST,), "best")
    daemons.start("as_named")
    good, early, failing, better = (
        client.enqueue(preset, name=name) for name in ("good", "early", "failing", "better")
    )
    first = receiver.message("good finished after", LONG)
    assert "Best val loss 2.0000, gap 0.100 BOM." in first["message"]
    assert good.id in first["message"]
    assert first["type"] == "success"
    assert "early stopped early after" in receiver.message(early.id, LONG)["title"]
    failed = receiver.message("failing failed", LONG)
    assert failed["message"].startswith("the data are no good\n")
    assert f"farense logs {failing.id}" in failed["message"]
    assert failed["type"] == "failure"
    told = best.message("better finished", LONG)
    assert "the best so far" in told["title"]
    assert (
        f"The lowest of 3 on this model and validation data; before: 2.0000 ({good.id})"
        in told["message"]
        or early.id in told["message"]
    )
    assert better.id in told["message"]
    empty = receiver.message("is empty", LONG)
    assert "4 jobs ended since" in empty["message"]
    assert "2 completed, 1 early stopped, 1 failed" in empty["message"]
    # Where this takes more than a minute, the second that finished is told, too.
    titles = [title for title in receiver.titles if not title.startswith("better")]
    assert len(titles) == len(set(titles)) == 4
    assert len(best.received) == 1
    best.close()
    assert secrets_in(workspace.root) == []


@pytest.mark.parametrize("answer", [500, 0])
def test_a_server_that_is_no_good_delays_no_job_and_gets_the_message_later(
    preset: Preset, client: FarenseClient, daemons: Daemons, receiver: Receiver, add: Add,
    workspace: Workspace, answer: int,
) -> None:  # fmt: skip
    receiver.answer = answer
    add(receiver, (NoticeKind.FAILED,))
    daemons.start("as_named")
    failing = client.enqueue(preset, name="failing")
    wait_until(lambda: receiver.refused, "a first try", LONG)
    for _ in range(3):
        done = ended(client, client.enqueue(preset, name="good").id)
        assert done.state is State.COMPLETED
    assert receiver.received == []
    receiver.answer = 200
    assert f"farense logs {failing.id}" in receiver.message("failing failed", LONG)["message"]
    assert len(receiver.received) == 1
    assert secrets_in(workspace.root) == []


def test_a_server_that_is_away_gets_the_message_after_daemon_and_sender_were_killed(
    preset: Preset, client: FarenseClient, daemons: Daemons, receiver: Receiver, add: Add,
    workspace: Workspace,
) -> None:  # fmt: skip
    receiver.close()
    address = add(receiver, (NoticeKind.FAILED,))
    daemon = daemons.start("failing")
    ended(client, client.enqueue(preset).id)
    outbox = NotifyFolder.of(workspace).outbox / address.key
    wait_until(lambda: outbox.is_dir() and any(outbox.iterdir()), "the outbox")
    daemon.kill()
    daemon.wait()
    kill_sender(workspace)
    receiver.open()
    daemons.start("good")
    receiver.message("failed", LONG)
    wait_until(lambda: not any(outbox.iterdir()), "an empty outbox")
    assert len(receiver.received) == 1


def test_a_daemon_that_is_killed_is_missed_and_one_that_is_stopped_is_not(
    preset: Preset, client: FarenseClient, daemons: Daemons, receiver: Receiver, add: Add,
    workspace: Workspace,
) -> None:  # fmt: skip
    add(receiver, (NoticeKind.DAEMON_GONE,))
    lock = NotifyFolder.of(workspace).lock
    daemon = daemons.start(notice_seconds=0.5)
    wait_until(lambda: is_held(lock), "the sender")
    daemon.send_signal(signal.SIGTERM)
    daemon.wait()
    wait_until(lambda: not is_held(lock), "the sender's end", LONG)
    daemon = daemons.start("endless", notice_seconds=0.5)
    job = client.enqueue(preset)
    running(client, job.id)
    wait_until(lambda: "watched" in NotifyFolder.of(workspace).standing.read_text())
    wait_until(lambda: is_held(lock), "the sender", LONG)
    wait_until(lambda: watched(workspace) == daemon.pid, "the sender's watch", LONG)
    daemon.kill()
    told = receiver.message("is gone", LONG)
    assert f"{job.id} goes on from its last checkpoint" in told["message"]
    assert "farense daemon" in told["message"]
    wait_until(lambda: not is_held(lock), "the sender's end", LONG)
    assert len(receiver.received) == 1


def watched(workspace: Workspace) -> object:
    return json.loads(NotifyFolder.of(workspace).standing.read_text())["watched"]


def test_jobs_that_wait_outside_the_window_are_told_of(
    preset: Preset, client: FarenseClient, daemons: Daemons, receiver: Receiver, add: Add
) -> None:
    add(receiver)
    client.enqueue(preset)
    ahead = datetime.now().astimezone() + timedelta(hours=2)
    window = f"{ahead:%H:%M}-{ahead + timedelta(hours=1):%H:%M}"
    daemons.start(window=window, notice_seconds=0.5)
    told = receiver.message("Jobs are held: outside the window", LONG)
    assert f"Outside the window {window}.\n1 job waits on" in told["message"]


def test_redis_that_is_away_is_told_of(
    preset: Preset, client: FarenseClient, daemons: Daemons, receiver: Receiver, add: Add,
    workspace: Workspace,
) -> None:  # fmt: skip
    add(receiver)
    daemons.start("endless", notice_seconds=0.5)
    running(client, client.enqueue(preset).id)
    wait_until(lambda: is_held(NotifyFolder.of(workspace).lock), "the sender")
    pid = client.store.redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        receiver.message("Jobs are held: the queue does not answer", LONG)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_sweep_is_one_message_and_none_a_trial(
    tmp_path: Path, tiny_model: Path, receiver: Receiver, workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # The address in the environment of the daemon, as FARENSE_NOTIFY has it.
    monkeypatch.setenv("FARENSE_NOTIFY", receiver.address)
    monkeypatch.setenv("FARENSE_NOTIFY_ON", ",".join(DEFAULT))
    with SweepStage(tmp_path / "stage", tiny_model) as stage:
        folder = stage.begin(trials=3)
        stage.start()
        told = receiver.message("Sweep", LONG)
        assert "Best: trial" in told["message"]
        assert "3 trials" in told["message"]
        assert f"farense sweep status {folder.id}" in told["message"]
        receiver.message("is empty", LONG)
        assert len(receiver.received) == 2
        assert secrets_in(stage.home.root) == []
