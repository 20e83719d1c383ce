"""Each tracker holds every step once, with the values of the metrics file, whatever is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import piped
from daemon.piped import Piped
from daemon.track.paths import read_cursor
from jobs.paths import RunDirectory, Workspace
from jobs.state import State
from tests.helpers.runs import make_run
from tests.helpers.tracked import TRACKERS, ToldTraining, curves_of, read_back, trackers_installed
from tests.helpers.waiting import wait_until

LONG = 170.0


@pytest.fixture(autouse=True)
def _installed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    trackers_installed()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def run(workspace: Workspace, tiny_model: Path) -> RunDirectory:
    return make_run(workspace, tiny_model)


class Couriers:
    """Starts couriers as a daemon does, and ends those that are left."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._started: list[Piped] = []

    def start(self, run: RunDirectory, tracker: str) -> Piped:
        command = [sys.executable, "-P", "-m", "daemon.track.courier", run.job_id, tracker]
        with (self._workspace.logs / f"{tracker}.said").open("ab") as output:
            self._started.append(piped.start(command, self._workspace, os.environ, output))
        return self._started[-1]

    def said(self, tracker: str) -> str:
        return (self._workspace.logs / f"{tracker}.said").read_text()

    def ends_well(self, courier: Piped, tracker: str) -> None:
        assert courier.process.wait(LONG) == 0, self.said(tracker)

    def close(self) -> None:
        for courier in self._started:
            os.close(courier.pipe)
            if courier.process.poll() is None:
                os.killpg(courier.process.pid, signal.SIGKILL)
            courier.process.wait()


@pytest.fixture
def couriers(workspace: Workspace) -> Iterator[Couriers]:
    found = Couriers(workspace)
    yield found
    found.close()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_every_step_stands_there_once_after_kills_of_job_and_courier(
    workspace: Workspace, run: RunDirectory, couriers: Couriers, tracker: str
) -> None:
    told = ToldTraining(run)
    told.row(0, 3.0, val_loss=3.0)
    told.row(2, 2.9)
    told.row(4, 2.8, val_loss=2.7, overfitting_gap=-0.1)
    told.checkpoint(4)
    told.row(6, 2.75)
    courier = couriers.start(run, tracker)
    wait_until(lambda: read_cursor(run, tracker).step == 4, "the steps of the checkpoint", LONG)
    os.killpg(courier.process.pid, signal.SIGKILL)
    courier.process.wait()
    told.back_to(4)  # the job was killed, too
    told.row(6, 2.625)
    told.row(8, 2.5)
    told.checkpoint(8)
    told.row(10, 2.375, val_loss=1.25)
    told.finish()
    couriers.ends_well(couriers.start(run, tracker), tracker)
    # One more has nothing to add.
    couriers.ends_well(couriers.start(run, tracker), tracker)
    curves, rest = read_back(tracker, workspace, run.job_id)
    assert curves == curves_of(run, tracker)
    if tracker != "wandb":  # whose summary is no curve
        assert rest["summary/best_val_loss"] == 1.25
    assert (read_cursor(run, tracker).rows, read_cursor(run, tracker).ended) == (6, True)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_what_the_tracker_has_lost_is_sent_again(
    workspace: Workspace, run: RunDirectory, couriers: Couriers, tracker: str
) -> None:
    """A courier that was killed between a row and its note, in either order."""
    told = ToldTraining(run)
    told.row(1, 3.0, val_loss=3.0)
    told.row(2, 2.5, val_loss=2.0)
    told.state(State.PAUSED)
    told.checkpoint(2)
    couriers.ends_well(couriers.start(run, tracker), tracker)
    (run.path / "trackers" / f"{tracker}.json").unlink()
    told.row(3, 2.25)
    told.finish(State.FAILED)
    couriers.ends_well(couriers.start(run, tracker), tracker)
    assert read_back(tracker, workspace, run.job_id)[0] == curves_of(run, tracker)


def test_steps_that_are_trained_again_after_they_were_sent_make_a_run_of_their_own(
    workspace: Workspace, run: RunDirectory, couriers: Couriers
) -> None:
    """A checkpoint was damaged after it was written, and the job went back to the one before."""
    told = ToldTraining(run)
    told.checkpoint(1)
    told.row(2, 3.0, val_loss=3.0)
    told.row(4, 2.5, val_loss=2.5)
    told.checkpoint(4)
    told.state(State.PAUSED)
    couriers.ends_well(couriers.start(run, "tensorboard"), "tensorboard")
    first = read_back("tensorboard", workspace, run.job_id)[0]
    assert list(first) == [2, 4]
    (run.checkpoint(0, 4) / "checkpoint.json").write_bytes(b"torn")
    told.back_to(1)
    told.row(2, 2.75, val_loss=2.75)
    told.row(4, 2.25, val_loss=2.25)
    told.finish()
    couriers.ends_well(couriers.start(run, "tensorboard"), "tensorboard")
    assert read_back("tensorboard", workspace, run.job_id)[0] == first
    again = read_back("tensorboard", workspace, f"{run.job_id}-2")[0]
    assert again == curves_of(run, "tensorboard")


def test_a_torn_event_file_is_cut_and_continued(
    workspace: Workspace, run: RunDirectory, couriers: Couriers
) -> None:
    told = ToldTraining(run)
    told.row(1, 3.0, val_loss=3.0)
    told.row(2, 2.5, val_loss=2.0)
    told.checkpoint(2)
    told.state(State.PAUSED)
    couriers.ends_well(couriers.start(run, "tensorboard"), "tensorboard")
    (file,) = (workspace.logs / "tensorboard" / run.job_id).iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    told.row(3, 2.25)
    told.finish()
    couriers.ends_well(couriers.start(run, "tensorboard"), "tensorboard")
    assert read_back("tensorboard", workspace, run.job_id)[0] == curves_of(run, "tensorboard")
