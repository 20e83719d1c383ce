"""What came of trials: curves, leaderboard, failures in a row, and what they leave on disk."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from jobs.errors import InvalidInput, JobFailed
from jobs.paths import Workspace
from jobs.state import State
from jobs.sweep.folder import (
    SweepState,
    find_sweep,
    read_sweep_state,
    read_trials,
    sweep_ids,
    write_sweep_state,
    write_trial,
)
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.sweep.trial import (
    Trial,
    best_job,
    best_trial,
    curve_of,
    failures_in_a_row,
    leaderboard,
    lowest,
    mean,
    trial_from,
)


def trial(number: int, value: float | None = None, **values: Any) -> Trial:
    known = {"state": State.COMPLETED, "jobs": [f"job{number}"], "value": value, **values}
    return Trial(number, ended_at=f"2026-01-01T00:00:{number:02}", **{"params": {}, **known})


def test_a_curve_leaves_the_baseline_out_and_is_in_order() -> None:
    assert curve_of({20: 1.0, 0: 9.0, 10: 2.0}) == [[10, 2.0], [20, 1.0]]
    assert lowest([[1, math.nan], [2, 3.0], [3, math.inf], [4, 2.5]]) == 2.5
    assert lowest([[1, math.nan]]) is None
    assert (mean([1.0, 2.0]), mean([])) == (1.5, None)


@pytest.mark.parametrize(("maximizes", "order"), [(False, [2, 1, 3, 0]), (True, [0, 1, 3, 2])])
def test_the_leaderboard(maximizes: bool, order: list[int]) -> None:
    trials = [trial(0, 3.0), trial(3, 2.0), trial(1, 2.0), trial(2, 1.0, pruned_by="time")]
    others = [trial(4), trial(5, 0.5, state=State.RUNNING)]
    ranked = leaderboard([*trials, *others], maximizes=maximizes)
    assert [found.number for found in ranked] == order
    best = best_trial([*trials, *others], maximizes=maximizes)
    assert best is not None
    assert best.number == order[0]
    assert best_trial(others, maximizes=maximizes) is None


def test_a_trial_that_has_not_learned_comes_last_and_is_never_the_best() -> None:
    ruined = trial(0, 10.84, curves=[[[5, 10.84]]], baseline_val_loss=5.38)
    found = trial(1, 2.0, curves=[[[5, 2.0], [10, 9.0]]], baseline_val_loss=5.38)
    assert (ruined.learned, found.learned) == (False, True)
    # Answers may be scored high by chance: the losses come first.
    lucky, honest = replace(ruined, value=0.9), replace(found, value=0.1)
    for trials, maximizes in (([ruined, found], False), ([lucky, honest], True)):
        ranked = leaderboard(trials, maximizes=maximizes)
        assert [each.number for each in ranked] == [1, 0]
        assert best_trial([trials[0]], maximizes=maximizes) is None
    # Of a sweep of an older farense nothing is known of what was before training.
    assert trial(2, 10.84, curves=[[[5, 10.84]]]).learned
    assert trial(3, curves=[], baseline_val_loss=5.38).learned
    # One of several seeds is enough: it has an adapter of its own.
    assert trial(4, 6.0, curves=[[[5, 9.0]], [[5, 3.0]]], baseline_val_loss=5.38).learned


def test_of_equal_values_the_one_with_the_lower_loss_is_the_better() -> None:
    worse, better = trial(0, 0.5, curves=[[[1, 2.0]]]), trial(1, 0.5, curves=[[[1, 1.5]]])
    assert [found.number for found in leaderboard([worse, better], maximizes=True)] == [1, 0]


@pytest.mark.parametrize(("maximizes", "job"), [(False, "b"), (True, "a")])
def test_of_several_seeds_the_best_adapter_is_meant(maximizes: bool, job: str) -> None:
    found = trial(0, 2.0, jobs=["a", "b"], values=[3.0, 1.0])
    assert best_job(found, maximizes=maximizes) == job
    assert best_job(replace(found, values=[]), maximizes=maximizes) == "a"


@pytest.mark.parametrize(
    ("states", "count"),
    [
        ("", 0),
        ("c", 0),
        ("f", 1),
        ("cff", 2),
        ("fcf", 1),
        ("ffe", 0),
        ("fxf", 2),
        ("ffr", 2),
    ],
)
def test_failures_in_a_row(states: str, count: int) -> None:
    kinds = {
        "c": State.COMPLETED,
        "f": State.FAILED,
        "e": State.EARLY_STOPPED,
        "x": State.CANCELLED,
        "r": State.RUNNING,
    }
    trials = [trial(number, state=kinds[letter]) for number, letter in enumerate(states)]
    assert failures_in_a_row(trials) == count


def test_a_trial_that_was_never_started_is_no_failure_in_a_row() -> None:
    assert failures_in_a_row([trial(0, state=State.FAILED, jobs=[])]) == 0


def test_trials_are_read_as_they_were_written(tmp_path: Any) -> None:
    folder = SweepFolder(tmp_path)
    first = trial(0, 2.0, curves=[[[5, math.nan], [10, 2.0]]], params={"a": 1})
    second = trial(12, state=State.FAILED, reason="no")
    for found in (second, first):
        write_trial(folder, found)
    (folder.trials / "0001.json").write_text("{")
    (folder.trials / "0002.json").write_text('{"number": 3, "params": {}, "state": "queued"}')
    (folder.trials / "0003.json").write_text('{"number": "3", "params": {}, "state": "queued"}')
    (folder.trials / ".0004.json.tmp").write_text("torn")
    read = read_trials(folder)
    assert [found.number for found in read] == [0, 12]
    assert math.isnan(read[0].curves[0][0][1])
    assert replace(read[0], curves=[]) == replace(first, curves=[])
    assert read[1] == second


@pytest.mark.parametrize("values", [{}, {"state": "running"}, {"number": 1, "state": "nonsense"}])
def test_what_is_no_trial_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        trial_from(values)


def test_the_state_of_a_sweep(tmp_path: Any) -> None:
    folder = SweepFolder(tmp_path)
    with pytest.raises(JobFailed, match="missing or damaged"):
        read_sweep_state(folder)
    written = write_sweep_state(folder, SweepState(best=3, importances={"a": 1.0}))
    assert read_sweep_state(folder) == written
    folder.state.write_text('{"state": "queued"}')
    with pytest.raises(JobFailed, match="missing or damaged"):
        read_sweep_state(folder)


def test_a_sweep_is_found_by_a_part_of_its_id(workspace: Workspace) -> None:
    with pytest.raises(InvalidInput, match="There is no sweep in this workspace"):
        find_sweep(workspace)
    ids = ["20260101-000000-night-aaaa", "20260102-000000-night-bbbb"]
    for sweep in (*ids, "no_sweep"):
        (sweeps_of(workspace) / sweep).mkdir(parents=True)
    assert sweep_ids(workspace) == ids[::-1]
    assert find_sweep(workspace).id == ids[1]
    assert find_sweep(workspace, "aaaa").id == find_sweep(workspace, ids[0]).id == ids[0]
    with pytest.raises(InvalidInput, match="2 sweeps match"):
        find_sweep(workspace, "night")
    with pytest.raises(InvalidInput, match="there is no such sweep"):
        find_sweep(workspace, "day")
