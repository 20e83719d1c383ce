"""A sweep from beginning to end, with real daemons, a real coordinator and made-up trials."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.runs.snapshot import snapshot_of
from daemon.sweep.view import view_sweep
from jobs.spec import read_spec
from jobs.state import State
from jobs.storage.locks import held_by, is_held
from jobs.sweep.paths import SweepFolder
from tests.helpers.made_up_trial import VALIDATIONS, loss_at
from tests.helpers.sweeps import SweepStage
from tests.helpers.waiting import wait_until


@pytest.fixture
def stage(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SweepStage]:
    monkeypatch.delenv("FARENSE_REDIS_URL", raising=False)
    with SweepStage(tmp_path, tiny_model) as stage:
        yield stage


def started(folder: SweepFolder, trials: int) -> None:
    def there() -> bool:
        found = view_sweep(folder).trials
        return len(found) >= trials and bool(found[trials - 1].jobs)

    wait_until(there, f"trial {trials}")


def test_a_grid_is_tried_the_worse_are_pruned_and_the_best_is_evaluated(stage: SweepStage) -> None:
    folder = stage.begin(
        space={"learning_rate": [1e-3, 1e-1]},
        sampler="grid",
        trials=None,
        pruner={"kind": "median", "startup_trials": 1, "warmup_validations": 0},
    )
    daemon = stage.start(pace="0.3")
    view = stage.await_end(folder)

    assert view.state.state is State.COMPLETED
    first, second = view.trials
    assert first.state is State.COMPLETED
    assert first.value == pytest.approx(loss_at(1e-3, VALIDATIONS))
    assert len(first.curves[0]) == VALIDATIONS
    assert (second.state, second.pruned_by) == (State.EARLY_STOPPED, "median")
    assert 0 < len(second.curves[0]) < VALIDATIONS
    state = snapshot_of(stage.home, second.jobs[0]).state
    assert state is not None
    assert (state.state, state.reason) == (State.EARLY_STOPPED, "pruned by median")
    assert stage.client.job(second.jobs[0]).pruned_by == "median"

    for trial in (first, second):  # as long as `farense status` says of its jobs
        jobs = [stage.client.job(job) for job in trial.jobs]
        assert trial.seconds == sum(job.duration_seconds or 0.0 for job in jobs) > 0

    assert view.best == first
    evaluation = stage.client.job(view.state.evaluation or "")
    assert (evaluation.evaluates, evaluation.state) == (first.jobs[0], State.COMPLETED)
    spec = read_spec(stage.home.run(first.jobs[0]))
    assert spec.sweep is not None
    assert (spec.sweep.sweep, spec.sweep.number) == (folder.id, 0)

    # Nobody coordinates what has ended, and the daemon goes without a word.
    wait_until(lambda: not is_held(folder.lock), "the coordinator's end")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0


def test_a_killed_daemon_and_a_killed_coordinator_lose_nothing(stage: SweepStage) -> None:
    folder = stage.begin(trials=3, pruner="none")
    daemon = stage.start(pace="0.2")
    started(folder, 1)
    killed = stage.kill_coordinator(folder)
    started(folder, 2)
    assert held_by(folder.lock) not in (None, killed)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    wait_until(lambda: not is_held(folder.lock), "the end of the coordinator without its daemon")
    stage.start(pace="0.05")
    view = stage.await_end(folder)

    assert [trial.number for trial in view.trials] == [0, 1, 2]
    assert all(trial.state is State.COMPLETED for trial in view.trials)
    jobs = [job for trial in view.trials for job in trial.jobs]
    assert len(jobs) == len(set(jobs)) == 3
    assert stage.doubled() == []
