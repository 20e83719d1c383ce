"""`farense daemon` and `farense cancel`: what starts, stops and ends work."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from daemon.client import FarenseClient
from jobs.paths import Workspace
from jobs.state import State
from tests.cli.conftest import FARENSE, Run, environment, under_way
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("preset", "client")


def test_cancel_takes_a_queued_job_off_at_once(invoke: Run, client: FarenseClient) -> None:
    job_id = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    done = invoke("cancel", job_id)
    assert (done.code, done.out) == (0, f"Cancelled {job_id}.\n")
    assert client.job(job_id).state is State.CANCELLED
    assert json.loads(invoke("cancel", job_id, "--json").out)["state"] == "cancelled"


def test_cancel_stops_a_running_job(invoke: Run, client: FarenseClient, daemons: Daemons) -> None:
    daemons.start("endless")
    job_id = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    under_way(client, job_id)
    assert "told to stop" in invoke("cancel", "latest").out
    assert invoke("watch", job_id).code == 1
    assert client.job(job_id).state is State.CANCELLED


def test_cancel_of_a_finished_job_says_so(invoke: Run, daemons: Daemons) -> None:
    daemons.start()
    invoke("enqueue", "tiny", "--watch")
    done = invoke("cancel", "latest")
    assert done.code == 0
    assert "is completed already" in done.out


def test_a_forced_cancel_without_a_daemon_says_who_will_do_it(
    invoke: Run, client: FarenseClient, daemons: Daemons
) -> None:
    daemon = daemons.start("endless")
    job_id = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    pid = under_way(client, job_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    daemon.kill()
    daemon.wait()
    said = invoke("cancel", job_id, "--force").out
    assert said == (
        f"Cancelling {job_id}: its process is killed once a daemon runs again (farense daemon).\n"
    )
    daemons.start()
    wait_until(lambda: client.job(job_id).state is State.CANCELLED, "the end")


def test_a_job_that_will_not_go_on_is_not_paused(
    invoke: Run, client: FarenseClient, daemons: Daemons
) -> None:
    job_id = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    daemons.start("stubborn", grace_seconds=300)
    under_way(client, job_id)
    invoke("cancel", job_id)
    done = invoke("pause", job_id)
    assert done.code == 2
    assert f"{job_id} is being cancelled" in done.err
    invoke("cancel", job_id, "--force")
    wait_until(lambda: client.job(job_id).finished, "the end")
    done = invoke("pause", job_id)
    assert (done.code, done.out) == (2, "")
    assert f"{job_id} is cancelled already" in done.err


def test_the_daemon_runs_until_told_to_stop(farense: Run, workspace: Workspace) -> None:
    daemon = subprocess.Popen(
        [FARENSE, "daemon"],
        env=environment(workspace.root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def status() -> dict[str, object]:
        found: dict[str, object] = json.loads(farense("daemon", "status", "--json").out)
        return found

    wait_until(lambda: status()["running"], "the daemon")
    assert status()["pid"] == daemon.pid
    assert "running (pid" in farense("daemon", "status").out
    second = farense("daemon")
    assert second.code == 1
    assert str(daemon.pid) in second.err
    assert "Traceback" not in second.err
    assert farense("daemon", "stop").code == 0
    out, err = daemon.communicate(timeout=20)
    assert (daemon.returncode, out) == (0, "")
    assert str(workspace.daemon_log) in err
    assert status()["running"] is False
    assert json.loads(farense("daemon", "stop", "--json").out) == {"stopped": False}
    assert "Nothing was running" in farense("daemon", "stop").err
