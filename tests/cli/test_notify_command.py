"""`farense notify`, and that nothing secret of an address comes out of any command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daemon.client import FarenseClient
from daemon.notify.addresses import all_addresses
from jobs.config.config import Preset
from jobs.paths import Workspace
from tests.cli.conftest import FARENSE, Run, environment
from tests.cli.test_doctor import CPU
from tests.cli.test_startup import loaded_by
from tests.helpers.jobs import ended
from tests.helpers.receiver import SECRETS, Receiver
from tests.helpers.servers import Daemons

HIDDEN = "5ecret"
LONG = 120.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_an_address_is_added_listed_tried_and_removed(
    invoke: Run, workspace: Workspace, receiver: Receiver
) -> None:
    shown = f"json://127.0.0.1:{receiver.port}"
    added = invoke("notify", "add", receiver.address, "--on", "failed,best")
    assert (added.code, added.out) == (0, f"Added json: {shown}, told of failed,best\n")
    assert "farense notify test json" in added.err
    assert "history of the shell" in added.err
    table = invoke("notify", "list").out.splitlines()
    assert table[0].split() == ["NAME", "ADDRESS", "ON", "WAITING", "FROM"]
    assert table[1].split() == ["json", shown, "failed,best", "0", "added"]
    (entry,) = json.loads(invoke("notify", "list", "--json").out)
    assert entry["on"] == ["failed", "best"]
    assert invoke("notify", "test").out == "json: sent\n"
    assert len(receiver.received) == 1
    receiver.answer = 500
    tried = invoke("notify", "test", "json", "--json")
    assert tried.code == 1
    assert json.loads(tried.out) == [
        {"name": "json", "sent": False, "why": "the service answered 500"}
    ]
    assert invoke("notify", "remove", "json").out == f"Removed json: {shown}\n"
    assert all_addresses(workspace, {}) == []
    assert "Nobody is told of anything" in invoke("notify", "list").err


def test_from_standard_input_it_leaves_nothing_in_the_history(
    workspace: Workspace, receiver: Receiver
) -> None:
    done = subprocess.run(
        [FARENSE, "notify", "add", "-", "--name", "phone"],
        input=f"{receiver.address}\n",
        env=environment(workspace.root),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Added phone: json://127.0.0.1:{receiver.port}, told of failed")
    assert "history" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("notify", "add", "ntfyy://5ecret"), "Did you mean ntfy or ntfys?"),
        (("notify", "add", "tgram://5ecret"), "cannot make sense of that tgram:// address"),
        (("notify", "add", "5ecret"), "it has no scheme"),
        (("notify", "add", "json://a", "tgram://5ecret"), "cannot make sense of that tgram://"),
        (("notify", "add", "json://a", "json://5ecret", "--name", "x"), "--name goes with one"),
        (("notify", "add", "json://5ecret", "--on", "faild"), "Did you mean failed?"),
        (("notify", "add", "json://5ecret", "--on", "tgram://5ecret"), "is no kind of message"),
        (("notify", "add", "json://5ecret", "--name", "tgram://5ecret"), "cannot be the name"),
        (("notify", "tgram://5ecret"), "To add an address, put `add` before it"),
        (("notify", "remove", "tgram://5ecret"), "called by their names"),
        (("notify", "remove", "phnoe"), "No address is called 'phnoe'"),
        (("notify", "test", "tgram://5ecret"), "called by their names"),
    ],
)
def test_what_is_wrong_is_said_without_the_address(
    invoke: Run, arguments: tuple[str, ...], words: str
) -> None:
    done = invoke(*arguments)
    assert done.code == 2
    assert words in done.err
    assert HIDDEN not in done.out + done.err


def test_nothing_is_added_where_one_is_wrong(invoke: Run, workspace: Workspace) -> None:
    assert invoke("notify", "add", "json://a", "ntfyy://b").code == 2
    assert all_addresses(workspace, {}) == []


def test_no_command_says_anything_secret(
    invoke: Run, preset: Preset, client: FarenseClient, daemons: Daemons, receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("daemon.doctor.doctor.ask_device", lambda useful: CPU)
    variables = {"FARENSE_NOTIFY": receiver.address, "FARENSE_NOTIFY_ON": "all"}
    added = receiver.address.replace("json://", "form://")
    outcomes = [invoke("notify", "add", added)]
    daemons.start("as_named")
    job = client.enqueue(preset, name="failing").id
    ended(client, job)
    outcomes += [
        invoke(*arguments, **variables)
        for arguments in (
            ("notify", "list"),
            ("notify", "list", "--json"),
            ("notify", "test", "--json"),
            ("status", "--json"),
            ("status", job, "--json"),
            ("logs", job),
            ("report", job),
            ("doctor", preset.name, "--json"),
            ("daemon", "status", "--json"),
            ("daemon", "install", "--print"),
            ("workers", "--json"),
            ("notify", "remove", "form"),
            ("--debug", "notify", "remove", receiver.address),
        )
    ]
    for outcome in outcomes:
        assert not [secret for secret in SECRETS if secret in outcome.out + outcome.err], outcome
    assert outcomes[0].code == 0
    assert f"json://127.0.0.1:{receiver.port}" in outcomes[10].out


@pytest.mark.parametrize("arguments", [("--help",), ("status",), ("notify", "list")])
def test_apprise_is_loaded_by_none_of_these(
    workspace: Workspace, client: FarenseClient, invoke: Run, arguments: tuple[str, ...]
) -> None:
    assert invoke("notify", "add", "json://127.0.0.1:9/x").code == 0
    assert not loaded_by(workspace, *arguments) & {"apprise", "requests", "yaml", "huey"}


def test_a_daemon_and_its_sender_load_no_apprise() -> None:
    program = (
        "import sys; import daemon.worker.consumer, daemon.notify.__main__; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"apprise", "requests", "optuna", "mlx"} & set(done.stdout.split())
