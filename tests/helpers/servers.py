"""Private daemons and servers for tests, gone when the test ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.workspace_locks import daemon_lock
from jobs.paths import Workspace
from jobs.storage.locks import held_by
from tests.helpers.waiting import wait_until

HELPERS = Path(__file__).parent
CHILD = HELPERS.parent / "children" / "child.py"


def child_command(behaviour: str) -> tuple[str, ...]:
    """Return the command of a child that behaves so."""
    return (sys.executable, "-P", str(CHILD), behaviour)


class Daemons:
    """Daemons of one workspace, started in processes of their own."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, behaviour: str = "good", **settings: Any) -> subprocess.Popen[bytes]:
        """Start a daemon and wait until it holds its lock."""
        process = self.spawn(behaviour, **settings)
        lock = daemon_lock(self.workspace)
        wait_until(lambda: held_by(lock) == process.pid, "the daemon's lock")
        return process

    def spawn(self, behaviour: str = "good", **settings: Any) -> subprocess.Popen[bytes]:
        """Start a daemon, whatever becomes of it."""
        values = {"child": child_command(behaviour), "poll_seconds": 0.05, **settings}
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                HELPERS / "run_daemon.py",
                self.workspace.root,
                json.dumps(values),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End what still runs: daemons, the server, and children whose daemon is gone."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            if process.stderr is not None:
                process.stderr.close()
        EmbeddedServer(self.workspace).shut_down()


def alive(pid: int) -> bool:
    """Tell whether a process that is not our child is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
