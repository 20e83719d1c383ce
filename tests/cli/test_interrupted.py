"""After a reboot: what runs no longer is not shown as running, whoever is asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.doctor.queue import daemon_finding
from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.workspace_locks import daemon_lock
from jobs.compare.side import side_of
from jobs.paths import Workspace
from jobs.report.run_data import measured
from jobs.state import State, read_state
from jobs.storage.files import read_json
from jobs.storage.locks import hold, is_held
from jobs.sweep.folder import find_sweep, write_trial
from jobs.sweep.trial import Trial
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


def watching(workspace: Workspace, *arguments: str) -> subprocess.Popen[str]:
    """Start `farense watch`."""
    return subprocess.Popen(
        [FARENSE, "watch", *arguments],
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
    assert f"interrupted at step {told['step']}: `farense daemon` " in details
    assert told["reason"] in " ".join(details.split())
    assert json.loads(farense("daemon", "status", "--json").out)["running_job"] is None
    assert job_id in daemon_finding(workspace).found
    # The files still say what a daemon needs to go on.
    assert read_json(workspace.run(job_id).state)["state"] == "running"


def test_the_time_since_an_interruption_is_none_of_the_jobs(
    invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    job_id = went_down(invoke, client, daemons, workspace)
    ran = client.job(job_id).duration_seconds
    assert ran is not None
    found = client.run(job_id)
    assert measured(found).duration_seconds == ran
    assert (side_of(found).duration_seconds, side_of(found).state_word) == (ran, "interrupted")
    client.cancel(job_id)
    record = client.job(job_id)
    assert (record.state, record.duration_seconds) == (State.CANCELLED, ran)
    assert read_state(workspace.run(job_id)).ran_seconds == ran


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


def test_from_the_files_alone_it_is_said_why_nothing_starts(
    farense: Run, invoke: Run, client: FarenseClient, workspace: Workspace
) -> None:
    job_id = queued(invoke)
    EmbeddedServer(workspace).shut_down()
    why = "No daemon works on this queue. Start one: farense daemon"
    for command in (("status",), ("status", job_id), ("queue",)):
        assert why in farense(*command).err
    with watching(workspace) as process:
        assert process.stderr is not None
        said = [process.stderr.readline(), process.stderr.readline()]
        process.kill()
    assert "Read from the run directories instead" in said[0]
    assert why in said[1]


def test_a_scheduled_job_without_a_daemon_is_told_so(
    farense: Run, invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    assert invoke("enqueue", "tiny", "--in", "3h").code == 0
    assert "No daemon works on this queue" in farense("status").err
    daemons.start("good")
    wait_until(client.workers, "its word")
    assert "No daemon" not in farense("status").err
    with watching(workspace, "latest", "--json") as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        process.kill()
    assert (said["event"], said["state"], said["interrupted"]) == ("standstill", "scheduled", False)
    assert "is scheduled: starts at " in said["message"]


def test_a_queue_that_went_away_under_a_daemon_is_told_from_the_files(
    farense: Run, invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    queued(invoke)
    with hold(daemon_lock(workspace)):
        assert "No daemon" not in farense("status").err
        EmbeddedServer(workspace).shut_down()
        assert "starts nothing until its queue answers again" in farense("status").err


def test_watch_json_tells_the_interruption_among_the_events(
    invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    job_id = went_down(invoke, client, daemons, workspace)
    with watching(workspace, job_id, "--json") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        said = next(line for line in map(json.loads, lines) if line["event"] == "standstill")
        process.kill()
    assert (said["job"], said["state"], said["interrupted"]) == (job_id, "running", True)
    assert said["attempt"] == 1
    assert f"{job_id} is interrupted at step {said['step']}" in said["message"]


def test_a_trial_that_nothing_runs_is_told_as_interrupted(
    farense: Run, invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    job_id = went_down(invoke, client, daemons, workspace)
    plan = workspace.configs / "night.yaml"
    plan.write_text(json.dumps({"preset": "tiny", "space": {"lora.rank": [2, 4]}, "trials": 2}))
    assert invoke("sweep", str(plan)).code == 0
    folder = find_sweep(workspace)
    trial = Trial(0, {"lora.rank": 2}, state=State.RUNNING, jobs=[job_id], step=3, total_steps=20)
    write_trial(folder, trial)
    done = farense("sweep", "status")
    line = next(line for line in done.out.splitlines() if job_id in line)
    assert "interrupted" in line
    assert "running" not in line
    assert "Start one: farense daemon" in done.err
    assert re.search(r" interrupted +0 of 2", farense("sweep", "list").out)
    told = json.loads(farense("sweep", "status", "--json").out)
    assert [trial["interrupted"] for trial in told["trials"]] == [True]
    page = Path(farense("sweep", "report").out.strip()).read_text()
    assert re.search("<td[^>]*>interrupted</td>", page)
    assert not re.search("<td[^>]*>running</td>", page)
    page = Path(farense("report", job_id).out.strip()).read_text()
    assert "nothing ran it when this page was made" in page
    # A daemon that runs looks after it.
    with hold(daemon_lock(workspace)):
        assert "interrupted" not in farense("sweep", "status").out


def test_sweep_status_says_what_holds_it(
    farense: Run, invoke: Run, client: FarenseClient, daemons: Daemons, workspace: Workspace
) -> None:
    plan = workspace.configs / "night.yaml"
    plan.write_text(json.dumps({"preset": "tiny", "space": {"lora.rank": [2, 4]}, "trials": 2}))
    assert invoke("sweep", str(plan)).code == 0
    assert "No daemon of this workspace runs" in farense("sweep", "status").err
    listed = farense("sweep", "list")
    assert re.search(r" waits +0 of 2", listed.out)
    assert "No daemon of this workspace runs" in listed.err
    queued(invoke)
    window = "22:00-23:00" if datetime.now().astimezone().hour < 12 else "02:00-03:00"
    daemons.start("good", window=window)
    wait_until(lambda: any(card.held_because for card in client.workers()), "its word")
    assert f"starts nothing: outside the window {window}." in farense("sweep", "status").err
