"""A sweep in a workspace, its coordinator and a worker, all in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.client import FarenseClient
from daemon.queue.embedded_server import EmbeddedServer
from daemon.sweep.coordinator import Coordinator
from daemon.sweep.known import known_trials
from daemon.sweep.start import begin_sweep
from daemon.sweep.view import SweepView, view_sweep
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.sweep.paths import SweepFolder
from jobs.sweep.trial import Trial
from tests.helpers.stand_in_worker import StandInWorker
from tests.helpers.sweeps import PLAN


class Night:
    """A sweep, step by step.

    Attributes:
        fresh: a new coordinator takes each step, as if the last one had been killed before it.
    """

    def __init__(self, workspace: Workspace, client: FarenseClient, **changes: Any) -> None:
        self.workspace, self.client, self.fresh = workspace, client, False
        path = workspace.configs / "sweep.yaml"
        path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
        self.folder: SweepFolder = begin_sweep(path, workspace, (workspace.configs,)).folder
        self._coordinator: Coordinator | None = None

    @property
    def coordinator(self) -> Coordinator:
        if self._coordinator is None:
            trials = known_trials(self.folder, self.workspace)
            self._coordinator = Coordinator(self.folder, self.client, trials, 1.0)
        return self._coordinator

    def tick(self) -> bool:
        """Let the coordinator do what is to be done now; False once the sweep is over."""
        if self.fresh:
            self.kill()
        return self.coordinator.tick()

    def kill(self) -> None:
        """Forget the coordinator, as a SIGKILL does: only its files stay."""
        self._coordinator = None

    @property
    def view(self) -> SweepView:
        return view_sweep(self.folder)

    @property
    def trials(self) -> list[Trial]:
        return self.view.trials

    def run_trial(self, worker: StandInWorker, *losses: float) -> Trial:
        """Let a trial be asked for and run to its end; return it."""
        self.tick()
        job = worker.take()
        worker.validate(*losses)
        self.tick()
        worker.end()
        self.tick()
        return next(trial for trial in self.trials if job.id in trial.jobs)

    def evaluate(self, worker: StandInWorker) -> None:
        """Let the best be evaluated, and the sweep end."""
        self.tick()
        worker.take()
        worker.end(token_f1=0.9)
        assert not self.tick()


@pytest.fixture
def shared(workspace: Workspace, preset: Preset, server: EmbeddedServer) -> Iterator[FarenseClient]:
    """A client of the workspace's own server, whose workspace has model, data and preset."""
    with FarenseClient.connect(workspace) as client:
        yield client


@pytest.fixture
def worker(shared: FarenseClient) -> StandInWorker:
    """A worker that waits for jobs."""
    return StandInWorker(shared)


def plan_file(folder: Path, **changes: Any) -> Path:
    """Write a sweep file with some changes; return its path."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
    return path
