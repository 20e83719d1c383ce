"""The command of ``on_event``: given each event as JSON, under the rules of messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.client import FarenseClient
from daemon.notify import courier
from daemon.notify.delivery import Delivered, Delivery
from daemon.notify.paths import NotifyFolder
from daemon.notify.try_out import try_out
from jobs.config.config import Preset
from jobs.paths import Workspace
from tests.helpers.receiver import PASSWORD, Receiver
from tests.helpers.servers import Daemons, alive
from tests.helpers.waiting import wait_until

LONG = 120.0
KEEP = """\
import os, pathlib, sys
assert "FARENSE_NOTIFY" not in os.environ
with pathlib.Path("events.jsonl").open("a") as kept:
    kept.write(sys.stdin.read())
"""


def run(workspace: Workspace, *command: str) -> Delivered:
    question = {
        "do": "run",
        "command": list(command),
        "event": {"kind": "failed"},
        "folder": str(workspace.root),
        "output": str(workspace.root / "output.txt"),
        "done": [],
    }
    return Delivery.start(question).delivered()


def test_a_command_is_given_the_ends_of_jobs(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons,
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    script = workspace.root / "keep.py"
    script.write_text(KEEP)
    monkeypatch.setenv("FARENSE_ON_EVENT", f"{sys.executable} {script}")
    monkeypatch.setenv("FARENSE_NOTIFY", receiver.address)
    daemons.start("failing")
    job = client.enqueue(preset)
    events = workspace.root / "events.jsonl"
    wait_until(lambda: events.exists() and len(read(events)) >= 2, "two events", LONG)
    found = read(events)
    by_kind = {event["kind"]: event for event in found}
    assert set(by_kind) == {"failed", "queue_empty"}
    (matter,) = by_kind["failed"]["matters"]
    assert matter["job"]["id"] == matter["about"] == job.id
    assert matter["job"]["reason"] == "the data are no good"
    receiver.message("failed", LONG)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_that_fails_says_how_and_what_it_said_is_kept(workspace: Workspace) -> None:
    code = "import sys; sys.stderr.write('no network'); sys.exit(3)"
    assert run(workspace, sys.executable, "-c", code) == Delivered(False, "it ended with code 3")
    assert (workspace.root / "output.txt").read_text() == "no network"


def test_one_that_is_not_there_says_so(workspace: Workspace) -> None:
    assert run(workspace, "no-such-program-of-ours").why.startswith("it cannot be started: No such")


def test_one_that_does_not_end_is_killed_with_what_it_has_started(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = "sleep 600 & echo $! > started; wait"
    changed = (
        Path(courier.__file__).read_text().replace("COMMAND_SECONDS = 30", "COMMAND_SECONDS = 1")
    )
    (workspace.root / "daemon").mkdir()
    question = {
        "do": "run",
        "command": ["sh", "-c", shell],
        "event": {},
        "folder": str(workspace.root),
        "output": str(workspace.root / "output.txt"),
        "done": [],
    }
    script = workspace.root / "courier.py"
    script.write_text(changed)
    found = Delivery.start(question, program=(str(script),)).delivered()
    assert found.why == "it had not ended after 1 s"
    started = int((workspace.root / "started").read_text())
    wait_until(lambda: not alive(started), "the end of what it started")


def test_trying_out_runs_it_too(
    workspace: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / "keep.py").write_text(KEEP)
    monkeypatch.setenv("FARENSE_ON_EVENT", f"{sys.executable} keep.py")
    monkeypatch.setenv("FARENSE_NOTIFY", receiver.address)
    NotifyFolder.of(workspace).path.mkdir(parents=True)
    assert [(name, got.ok) for name, got in try_out(workspace)] == [
        ("json", True),
        ("on_event", True),
    ]
    assert receiver.titles[0].startswith("A test from farense")
    assert read(workspace.root / "events.jsonl")[0]["kind"] == "test"
    receiver.answer = 403
    ((name, got),) = try_out(workspace, "json")
    assert (name, got) == ("json", Delivered(False, "the service answered 403"))
    receiver.close()
    ((_, away),) = try_out(workspace, "json")
    assert away.why == "the service could not be reached, or did not answer in time"
    assert PASSWORD not in repr(away)
