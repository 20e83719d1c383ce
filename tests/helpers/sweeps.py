"""A sweep on stage: workspaces that share a Redis, their daemons, and what may befall them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.settings import Settings
from daemon.sweep.start import begin_sweep
from daemon.sweep.view import SweepView, view_sweep
from jobs.paths import REPOSITORY, Workspace
from jobs.storage.locks import held_by
from jobs.sweep.paths import SweepFolder
from tests.daemon.conftest import fill
from tests.helpers.lock_log import overlaps, runs
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

CHILD = REPOSITORY / "tests" / "children" / "sweep_trial.py"
PLAN: dict[str, Any] = {
    "preset": "tiny",
    "set": {"early_stopping_patience": None, "eval_steps": 3, "num_epochs": 2},
    "space": {
        "lora.rank": [2, 4],
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    },
    "pruner": {"kind": "median", "startup_trials": 2, "warmup_validations": 1},
    "trials": 5,
}


class SweepStage:
    """One or more workspaces on one Redis.

    Attributes:
        control: a folder for the locks' logs.
        home: the workspace of the sweep, the first of all.
    """

    def __init__(self, folder: Path, model: Path, names: tuple[str, ...] = ("north",)) -> None:
        self.control = folder / "control"
        self.control.mkdir(parents=True)
        self.server = EmbeddedServer(Workspace(folder / "redis"))
        self.server.ensure()
        self.url = f"unix://{self.server.socket}"
        self.workspaces = [Workspace(folder / name) for name in names]
        for workspace in self.workspaces:
            fill(workspace, model)
        self.daemons = [Daemons(workspace) for workspace in self.workspaces]
        self.home = self.workspaces[0]
        broker = Broker(self.home, Settings(redis_url=self.url))
        self.client = FarenseClient(self.home, broker)

    def begin(self, **changes: Any) -> SweepFolder:
        """Start a sweep by a file, :data:`PLAN` with some changes."""
        path = self.home.configs / "sweep.yaml"
        path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
        return begin_sweep(path, self.home, (self.home.configs,)).folder

    def start(self, index: int = 0, pace: str = "0.1") -> Any:
        """Start the daemon of a workspace.

        Args:
            pace: seconds between the validations of made-up trials; ``real`` for real ones.
        """
        return self.daemons[index].start(
            child=(sys.executable, "-P", str(CHILD), str(self.control), pace),
            redis_url=self.url,
            lease_seconds=2.0,
            reconcile_seconds=0.3,
        )

    def kill_coordinator(self, folder: SweepFolder) -> int:
        """Kill the coordinator of a sweep; return its pid, which was alive until then."""
        pid = wait_until(lambda: held_by(folder.lock), "a coordinator")
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_end(self, folder: SweepFolder, timeout: float = 60.0) -> SweepView:
        """Wait until a sweep has ended; return how it stands."""
        wait_until(lambda: not view_sweep(folder).state.active, "the sweep's end", timeout)
        return view_sweep(folder)

    def doubled(self) -> list[str]:
        """Return what the locks' logs tell of jobs that two children ran at a time."""
        found = self.control.glob("*.jsonl")
        return [f"{path.stem}: {line}" for path in found for line in overlaps(path)]

    def attempts(self, job_id: str) -> list[int]:
        """Return the attempts of a job that got its lock."""
        return runs(self.control / f"{job_id}.jsonl")

    def __enter__(self) -> SweepStage:
        return self

    def __exit__(self, *exception: object) -> None:
        for daemons in self.daemons:
            daemons.close()
        self.client.close()
        self.server.shut_down()
