"""The one place that asks Optuna and tells it: it answers alike whoever opens its file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.sweep.study import Study
from jobs.paths import REPOSITORY
from jobs.state import State
from jobs.sweep.plan import SweepPlan, plan_from
from jobs.sweep.space import settings_of
from jobs.sweep.trial import Trial

SPACE: dict[str, Any] = {
    "lora.rank": [4, 8],
    "lora.dropout": {"low": 0.0, "high": 0.2},
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}


def plan(**changes: Any) -> SweepPlan:
    values = {"preset": "v2", "space": SPACE, "trials": 12, "pruner": "none", **changes}
    return plan_from(values, "test")


def ended(number: int, params: dict[str, Any], value: float, *losses: float) -> Trial:
    curve = [[float(step), loss] for step, loss in enumerate(losses or (value,), 1)]
    known: dict[str, Any] = {"state": State.COMPLETED, "value": value, "curves": [curve]}
    return Trial(number, params, jobs=[f"job{number}"], **known)


def played(
    folder: Path,
    wanted: SweepPlan,
    count: int,
    *,
    reopened: bool,
    setting: str = "learning_rate",
) -> tuple[Study, list[Trial]]:
    """Play some trials whose value follows from one setting; return study and trials."""
    folder.mkdir(exist_ok=True)
    trials: list[Trial] = []
    study = Study(folder / "study.db", "night", wanted, trials)
    for number in range(count):
        if reopened:
            study = Study(folder / "study.db", "night", wanted, trials)
        params = study.ask(number)
        assert params is not None
        trial = ended(number, params, abs(float(params[setting] or 0) - 1e-2))
        study.report(number, [loss for _, loss in trial.curves[0]])
        study.tell(trial)
        study.tell(trial)
        trials.append(trial)
    return study, trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_is_asked_depends_on_what_was_told_and_not_on_who_asks(
    tmp_path: Path, sampler: str
) -> None:
    runs = []
    for reopened in (False, True):
        folder = tmp_path / str(reopened)
        folder.mkdir()
        runs.append(played(folder, plan(sampler=sampler), 5, reopened=reopened)[1])
    assert runs[0] == runs[1]
    drawn = [trial.params["learning_rate"] for trial in runs[0]]
    assert len(set(drawn)) == 5
    assert all(1e-4 <= rate <= 1e-1 for rate in drawn)


def test_another_seed_tries_something_else(tmp_path: Path) -> None:
    first = Study(tmp_path / "a.db", "night", plan(), []).ask(0)
    again = Study(tmp_path / "b.db", "night", plan(), []).ask(0)
    other = Study(tmp_path / "c.db", "night", plan(seed=1), []).ask(0)
    assert first == again != other


def test_a_grid_is_walked_once_and_what_is_warm_is_used_up_first(tmp_path: Path) -> None:
    space = {"lora.rank": [4, 8], "lora.num_layers": [4, 8]}
    study = Study(tmp_path / "s.db", "night", plan(space=space, sampler="grid"), [])
    points = [study.ask(number) for number in range(5)]
    found = [tuple(point.values()) if point else None for point in points]
    assert [sorted(point or {}) for point in points[:4]] == [sorted(space)] * 4
    assert len(set(found)) == 5
    assert points[4] is None
    assert [point["lora.num_layers"] for point in points[:4] if point] == [4, 4, 8, 8]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_nothing_is_tried_twice(tmp_path: Path, sampler: str) -> None:
    space = {"lora.rank": [4, 6, 8], "learning_rate": [1e-4, 1e-2]}
    wanted = plan(space=space, sampler=sampler)
    assert wanted.most_trials == 6
    study, trials = played(tmp_path, wanted, 6, reopened=False)
    assert len({tuple(trial.params.values()) for trial in trials}) == 6
    assert study.ask(6) is None
    again, _ = played(tmp_path / "again", wanted, 6, reopened=True)
    assert [trial.params for trial in trials] == [dict(t.params) for t in again._known()]


def test_a_value_of_a_range_with_a_step_is_one_however_it_is_computed(tmp_path: Path) -> None:
    space = {"lora.dropout": {"low": 0.05, "high": 0.08, "step": 0.01}}
    wanted = plan(space=space, sampler="random")
    _, trials = played(tmp_path, wanted, 4, reopened=True, setting="lora.dropout")
    drawn = [settings_of(wanted.space, trial.params)["lora.dropout"] for trial in trials]
    assert sorted(drawn) == [0.05, 0.06, 0.07, 0.08]


@pytest.mark.parametrize(
    ("objective", "loss", "pruned"),
    [("val_loss", 9.0, True), ("val_loss", 0.1, False), ("token_f1", 9.0, True),
     ("token_f1", 0.1, False)],
)  # fmt: skip
def test_the_median_pruner_ends_what_is_worse_whatever_the_objective(
    tmp_path: Path, objective: str, loss: float, pruned: bool
) -> None:
    wanted = plan(
        objective=objective,
        pruner={"kind": "median", "startup_trials": 2, "warmup_validations": 0},
    )
    study = Study(tmp_path / "s.db", "night", wanted, [])
    for number, value in enumerate((1.0, 2.0, 3.0)):
        params = study.ask(number)
        study.report(number, [value, value])
        study.tell(ended(number, params or {}, value))
    study.ask(3)
    assert not study.should_prune(3)
    study.report(3, [loss])
    assert study.should_prune(3) is pruned


def test_hyperband_ends_some_of_many(tmp_path: Path) -> None:
    wanted = plan(pruner={"kind": "hyperband", "min_validations": 1, "reduction_factor": 2})
    study = Study(tmp_path / "s.db", "night", wanted, [])
    ends = []
    for number in range(12):
        params = study.ask(number)
        for validation in range(1, 9):
            study.report(number, [float(number + 1)] * validation)
            if study.should_prune(number):
                break
        ends.append(validation)
        value = float(number + 1)
        trial = ended(number, params or {}, value)
        if validation < 8:
            trial = replace(trial, state=State.EARLY_STOPPED, pruned_by="hyperband")
        study.tell(trial)
    assert ends[0] == 8
    assert min(ends) < 8


def test_importances_name_what_the_value_follows_from(tmp_path: Path) -> None:
    study, _ = played(tmp_path, plan(sampler="random"), 3, reopened=False)
    assert study.importances() == {}
    other = tmp_path / "more"
    other.mkdir()
    study, _ = played(other, plan(sampler="random"), 12, reopened=False)
    found = study.importances()
    assert max(found, key=lambda name: found[name]) == "learning_rate"
    assert sum(found.values()) == pytest.approx(1.0)


def test_of_few_trials_too_what_explains_most_is_named_first(tmp_path: Path) -> None:
    space = {"lora.rank": [4, 5, 6], "learning_rate": [1e-3, 5e-4]}
    study = Study(tmp_path / "s.db", "night", plan(space=space, sampler="grid"), [])
    for number in range(6):
        params = study.ask(number) or {}
        rate, rank = float(params["learning_rate"] or 0), int(params["lora.rank"] or 0)
        study.tell(ended(number, params, 3.5 - 500 * rate - 0.03 * rank))
    found = study.importances()
    assert found["learning_rate"] > 0.7


def test_a_study_that_says_something_else_is_made_again(tmp_path: Path) -> None:
    _, trials = played(tmp_path, plan(), 3, reopened=False)
    changed = [replace(trials[0], params={**trials[0].params, "lora.rank": 4}), *trials[1:]]
    for known in (trials[:2], [*changed[:1], *trials[1:]], [*trials, *trials[:0]]):
        study = Study(tmp_path / "study.db", "night", plan(), known)
        assert [dict(t.params) for t in study._study.get_trials()] == [t.params for t in known]
        assert [t.value for t in study._study.get_trials()] == [t.value for t in known]


def test_nothing_of_it_is_loaded_into_a_daemon_or_its_clients() -> None:
    program = (
        "import sys, daemon.worker.consumer, daemon.client, daemon.sweep.view, daemon.sweep.start\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert "redis" in done.stdout
    assert "optuna" not in done.stdout
    assert "sqlalchemy" not in done.stdout
