"""Where a round takes place: a workspace, its queue, one daemon, jobs that are to survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.workspace_locks import daemon_lock
from daemon.settings import Settings
from jobs.config.config import load_preset
from jobs.errors import FarenseError
from jobs.paths import REPOSITORY, Workspace
from jobs.storage.locks import held_by
from tests.daemon.conftest import fill
from tests.faults.plan import CUTS, FOLLOWER, Plan
from tests.helpers import failing_writes
from tests.helpers.phase_notes import Span, read_lines, spans
from tests.helpers.proxy import FlakyProxy
from tests.helpers.waiting import wait_until

LEASE_SECONDS = 2.0
RUN_DAEMON = REPOSITORY / "tests" / "helpers" / "run_daemon.py"
CHILD = REPOSITORY / "tests" / "children" / "storm.py"
SETTINGS: dict[str, Any] = {
    "lease_seconds": LEASE_SECONDS,
    "poll_seconds": 0.05,
    "grace_seconds": 10.0,
    "reconcile_seconds": 0.5,
}

# For a real training: every phase comes more than once.
REAL_SETTINGS = ("num_epochs=4", "save_steps=5", "eval_steps=7", "log_steps=2")


class Stage:
    """A workspace with a queue.

    Attributes:
        control: a folder outside of the workspace, for notes, the locks' log and switches.
        accepted: the names of the jobs that the client accepted, by id, in their order.
        refused: what was said of jobs that it did not accept.
        deaths: how daemons ended that nobody had killed.
    """

    def __init__(self, plan: Plan, folder: Path, model: Path) -> None:
        self.plan = plan
        self.workspace = Workspace(folder / "workspace")
        self.control = folder / "control"
        self.control.mkdir()
        self.switch = self.control / "disk_is_full"
        fill(self.workspace, model)
        self.preset = load_preset("tiny", (self.workspace.configs,), REAL_SETTINGS)
        self.server = EmbeddedServer(self.workspace)
        self.server.ensure()
        self.broker = Broker(self.workspace, Settings())
        self.client = FarenseClient(self.workspace, self.broker)
        self.proxy: FlakyProxy | None = None
        if plan.fault in CUTS:
            self.proxy = FlakyProxy(self.control / "proxy.sock", self.server.socket)
        self.accepted: dict[str, str] = {}
        self.refused: list[str] = []
        self.deaths: list[str] = []
        self.daemon: subprocess.Popen[bytes] | None = None

    def enqueue(self, name: str) -> None:
        """Enqueue a job, which may be refused; one named ``cancelled`` is cancelled at once."""
        after = self.victim if name == FOLLOWER else None
        try:
            job_id = self.client.enqueue(self.preset, name=name, after=after).id
            self.accepted[job_id] = name
            if name == "cancelled":
                self.client.cancel(job_id)
        except FarenseError as error:
            self.refused.append(f"{name}: {error.message}")

    def id_of(self, name: str) -> str:
        """Return the id of the job of that name."""
        return next(job_id for job_id, found in self.accepted.items() if found == name)

    @property
    def victim(self) -> str:
        """The id of the job that is struck."""
        return self.id_of(self.plan.victim)

    def phases(self) -> list[Span]:
        """Return the phases of the victim so far."""
        return spans(self.control / "notes" / f"{self.victim}.jsonl")

    def start_daemon(self) -> None:
        """Start a daemon and wait until it is there."""
        settings = {**SETTINGS, "child": (sys.executable, "-P", str(CHILD), str(self.control))}
        if self.proxy is not None:
            settings["redis_url"] = f"unix://{self.proxy.path}"
        environment = {
            **os.environ,
            failing_writes.SWITCH: str(self.switch),
            "MLX_DISABLE_COMPILE": "1",
        }
        with (self.control / "daemon.stderr").open("ab") as output:
            self.daemon = process = subprocess.Popen(
                [sys.executable, "-P", RUN_DAEMON, self.workspace.root, json.dumps(settings)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        lock = daemon_lock(self.workspace)
        wait_until(
            lambda: held_by(lock) == process.pid or process.poll() is not None, "the daemon's lock"
        )

    def kill_daemon(self) -> None:
        """Kill the daemon, if it lives."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def keep_daemon(self) -> None:
        """Start the daemon again where it is gone, as launchd and systemd do."""
        if self.daemon is not None and (code := self.daemon.poll()) is not None:
            said = (self.control / "daemon.stderr").read_text(errors="replace")[-2000:]
            self.deaths.append(f"the daemon ended by itself, with {code}: {said}")
            self.daemon = None
        if self.daemon is None:
            self.start_daemon()

    def daemon_log(self) -> list[dict[str, Any]]:
        """Return the lines of the daemon's log."""
        return read_lines(self.workspace.daemon_log)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(20)
            except subprocess.TimeoutExpired:
                self.kill_daemon()
        if self.proxy is not None:
            self.proxy.close()
        self.broker.close()
        self.server.shut_down()
