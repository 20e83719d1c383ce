"""A daemon's part: it puts things down, keeps a sender running, and neither waits nor fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from daemon.notify import keeper as keeper_module
from daemon.notify.addresses import add_address, remove_address
from daemon.notify.happening import Happening, What, put_down_ids
from daemon.notify.keeper import Notifier
from daemon.notify.kinds import DEFAULT, NoticeKind
from daemon.notify.paths import NotifyFolder
from daemon.notify.standing import Standing, write_standing
from jobs.errors import ConfigError, DiskFull
from jobs.paths import Workspace
from jobs.state import JobState, State
from jobs.storage.locks import is_held
from tests.daemon.notify.conftest import Add
from tests.helpers.receiver import Receiver
from tests.helpers.waiting import wait_until

JOB = "20260101-000000-v2-aaaa"
FAILED = JobState(State.FAILED, reason="the data are no good")
LONG = 120.0


class Kept:
    """A notifier, its clock in the hand of the test."""

    def __init__(self, workspace: Workspace) -> None:
        self.now = 0.0
        self.notifier = Notifier(workspace, None, 60.0, lambda: self.now)

    def look(self, seconds: float = 2.0) -> None:
        self.now += seconds
        self.notifier.tick()


@pytest.fixture
def kept(workspace: Workspace) -> Iterator[Kept]:
    found = Kept(workspace)
    yield found
    found.notifier.close()
    lock = NotifyFolder.of(workspace).lock
    wait_until(lambda: not is_held(lock), "the sender's end", LONG)


def test_where_nobody_wants_to_be_told_nothing_is_written_or_started(
    workspace: Workspace, kept: Kept
) -> None:
    kept.look()
    kept.notifier.ended(JOB, FAILED)
    kept.look()
    assert not NotifyFolder.of(workspace).path.exists()


def test_an_address_that_is_added_meanwhile_gets_its_sender(
    workspace: Workspace, kept: Kept, receiver: Receiver, add: Add
) -> None:
    kept.look()
    add(receiver)
    kept.look()
    wait_until(lambda: is_held(NotifyFolder.of(workspace).lock), "the sender")
    kept.notifier.ended(JOB, FAILED)
    receiver.message("v2 failed", LONG)
    wait_until(lambda: not put_down_ids(NotifyFolder.of(workspace)), "an empty folder")


def test_a_sender_that_is_killed_is_started_again(
    workspace: Workspace, kept: Kept, receiver: Receiver, add: Add
) -> None:
    add(receiver)
    kept.look()
    lock = NotifyFolder.of(workspace).lock
    wait_until(lambda: is_held(lock), "the sender")
    assert kept.notifier.pid is not None
    os.kill(kept.notifier.pid, signal.SIGKILL)
    wait_until(lambda: not is_held(lock), "its end")
    kept.notifier.ended(JOB, FAILED)
    for _ in range(3):
        kept.look(600)
    receiver.message("v2 failed", LONG)


def test_on_a_full_disk_it_is_told_all_the_same(
    workspace: Workspace, kept: Kept, receiver: Receiver, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(receiver, (NoticeKind.HELD,))
    kept.look()

    def full(*_: object) -> None:
        raise DiskFull("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(keeper_module, "put_down", full)
        kept.notifier.happened(What.HELD, reason="the disk is full: 64 MB must be free", waiting=2)
        kept.look()
        assert "2 jobs wait" in receiver.message("the disk is full", LONG)["message"]
    assert put_down_ids(NotifyFolder.of(workspace)) == []


def test_a_thousand_ends_while_a_server_hangs_are_one_message_in_the_end(
    workspace: Workspace, kept: Kept, receiver: Receiver, add: Add
) -> None:
    receiver.answer = 0
    add(receiver, (NoticeKind.FAILED,))
    kept.look()
    for number in range(1000):
        letters = "".join(chr(97 + number // 26**place % 26) for place in range(4))
        kept.notifier.ended(f"20260101-000000-v2-{letters}", FAILED)
    wait_until(lambda: receiver.refused, "a first try", LONG)
    folder = NotifyFolder.of(workspace)
    wait_until(lambda: not put_down_ids(folder), "all to be taken up", LONG)
    receiver.answer = 200
    told = receiver.message("1,000 jobs failed", LONG)
    assert told["message"].startswith("1,000 x the data are no good")
    wait_until(lambda: not list(folder.outbox.rglob("*.json")), "an empty outbox", LONG)
    assert len(receiver.received) == 1


def test_what_is_said_down_the_pipe_fits_there_in_one_piece() -> None:
    happening = Happening(What.HELD, detail={"reason": "x" * 300, "waiting": 10_000})
    assert len(happening.line()) < 512


def test_without_the_last_address_the_sender_ends(workspace: Workspace, kept: Kept) -> None:
    add_address(workspace, "json://127.0.0.1:9/x", DEFAULT, "gone", "JSON")
    lock = NotifyFolder.of(workspace).lock
    kept.look()
    wait_until(lambda: is_held(lock), "the sender")
    remove_address(workspace, "gone")
    kept.look()
    wait_until(lambda: not is_held(lock), "its end", LONG)
    assert kept.notifier.pid is None


def test_the_morning_is_sent_at_the_end_of_a_window(
    workspace: Workspace, kept: Kept, receiver: Receiver, add: Add
) -> None:
    add(receiver, (NoticeKind.MORNING,))
    kept.look()
    kept.notifier.happened(What.WINDOW_ENDED, since="2026-01-01T22:00:00+00:00")
    told = receiver.message("Nothing ran since", LONG)
    assert "Disk: " in told["message"]
    assert len(receiver.received) == 1


def test_a_daemon_that_was_gone_with_its_sender_is_told_of_by_the_next(
    workspace: Workspace, receiver: Receiver, add: Add
) -> None:
    add(receiver)
    folder = NotifyFolder.of(workspace)
    write_standing(folder, Standing(watched=999_999, boot="another", seen=time.time() - 4000))
    command = [sys.executable, "-P", "-m", "daemon.notify"]
    subprocess.run(command, check=True, env={**os.environ, "FARENSE_HOME": str(workspace.root)})
    assert "was gone, and is back" in receiver.titles[0]
    assert "The machine was started again." in receiver.received[0]["message"]
    write_standing(folder, Standing(watched=999_999, boot="another", seen=time.time() - 4000))
    folder.left.write_text("999999\n")  # it had taken its leave
    subprocess.run(command, check=True, env={**os.environ, "FARENSE_HOME": str(workspace.root)})
    assert len(receiver.received) == 1


def test_a_mistake_in_the_environment_is_told_when_the_daemon_starts(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARENSE_NOTIFY", "json://127.0.0.1:9/x")
    monkeypatch.setenv("FARENSE_NOTIFY_ON", "faild")
    with pytest.raises(ConfigError, match="FARENSE_NOTIFY_ON: 'faild'"):
        Notifier(workspace, None, 60.0)
