"""What the coordinator of a sweep does, step by step."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.client import FarenseClient
from daemon.runs.files import job_ids
from daemon.sweep.start import change_sweep, mend_state, resume_sweep, stop_sweep
from jobs.errors import InvalidInput, JobFailed
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State
from jobs.sweep.folder import sweep_ids, write_trial
from tests.daemon.sweep.conftest import Night
from tests.helpers.stand_in_worker import StandInWorker

GRID: dict[str, Any] = {"sampler": "grid", "trials": None}
MEDIAN = {"kind": "median", "startup_trials": 1, "warmup_validations": 0}


def rates(*values: float) -> dict[str, Any]:
    return {**GRID, "space": {"learning_rate": list(values)}}


def time_is_up(night: Night) -> None:
    change_sweep(night.folder, night.workspace, until=datetime.now(UTC).isoformat())


@pytest.mark.parametrize("damage", [None, "", "{}", '{"state": "resting"}'])
def test_a_state_that_is_lost_or_damaged_is_made_again(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker, damage: str | None
) -> None:
    assert worker.claim is None
    night = Night(workspace, shared, hours=2, trials=4)
    night.tick()
    before = night.view.state
    night.folder.state.unlink()
    if damage is not None:
        night.folder.state.write_text(damage)
    with pytest.raises(JobFailed, match="missing or damaged"):
        night.tick()
    night.kill()
    mend_state(night.folder, workspace)
    assert night.view.state.trials == before.trials
    assert night.view.state.until == before.until
    assert night.tick()
    assert len(night.trials) == 1
    kept = list(night.folder.path.glob("state.json.damaged-*"))
    assert [file.read_text() for file in kept] == ([damage] if damage is not None else [])


def test_the_best_is_known_again_to_who_takes_over(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared)
    best = night.run_trial(worker, 1.0)
    change_sweep(night.folder, workspace, best=None)
    night.kill()
    night.tick()
    assert night.view.state.best == best.number


def test_a_sweep_without_time_to_try_anything_is_refused(
    workspace: Workspace, shared: FarenseClient
) -> None:
    with pytest.raises(InvalidInput, match="no time to try anything"):
        Night(workspace, shared, trials=None, hours=5 / 3600)
    assert sweep_ids(workspace) == []


def test_a_trial_is_asked_for_when_a_worker_is_free(
    workspace: Workspace, shared: FarenseClient
) -> None:
    night = Night(workspace, shared)
    assert night.tick()
    assert night.trials == []

    first = StandInWorker(shared)
    night.tick()
    night.tick()
    assert len(night.trials) == 1

    second = StandInWorker(shared, "there:2")
    second.announce(held_because="outside of the window")
    night.tick()
    assert len(night.trials) == 1
    second.announce(job="20260101-000000-other-aaaa")
    night.tick()
    assert len(night.trials) == 1
    second.announce()
    first.take()
    night.tick()
    assert len(night.trials) == 2
    assert [trial.state for trial in night.trials] == [State.RUNNING, State.QUEUED]


def test_a_sweep_from_its_first_trial_to_the_evaluation_of_its_best(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, **rates(1e-3, 2e-3))
    worse = night.run_trial(worker, 3.0, 2.5)
    better = night.run_trial(worker, 2.0, 1.5, 1.7)
    assert (worse.value, better.value) == (2.5, 1.5)
    assert better.curves == [[[25, 2.0], [50, 1.5], [75, 1.7]]]
    night.evaluate(worker)

    state = night.view.state
    assert (state.state, state.reason) == (State.COMPLETED, "all 2 trials have ended")
    assert state.best == better.number
    assert shared.job(state.evaluation or "").evaluates == better.jobs[0]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_coordinator_that_is_killed_before_every_step_loses_nothing(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker, sampler: str
) -> None:
    space = {"learning_rate": [1e-3, 2e-3, 4e-3]}
    night = Night(workspace, shared, sampler=sampler, space=space, trials=3, pruner=MEDIAN)
    night.fresh = True
    for loss in (2.0, 1.0, 3.0):
        night.run_trial(worker, loss)
    night.evaluate(worker)

    assert [trial.number for trial in night.trials] == [0, 1, 2]
    assert [trial.value for trial in night.trials] == [2.0, 1.0, 3.0]
    jobs = [job for trial in night.trials for job in trial.jobs]
    assert sorted([*jobs, night.view.state.evaluation or ""]) == sorted(job_ids(workspace))
    if sampler == "grid":
        assert [t.params["learning_rate"] for t in night.trials] == space["learning_rate"]


class Killed(BaseException):
    """As if the process were gone at this moment."""


@pytest.mark.parametrize("moment", ["asked", "written", "enqueued", "ended"])
def test_a_coordinator_killed_in_the_midst_of_a_trial_asks_for_it_once(
    workspace: Workspace,
    shared: FarenseClient,
    worker: StandInWorker,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    night = Night(workspace, shared, trials=2, pruner="none")
    write, calls = write_trial, []
    fatal = {"asked": 1, "written": 2, "enqueued": 2, "ended": 4}[moment]

    def dies(*arguments: Any) -> None:
        calls.append(arguments)
        if moment == "written" and len(calls) == fatal - 1:
            write(*arguments)
            raise Killed
        if len(calls) == fatal:
            raise Killed
        write(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("daemon.sweep.coordinator.write_trial", dies)
        night.tick()
        worker.take()
        worker.validate(2.0)
        worker.end()
        while True:
            night.tick()
    night.kill()
    night.tick()
    if night.trials[0].value is None:
        worker.take()
        worker.validate(2.0)
        worker.end()
        night.tick()
    night.run_trial(worker, 1.0)
    night.evaluate(worker)

    assert [(t.number, t.value) for t in night.trials] == [(0, 2.0), (1, 1.0)]
    assert [len(t.jobs) for t in night.trials] == [1, 1]
    assert len(job_ids(workspace)) == 3


def test_a_trial_that_comes_to_nothing_is_asked_to_end_until_it_has(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, **rates(1e-3, 1e-2, 2e-2), pruner=MEDIAN)
    night.run_trial(worker, 2.0, 1.0)
    night.tick()
    job = worker.take()
    worker.validate(3.0)
    night.tick()
    assert shared.job(job.id).prune_requested == "median"
    # Redis forgets it; the coordinator does not, nor does the next one.
    shared.store.update(job.id, 1, {"prune_requested": None})
    night.kill()
    night.tick()
    assert shared.job(job.id).prune_requested == "median"
    assert not shared.job(job.id).cancel_requested

    worker.end(State.EARLY_STOPPED, "pruned by median", pruned_by="median")
    night.tick()
    pruned = night.trials[1]
    assert (pruned.state, pruned.pruned_by, pruned.value) == (
        State.EARLY_STOPPED,
        "median",
        3.0,
    )
    assert [trial.number for trial in night.view.ranked] == [0, 1]


def test_a_trial_that_had_ended_before_it_was_pruned_counts_whole(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, **rates(1e-3, 1e-2), pruner=MEDIAN)
    night.run_trial(worker, 2.0, 1.0)
    night.tick()
    worker.take()
    worker.validate(3.0)
    night.tick()
    assert night.trials[1].pruned_by == "median"
    worker.validate(2.5)
    worker.end()
    night.tick()
    whole = night.view.trials[1]
    assert (whole.pruned, whole.value) == (False, 2.5)


def test_when_the_time_is_up_what_runs_ends_and_what_waits_goes(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, pruner="none", trials=None, hours=1)
    StandInWorker(shared, "there:2")
    night.tick()
    running = worker.take()
    worker.validate(2.0)
    night.tick()
    time_is_up(night)
    night.tick()
    assert shared.job(running.id).prune_requested == "time"
    worker.end(State.EARLY_STOPPED, pruned_by="time")
    night.tick()

    ran, waited = night.trials
    assert (ran.state, ran.pruned_by, ran.value) == (State.EARLY_STOPPED, "time", 2.0)
    assert (waited.state, waited.value) == (State.CANCELLED, None)
    assert waited.reason == "the sweep's time was up before it had begun"
    night.evaluate(worker)
    assert (night.view.state.state, night.view.state.reason) == (
        State.COMPLETED,
        "its time was up",
    )


def test_nothing_is_started_that_cannot_end_in_time(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, pruner="none", trials=None, hours=1)
    first = night.run_trial(worker, 2.0)
    taken = night.coordinator.trials[first.number]
    night.coordinator.trials[first.number] = type(taken)(**{**vars(taken), "seconds": 3000.0})
    soon = datetime.now(UTC) + timedelta(seconds=2900)
    before = len(night.trials)
    worker.take()
    worker.end(State.FAILED, "which tells nothing of how long a trial takes")
    change_sweep(night.folder, night.workspace, until=soon.isoformat())
    night.tick()
    night.tick()
    assert len(night.trials) == before


def test_failures_in_a_row_end_a_sweep_and_cancelled_trials_are_none(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, trials=9, pruner="none", give_up_after=2)
    night.run_trial(worker, 2.0)
    for ending in (State.FAILED, State.CANCELLED, State.FAILED):
        night.tick()
        worker.take()
        worker.end(ending, f"it was {ending}")
        night.tick()
    night.evaluate(worker)

    state = night.view.state
    assert (state.state, state.reason) == (
        State.FAILED,
        "2 trials in a row failed, the last: it was failed",
    )
    assert state.best == 0
    assert len(night.trials) == 4


def test_a_sweep_whose_trials_all_fail_says_why(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, trials=9, pruner="none", give_up_after=1)
    night.tick()
    worker.take()
    worker.end(State.FAILED, "the data are no good")
    assert not night.tick()
    state = night.view.state
    assert (state.state, state.evaluation) == (State.FAILED, None)
    assert state.reason == "no trial had a result: the data are no good"


def test_what_is_no_smaller_than_what_ran_out_of_memory_is_never_started(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    space = {"lora.rank": [4, 8, 2]}
    night = Night(workspace, shared, **{**GRID, "space": space}, pruner="none")
    night.tick()
    worker.take()
    worker.end(State.FAILED, "out of memory", failure="out_of_memory")
    night.tick()

    _, larger, smaller = night.trials
    assert (larger.state, larger.jobs) == (State.FAILED, [])
    assert larger.reason == "never started: trial 0, which is no larger, ran out of memory"
    assert (smaller.state, len(smaller.jobs)) == (State.QUEUED, 1)


def test_the_objective_may_be_that_of_an_evaluation_and_a_mean_over_seeds(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    changes = {"objective": "token_f1", "seeds_per_trial": 2, "pruner": "none"}
    night = Night(workspace, shared, **rates(1e-3, 1e-2), **changes)
    for scores in ((0.2, 0.4), (0.8, 0.6)):
        for score in scores:
            night.tick()
            worker.take()
            worker.validate(2.0)
            worker.end()
            night.tick()
            assert worker.take().evaluates is not None
            worker.end(token_f1=score)
            night.tick()
    assert not night.tick()

    assert [trial.value for trial in night.trials] == [pytest.approx(0.3), pytest.approx(0.7)]
    best = night.trials[1]
    assert night.view.state.best == best.number
    assert night.view.state.evaluation == best.evaluations[0]
    seeds = [read_spec(workspace.run(job)).config["seed"] for job in best.jobs]
    assert seeds == [42, 43]


@pytest.mark.parametrize("lost", ["study", "damaged study", "trials", "trials and study"])
def test_what_is_lost_is_rebuilt_from_the_jobs(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker, lost: str
) -> None:
    night = Night(workspace, shared, trials=4, pruner="none")
    night.run_trial(worker, 2.0)
    night.run_trial(worker, 1.0, 0.5)
    night.tick()
    before = night.trials
    night.kill()
    if lost == "damaged study":
        night.folder.study.write_bytes(b"no database" * 100)
    elif "study" in lost:
        night.folder.study.unlink()
    if "trials" in lost:
        for path in night.folder.trials.iterdir():
            path.unlink()
    night.tick()
    night.tick()

    assert [(t.number, t.params, t.jobs) for t in night.trials] == [
        (t.number, t.params, t.jobs) for t in before
    ]
    assert [t.value for t in night.trials] == [2.0, 0.5, 0.5 if len(before) < 3 else None]
    known = night.coordinator.study._study.get_trials()
    assert [t.value for t in known] == [2.0, 0.5, None]
    assert list(known[1].intermediate_values.values()) == [1.0, 0.5]


def test_a_sweep_rests_and_goes_on(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, trials=2, pruner="none")
    night.tick()
    job = worker.take()
    stop_sweep(night.folder, shared)
    assert not night.tick()
    assert len(night.trials) == 1
    worker.end(State.PAUSED)

    resume_sweep(night.folder, shared)
    night.kill()
    night.tick()
    assert worker.take().id == job.id
    worker.validate(2.0)
    worker.end()
    night.run_trial(worker, 1.0)
    night.evaluate(worker)
    with pytest.raises(InvalidInput, match="cannot be stopped: it is completed"):
        stop_sweep(night.folder, shared)


def test_a_job_that_is_gone_with_its_files_is_a_failed_trial(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    night = Night(workspace, shared, trials=1, pruner="none")
    night.tick()
    [job] = night.trials[0].jobs
    shutil.rmtree(workspace.run(job).path)
    shared.store.forget(job)
    night.tick()
    assert (night.trials[0].state, night.trials[0].reason) == (
        State.FAILED,
        f"its job {job} is gone",
    )
