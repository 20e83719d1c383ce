"""A sweep from beginning to end, with real daemons and made-up trials."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.run_files import state_of
from daemon.sweep.stopping import resume_sweep, stop_sweep
from daemon.sweep.view import view_sweep
from jobs.order import read_order
from jobs.paths import Workspace
from jobs.state import State
from jobs.sweep.folder import SweepFolder
from tests.helpers.made_up_trial import FAILING_RANK, VALIDATIONS, loss_at
from tests.helpers.sweeps import SweepStage
from tests.helpers.waiting import wait_until

RATES = [1e-3, 1e-2, 1e-1]


@pytest.fixture
def stage(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SweepStage]:
    monkeypatch.delenv("FARENSE_REDIS_URL", raising=False)
    with SweepStage(tmp_path, tiny_model) as stage:
        yield stage


def started(folder: SweepFolder, trials: int) -> None:
    wait_until(lambda: len(view_sweep(folder).trials) >= trials, f"trial {trials}")


def test_a_grid_is_tried_the_worse_are_pruned_and_the_best_is_evaluated(stage: SweepStage) -> None:
    folder = stage.begin(
        space={"learning_rate": [1e-3, 2e-3, 1e-1]},
        sampler="grid",
        trials=None,
        pruner={"kind": "median", "startup_trials": 2, "warmup_validations": 0},
    )
    stage.start(pace="0.2")
    view = stage.await_end(folder)

    assert view.state.state is State.COMPLETED
    assert [trial.settings["learning_rate"] for trial in view.trials] == [1e-3, 2e-3, 1e-1]
    first, second, third = view.trials
    assert [t.state for t in (first, second)] == [State.COMPLETED] * 2
    assert first.value == pytest.approx(loss_at(1e-3, VALIDATIONS))
    assert len(first.curves[0]) == VALIDATIONS
    assert (third.state, third.pruned_by) == (State.EARLY_STOPPED, "median")
    assert 0 < len(third.curves[0]) < VALIDATIONS
    state = state_of(stage.home, third.jobs[0])
    assert state is not None
    assert (state.state, state.reason) == (State.EARLY_STOPPED, "pruned by median")
    assert stage.client.job(third.jobs[0]).pruned_by == "median"

    assert view.best == first
    evaluation = stage.client.job(view.state.evaluation or "")
    assert (evaluation.evaluates, evaluation.state) == (first.jobs[0], State.COMPLETED)
    order = read_order(stage.home.run(first.jobs[0]))
    assert order.sweep is not None
    assert (order.sweep.sweep, order.sweep.number) == (folder.id, 0)


def test_a_killed_daemon_and_a_killed_coordinator_lose_nothing(stage: SweepStage) -> None:
    folder = stage.begin(trials=4, pruner="none")
    daemon = stage.start(pace="0.2")
    started(folder, 2)
    stage.kill_coordinator(folder)
    started(folder, 3)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    stage.start(pace="0.1")
    view = stage.await_end(folder)

    assert [trial.number for trial in view.trials] == [0, 1, 2, 3]
    assert all(trial.state is State.COMPLETED for trial in view.trials)
    jobs = [job for trial in view.trials for job in trial.jobs]
    assert len(jobs) == len(set(jobs)) == 4
    assert stage.doubled() == []


@pytest.mark.parametrize("lost", ["study", "damaged study", "trials and study"])
def test_what_is_lost_is_rebuilt_from_the_jobs(stage: SweepStage, lost: str) -> None:
    folder = stage.begin(trials=3, pruner="none")
    daemon = stage.start(pace="0.05")
    started(folder, 3)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait()
    before = view_sweep(folder).trials
    if lost == "damaged study":
        folder.study.write_bytes(b"no database" * 100)
    else:
        folder.study.unlink()
    if lost == "trials and study":
        for path in folder.trials.iterdir():
            path.unlink()
    stage.start(pace="0.05")
    view = stage.await_end(folder)

    assert view.state.state is State.COMPLETED
    assert [(t.number, t.params, t.jobs) for t in view.trials] == [
        (t.number, t.params, t.jobs) for t in before
    ]
    assert all(trial.value is not None for trial in view.trials)


def test_a_sweep_rests_and_goes_on(stage: SweepStage) -> None:
    folder = stage.begin(trials=2, pruner="none")
    stage.start(pace="0.3")
    job = wait_until(lambda: next(iter(view_sweep(folder).trials), None), "a trial")
    started_job = wait_until(
        lambda: next((t.jobs[0] for t in view_sweep(folder).trials if t.step > 1), None), "a step"
    )
    stop_sweep(folder, stage.client)
    wait_until(lambda: stage.client.job(started_job).state is State.PAUSED, "the trial's rest")
    assert view_sweep(folder).state.state is State.PAUSED

    resume_sweep(folder, stage.client)
    view = stage.await_end(folder)
    assert view.state.state is State.COMPLETED
    assert view.trials[0].jobs == [started_job]
    assert view.trials[0].params == job.params
    assert len(stage.attempts(started_job)) == 2
    assert len(view.trials) == 2


def test_failures_in_a_row_end_a_sweep_with_the_reason(stage: SweepStage) -> None:
    folder = stage.begin(space={"lora.rank": [2, FAILING_RANK]}, sampler="grid", give_up_after=1)
    stage.start(pace="0.01")
    view = stage.await_end(folder)

    assert view.state.state is State.FAILED
    assert "1 trials in a row failed" in (view.state.reason or "")
    assert "this rank is no good" in (view.state.reason or "")
    assert view.best is not None
    assert stage.client.job(view.state.evaluation or "").state is State.COMPLETED


def test_an_evaluation_of_each_trial_gives_the_objective(stage: SweepStage) -> None:
    folder = stage.begin(
        space={"learning_rate": [1e-2, 1e-3]},
        sampler="grid",
        objective="token_f1",
        seeds_per_trial=2,
        pruner="none",
    )
    stage.start(pace="0.01")
    view = stage.await_end(folder)

    assert view.state.state is State.COMPLETED
    for trial, rate in zip(view.trials, [1e-2, 1e-3], strict=True):
        assert len(trial.jobs) == len(trial.evaluations) == len(trial.values) == 2
        assert trial.value == pytest.approx(1.0 / loss_at(rate, VALIDATIONS))
    assert view.best == view.trials[1]
    assert view.state.evaluation in view.trials[1].evaluations
    seeds = [read_order(stage.home.run(job)).config["seed"] for job in view.trials[0].jobs]
    assert seeds == [42, 43]


def test_a_sweep_ends_in_its_time(stage: SweepStage) -> None:
    folder = stage.begin(trials=None, hours=14 / 3600, pruner="none")
    stage.start(pace="0.4")
    view = stage.await_end(folder, 30)

    assert view.state.reason == "its time was up"
    assert view.state.until is not None
    assert view.state.updated_at <= view.state.until
    assert view.best is not None
    assert stage.client.job(view.state.evaluation or "").state is State.COMPLETED
    assert all(trial.ended for trial in view.trials)
    # Nothing was started that could not end: only the first one may have been cut short.
    assert [t.number for t in view.trials if t.pruned_by == "time"] in ([], [0])


def test_trials_share_their_workspace(stage: SweepStage) -> None:
    """What is kept for jobs to share is looked up by the same data, wherever the file lay."""
    folder = stage.begin(trials=2, pruner="none")
    stage.start(pace="0.01")
    view = stage.await_end(folder)
    orders = [read_order(stage.home.run(job)) for trial in view.trials for job in trial.jobs]
    assert len({order.train.path for order in orders}) == 1
    assert isinstance(stage.home, Workspace)
