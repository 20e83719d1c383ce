"""Starting, stopping and looking at the daemon from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.process import daemon_status, start_daemon, stop_daemon
from daemon.queue.embedded_server import EmbeddedServer
from jobs.config.config import Preset
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.state import State
from tests.helpers.jobs import running
from tests.helpers.servers import Daemons, alive
from tests.helpers.waiting import wait_until

DEEP = "espaços e acentuação/" * 10


def test_a_daemon_is_started_once_and_stopped_with_its_server(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / DEEP)
    workspace.root.mkdir(parents=True)
    pid = start_daemon(workspace)
    try:
        assert start_daemon(workspace) == pid
        status = wait_until(
            lambda: found if (found := daemon_status(workspace)).server_running else None
        )
        assert (status.running, status.pid) == (True, pid)
        assert (status.queued, status.running_job) == (0, None)
        assert status.server == str(workspace.private / "valkey.sock")
    finally:
        assert stop_daemon(workspace)
    status = daemon_status(workspace)
    assert (status.running, status.pid, status.server_running) == (False, None, False)
    assert status.queued is None
    assert not EmbeddedServer(workspace).answers()
    assert not stop_daemon(workspace)


def test_a_lone_server_is_stopped(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    server.ensure()
    assert stop_daemon(workspace)
    assert server.pid() is None


def test_the_status_names_the_job_under_way(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    first, second = client.enqueue(preset), client.enqueue(preset)
    daemons.start("endless")
    running(client, first.id)
    status = daemon_status(workspace)
    assert (status.running_job, status.queued) == (first.id, 1)
    assert stop_daemon(workspace)
    with FarenseClient.connect(workspace) as again:
        assert again.job(first.id).state is State.QUEUED
        assert again.job(second.id).attempt == 0


def test_a_daemon_that_does_not_stop_in_time_is_told(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    job = client.enqueue(preset)
    daemon = daemons.start("stubborn", grace_seconds=300)
    running(client, job.id)
    with pytest.raises(WorkspaceError, match=f"pid {daemon.pid}"):
        stop_daemon(workspace, timeout=0.3)
    assert alive(daemon.pid)
    # Asked again, it does not wait for the child.
    assert stop_daemon(workspace, timeout=20)


def test_a_daemon_that_cannot_start_says_why(workspace: Workspace) -> None:
    workspace.private.write_text("in the way")
    with pytest.raises(WorkspaceError, match="did not start"):
        start_daemon(workspace)
