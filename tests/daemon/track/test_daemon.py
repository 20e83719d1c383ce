"""Trackers beside a daemon: fed while jobs are killed and go on, and never waited for."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.track.keeper import Tracking
from daemon.track.paths import mark, marked, read_cursor
from jobs.config.config import Preset, load_preset
from jobs.paths import Workspace
from jobs.state import State
from tests.helpers.jobs import ended, running
from tests.helpers.runs import make_run, metrics
from tests.helpers.servers import Daemons
from tests.helpers.tracked import ToldTraining, curves_of, read_back, trackers_installed
from tests.helpers.waiting import wait_until

REAL = (sys.executable, "-P", "-m", "jobs")
LONG = 120.0
SETTINGS = ("num_epochs=12", "save_steps=7", "log_steps=2", "eval_steps=30")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    trackers_installed()
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def hang(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a library in the place of a tracker's that never comes back."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("import time\n\ntime.sleep(100_000)\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_killed_job_goes_on_in_its_run_and_a_hanging_tracker_is_not_waited_for(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hang("mlflow", tmp_path / "libraries", monkeypatch)
    settings = (*SETTINGS, "trackers=[mlflow, tensorboard]")
    job = client.enqueue(load_preset(preset.name, (workspace.configs,), settings))
    daemons.start(child=REAL)
    run = workspace.run(job.id)
    wait_until(lambda: read_cursor(run, "tensorboard").step >= 7, "steps of a checkpoint", LONG)
    pid = running(client, job.id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    record = ended(client, job.id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    wait_until(lambda: read_cursor(run, "tensorboard").ended, "the end", LONG)
    curves, rest = read_back("tensorboard", workspace, job.id)
    assert curves == curves_of(run, "tensorboard")
    assert len(curves) == len(metrics(run))
    assert "summary/best_val_loss" in rest
    # The other one has neither held up the job nor been forgotten.
    assert (read_cursor(run, "mlflow").step, marked(workspace)) == (-1, [job.id])


def test_where_no_job_names_a_tracker_nothing_is_written_or_started(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    daemons.start()
    assert ended(client, client.enqueue(preset).id).state is State.COMPLETED
    assert not (workspace.private / "track").exists()


class Clock:
    """A keeper, its clock in the hand of the test."""

    def __init__(self, workspace: Workspace) -> None:
        self.now = 0.0
        self.tracking = Tracking(workspace, lambda: self.now)

    def looked(self) -> bool:
        self.now += 2.0
        self.tracking.tick()
        return True


def test_what_waited_is_sent_by_the_next_daemon_and_then_forgotten(
    workspace: Workspace, tiny_model: Path
) -> None:
    run = make_run(workspace, tiny_model, trackers=["tensorboard"])
    told = ToldTraining(run)
    told.row(1, 3.0, val_loss=3.0)
    told.finish()
    mark(workspace, run.job_id)
    clock = Clock(workspace)
    wait_until(lambda: clock.looked() and not marked(workspace), "its end", LONG)
    assert read_back("tensorboard", workspace, run.job_id)[0] == curves_of(run, "tensorboard")
    clock.tracking.close()


def test_a_removed_job_is_forgotten(workspace: Workspace) -> None:
    mark(workspace, "20261122-210000-tiny-abcd")
    clock = Clock(workspace)
    clock.looked()
    assert marked(workspace) == []
