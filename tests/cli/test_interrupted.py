"""After a reboot: what runs no longer is not shown as running, whoever is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from datetime import datetime

import pytest

from daemon.client import FarenseClient
from daemon.server import EmbeddedServer
from jobs.files import read_json
from jobs.lock import is_held
from jobs.paths import Workspace
from jobs.state import State
from tests.cli.conftest import FARENSE, Run, environment, under_way
from tests.helpers.jobs import ended
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("preset")


def queued(invoke: Run) -> str:
    """Queue a job; return its id."""
    job_id: str = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    return job_id


def went_down(invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace) -> str:
    """Start a job, and end daemon and child as a power cut does; return the job's id."""
    daemon = daemons.start("endless")
    job_id = queued(invoke)
    child = under_way(client, job_id).pid
    assert child is not None
    daemon.kill()
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    daemon.wait()
    wait_until(lambda: not is_held(workspace.run(job_id).lock), "the end of the child")
    return job_id


def watching(workspace: Workspace, job_id: str) -> subprocess.Popen[str]:
    """Start `farense watch`."""
    return subprocess.Popen(
        [FARENSE, "watch", job_id],
        env=environment(workspace.root),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("source", ["queue", "files"])
def test_a_job_that_nothing_runs_is_told_as_interrupted_everywhere(
    farense: Run,
    invoke: Run,
    client: FarenseClient,
    daemons: Daemons,
    workspace: Workspace,
    source: str,
) -> None:
    job_id = went_down(invoke, client, daemons, workspace)
    if source == "files":
        EmbeddedServer(workspace).shut_down()
    told = json.loads(farense("status", job_id, "--json").out)
    assert told["interrupted"] is True
    assert (told["state"], told["pid"], told["eta_seconds"]) == ("running", None, None)
    listed = farense("status").out
    assert "interrupted" in listed
    assert "left" not in listed.lower().split("\n")[1]
    details = farense("status", job_id).out
    assert f"interrupted at step {told['step']}: `farense daemon` goes on from there" in details
    # The files still say what a daemon needs to go on.
    assert read_json(workspace.run(job_id).state)["state"] == "running"


def test_watch_says_that_a_job_is_interrupted_and_follows_it_when_it_goes_on(
    invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    job_id = went_down(invoke, client, daemons, workspace)
    with watching(workspace, job_id) as process:
        assert process.stderr is not None
        assert f"{job_id} is interrupted at step" in process.stderr.readline()
        daemons.start("good")
        assert ended(client, job_id).state is State.COMPLETED
        process.communicate()
    assert process.returncode == 0


def test_a_running_job_is_not_called_interrupted(
    farense: Run, invoke: Run, client: FarenseClient, daemons: Daemons
) -> None:
    daemons.start("endless")
    job_id = queued(invoke)
    under_way(client, job_id)
    assert json.loads(farense("status", job_id, "--json").out)["interrupted"] is False
    assert "interrupted" not in farense("status").out


def test_a_paused_job_is_told_as_paused_by_watch(
    farense: Run, invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    daemons.start("endless")
    job_id = queued(invoke)
    under_way(client, job_id)
    farense("pause", job_id)
    wait_until(lambda: client.job(job_id).state is State.PAUSED, "the pause")
    with watching(workspace, job_id) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        process.kill()
    assert f"{job_id} is paused at step" in said
    assert f"`farense resume {job_id}`" in said


def test_status_says_why_nothing_starts(
    farense: Run, invoke: Run, client: FarenseClient, workspace: Workspace
) -> None:
    queued(invoke)
    assert "No daemon works on this queue" in farense("status").err
    window = "22:00-23:00" if datetime.now().astimezone().hour < 12 else "02:00-03:00"
    daemon = subprocess.Popen(
        [FARENSE, "daemon", "--window", window],
        env=environment(workspace.root),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any(card.held_because for card in client.workers()), "its word")
        for command in (("status",), ("queue",), ("status", "latest")):
            assert f"starts nothing: outside the window {window}." in farense(*command).err
        assert f"starts nothing now: outside the window {window}" in farense("doctor", "tiny").out
    finally:
        daemon.terminate()
        daemon.wait()
