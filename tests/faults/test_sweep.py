"""A sweep over two machines, whose daemons and coordinator are killed: every trial is accounted
for, none is lost, none runs twice at a time.

`make test` plays it small, with made-up trials; `make faults` (FARENSE_FAULT_SWEEP=full) with the
real training of the tiny model, beside five undisturbed sweeps, and with three minutes to keep to.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.runs.files import job_ids
from daemon.sweep.view import SweepView, view_sweep
from jobs.spec import read_spec
from jobs.state import FINISHED_WELL, State
from jobs.sweep.paths import SweepFolder
from tests.helpers.sweeps import SweepStage
from tests.helpers.waiting import wait_until

FULL = os.environ.get("FARENSE_FAULT_SWEEP") == "full"
TRIALS = 12 if FULL else 4
PACE = "real" if FULL else "0.2"
UNDISTURBED = 5
full_only = pytest.mark.skipif(not FULL, reason="make faults plays it")


@pytest.fixture
def stages(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SweepStage]]:
    """Makes stages, each with a Redis of its own, and takes them down."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    monkeypatch.delenv("FARENSE_REDIS_URL", raising=False)
    made: list[SweepStage] = []

    def make(*names: str) -> SweepStage:
        made.append(SweepStage(tmp_path / str(len(made)), tiny_model, names))
        return made[-1]

    yield make
    for stage in made:
        stage.__exit__(None, None, None)


def await_trials(folder: SweepFolder, count: int) -> None:
    """Wait until so many trials were asked for, and the last of them has a job."""

    def there() -> bool:
        trials = view_sweep(folder).trials
        return len(trials) >= count and bool(trials[-1].jobs)

    wait_until(there, f"trial {count}", 300)


def kill(daemon: subprocess.Popen[bytes]) -> None:
    daemon.kill()
    daemon.wait()


def accounted_for(stage: SweepStage, view: SweepView, trials: int) -> None:
    """Assert that all trials of a sweep have come to their end, each by a job of its own."""
    assert [trial.number for trial in view.trials] == list(range(trials))
    assert all(trial.state in FINISHED_WELL for trial in view.trials), view.trials
    assert all(trial.value is not None for trial in view.trials)
    jobs = [job for trial in view.trials for job in trial.jobs]
    assert len(jobs) == len(set(jobs)) == trials
    of_sweep = set()
    for workspace in stage.workspaces:
        for job in job_ids(workspace):
            spec = read_spec(workspace.run(job))
            if spec.sweep is not None and spec.evaluation is None:
                of_sweep.add(job)
    assert of_sweep == set(jobs)
    assert all(stage.client.job(job).finished for job in jobs)
    assert stage.doubled() == []
    evaluation = stage.client.job(view.state.evaluation or "")
    assert evaluation.state is State.COMPLETED
    assert evaluation.evaluates in (view.best.jobs if view.best else [])


def disturbed(stage: SweepStage, folder: SweepFolder) -> SweepView:
    """Play a sweep in which the second machine's daemon is killed twice, the coordinator once.

    In the small one the machine is killed once, and stays away until the first has gone on alone.
    """
    stage.start(0, PACE)
    other = stage.start(1, PACE)
    await_trials(folder, 2)
    kill(other)
    await_trials(folder, 3)
    stage.kill_coordinator(folder)
    if FULL:
        other = stage.start(1, PACE)
        await_trials(folder, 6)
        kill(other)
        await_trials(folder, 7)
    stage.start(1, PACE)
    return stage.await_end(folder, 900 if FULL else 60)


@pytest.mark.timeout(3600 if FULL else 120)
def test_trials_survive_killed_daemons_and_a_killed_coordinator(
    stages: Callable[..., SweepStage],
) -> None:
    stage = stages("north", "south")
    folder = stage.begin(trials=TRIALS)
    view = disturbed(stage, folder)

    assert view.state.state is State.COMPLETED
    accounted_for(stage, view, TRIALS)


@full_only
@pytest.mark.timeout(5400)
def test_the_best_of_a_disturbed_sweep_is_as_good_as_that_of_others(
    stages: Callable[..., SweepStage], capsys: pytest.CaptureFixture[str]
) -> None:
    losses = [undisturbed(stages("north", "south"), seed) for seed in range(1, UNDISTURBED + 1)]
    stage = stages("north", "south")
    view = disturbed(stage, stage.begin(trials=TRIALS, seed=UNDISTURBED + 1))
    accounted_for(stage, view, TRIALS)
    best = view.best.value if view.best else None
    with capsys.disabled():
        pruned = sum(trial.pruned for trial in view.trials)
        print(f"\nundisturbed: {sorted(losses)}; disturbed: {best} ({pruned} of {TRIALS} pruned)")
    assert best is not None
    spread = max(losses) - min(losses)
    assert min(losses) - spread <= best <= max(losses) + spread


def undisturbed(stage: SweepStage, seed: int) -> float:
    folder = stage.begin(trials=TRIALS, seed=seed)
    daemons = [stage.start(index, PACE) for index in range(2)]
    view = stage.await_end(folder, 900)
    accounted_for(stage, view, TRIALS)
    for daemon in daemons:
        daemon.terminate()
        daemon.wait()
    assert view.best is not None
    assert view.best.value is not None
    return view.best.value


@full_only
@pytest.mark.timeout(400)
def test_a_sweep_of_three_minutes_ends_within_them(
    stages: Callable[..., SweepStage], capsys: pytest.CaptureFixture[str]
) -> None:
    stage = stages("north")
    fixed: dict[str, Any] = {"early_stopping_patience": None, "eval_steps": 3, "num_epochs": 20}
    folder = stage.begin(trials=None, hours=180 / 3600, set=fixed)
    stage.start(0, PACE)
    view = stage.await_end(folder, 240)

    assert view.state.until is not None
    left = datetime.fromisoformat(view.state.until) - datetime.fromisoformat(view.state.updated_at)
    with capsys.disabled():
        print(f"\n{len(view.trials)} trials; ended {left.total_seconds():.0f} s before its time")
    assert left.total_seconds() >= 0
    assert view.state.state is State.COMPLETED
    assert len(view.trials) >= 2
    assert stage.client.job(view.state.evaluation or "").state is State.COMPLETED
