"""`farense sweep`: starting, looking, and what is said of what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import Any

import pytest
import yaml

from cli.show.sweep_live import ended_line
from daemon.client import FarenseClient
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State
from jobs.sweep.folder import (
    find_sweep,
    read_sweep,
    read_sweep_state,
    read_trials,
    write_sweep,
    write_sweep_state,
    write_trial,
)
from jobs.sweep.paths import SweepFolder
from jobs.sweep.trial import Trial
from tests.cli.conftest import Run
from tests.helpers.sweeps import PLAN


@pytest.fixture
def file(workspace: Workspace, preset: Preset) -> str:
    """A sweep file, as a user names it."""
    assert preset.name == "tiny"
    return plan_file(workspace)


def plan_file(workspace: Workspace, **changes: Any) -> str:
    path = workspace.configs / "sweeps" / "night.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
    return "configs/sweeps/night.yaml"


@pytest.fixture
def night(workspace: Workspace, file: str, invoke: Run) -> SweepFolder:
    """A sweep with trials of every kind."""
    assert invoke("sweep", file).code == 0
    folder = find_sweep(workspace)
    kinds: list[dict[str, Any]] = [
        {"value": 2.5, "curves": [[[3, 3.0], [6, 2.5]]], "state": State.COMPLETED},
        {"value": 1.25, "curves": [[[3, 1.5], [6, 1.25]]], "state": State.COMPLETED},
        {"value": 3.5, "state": State.EARLY_STOPPED, "pruned_by": "median"},
        {"state": State.FAILED, "reason": "the loss became NaN at step 6"},
        {"state": State.RUNNING, "step": 3, "curves": [[[3, 2.0]]]},
    ]
    for number, kind in enumerate(kinds):
        settings = {"lora.rank": 4, "learning_rate": 0.00123456}
        job = f"20260101-00000{number}-tiny-aaaa"
        known = {"settings": settings, "jobs": [job], "total_steps": 12, "seconds": 60.0, **kind}
        write_trial(folder, Trial(number, settings, **known))
    return folder


def test_a_sweep_in_which_no_trial_has_learned_has_no_best(
    workspace: Workspace, file: str, invoke: Run
) -> None:
    assert invoke("sweep", file).code == 0
    folder = find_sweep(workspace)
    known: dict[str, Any] = {"jobs": ["20260101-000000-tiny-aaaa"], "state": State.COMPLETED}
    ruined = Trial(0, {}, {}, value=10.84, curves=[[[6, 10.84]]], baseline_val_loss=5.38, **known)
    write_trial(folder, ruined)
    shown = invoke("sweep", "status").out
    assert "completed, SEM APRENDIZAGEM" in shown
    done = invoke("sweep", "best")
    assert done.code == 1
    assert "No trial of" in done.err
    assert "has learned" in done.err
    assert "learning_rate" in done.err
    write_trial(folder, replace(ruined, number=1, value=12.0, curves=[[[6, 2.0]]]))
    assert json.loads(invoke("sweep", "best", "--json").out)["trial"] == 1
    values = json.loads(invoke("sweep", "status", "--json").out)
    assert [trial["learned"] for trial in values["trials"]] == [False, True]
    assert values["leaderboard"] == [1, 0]


def test_a_sweep_is_started_and_says_what_it_will_do(
    workspace: Workspace, file: str, invoke: Run
) -> None:
    done = invoke("sweep", file, "--trials", "3", "--until", "23:59", "--name", "tonight")
    assert done.code == 0, done.err
    folder = find_sweep(workspace)
    assert f"Started {folder.id}" in done.out
    assert re.search(r"at most 3 trials, until \d{4}-\d\d-\d\d 23:59 of", done.out)
    assert "searches lora.rank, learning_rate; the best by val_loss" in done.out
    assert "farense daemon" in done.err
    spec = read_sweep(folder)
    assert spec.name == "tonight"
    assert spec.base.data.train.startswith("data/imported/")


def test_run_may_be_said_or_left_out(file: str, invoke: Run) -> None:
    said = json.loads(invoke("sweep", "run", file, "--json").out)
    left_out = json.loads(invoke("sweep", file, "--json").out)
    assert said["state"] == left_out["state"] == "running"
    assert said["planned_trials"] == PLAN["trials"]
    assert said["trials"] == said["leaderboard"] == []
    ids = {found["id"] for found in json.loads(invoke("sweep", "list", "--json").out)}
    assert ids == {said["id"], left_out["id"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep", "--trials", "3", "night.yaml"), "There is no sweep file night.yaml"),
        (("sweep", "statsu"), "Did you mean status?"),
        (("sweep", "overnight"), "Try: farense sweep configs/sweeps/overnight.yaml"),
        (("sweep", "configs/sweeps/none.yaml"), "There is no sweep file configs/sweeps/none.yaml"),
        (("sweep", "night.yaml"), "Did you mean configs/sweeps/night.yaml?"),
        (("sweep", "configs/sweeps/night.yaml", "--trials", "0"), "1<=x<=10000"),
        (("sweep", "configs/sweeps/night.yaml", "--until", "25:00"), "is not a time"),
        (("sweep", "configs/sweeps/night.yaml", "--watch", "--json"), "use farense sweep status"),
        (("sweep", "status", "nothing"), "There is no sweep in this workspace."),
        (("sweep", "best"), "Start one: farense sweep configs/sweeps/"),
        (("sweep", "stop"), "There is no sweep in this workspace."),
        (("sweep", "status", "--trials", "3"), "No such option"),
    ],
)
def test_what_is_mistyped_gets_an_answer(
    file: str, invoke: Run, arguments: tuple[str, ...], words: str
) -> None:
    assert file
    done = invoke(*arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_file_that_is_wrong_leaves_nothing_behind(
    workspace: Workspace, file: str, invoke: Run
) -> None:
    assert file
    for changes in (
        {"space": {"lora.rank": [0]}},
        {"trials": None},
        {"set": {"model": "models/none"}},
        {"set": {"data.train": "data/none.jsonl"}},
        {"space": {"lora.keys": [["q_proj"], ["no_proj"]]}},
    ):
        done = invoke("sweep", plan_file(workspace, **changes))
        assert done.code == 2, changes
    assert invoke("sweep", "list").out == ""


def test_status_shows_who_leads_what_failed_and_what_runs(night: SweepFolder, invoke: Run) -> None:
    done = invoke("sweep", "status")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == f"{night.id}  running"
    assert "4 of 5 trials ended, 1 pruned, 1 failed, about" in lines[1]
    board = lines[lines.index("Leaderboard") + 1 :][:4]
    assert board[0].split() == ["TRIAL", "VAL", "LOSS", "STATE", "STEP", "RANK", "LR", "JOB"]
    assert [line.split()[0] for line in board[1:]] == ["1", "0", "2"]
    assert "1.2500  completed" in board[1]
    assert "early_stopped (median)" in board[3]
    running = lines[lines.index("Under way") + 2]
    assert running.split()[:4] == ["4", "2.0000", "running", "3/12"]
    assert "3  failed: the loss became NaN at step 6" in done.out
    assert "farense daemon" in done.err


def test_status_as_json_holds_everything_a_report_needs(night: SweepFolder, invoke: Run) -> None:
    found = json.loads(invoke("sweep", "status", night.id[-4:], "--json").out)
    assert found["leaderboard"] == [1, 0, 2]
    assert found["trials"][0]["curves"] == [[[3, 3.0], [6, 2.5]]]
    assert [trial["pruned"] for trial in found["trials"]] == [False, False, True, False, False]
    assert found["trials"][1]["settings"]["lora.rank"] == 4
    assert {"importances", "evaluation", "best", "until", "seconds_left"} <= found.keys()


def test_the_best_is_shown_with_its_adapter(night: SweepFolder, invoke: Run) -> None:
    shown = invoke("sweep", "best").out
    assert "learning_rate  0.00123456" in shown
    assert "checkpoints_qlora/20260101-000001-tiny-aaaa/adapters" in shown
    found = json.loads(invoke("sweep", "best", "--json").out)
    assert (found["trial"], found["value"]) == (1, 1.25)
    for path in night.trials.iterdir():
        path.unlink()
    done = invoke("sweep", "best")
    assert done.code == 1
    assert "has a result yet" in done.err


def test_a_sweep_rests_and_goes_on(night: SweepFolder, client: FarenseClient, farense: Run) -> None:
    assert client.jobs() == []
    for trial in read_trials(night):
        night.trial(trial.number).unlink()
    done = farense("sweep", "stop")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{night.id} is paused: stopped by the user")
    found = json.loads(farense("sweep", "resume", "--until", "23:59", "--json").out)
    assert (found["state"], found["reason"]) == ("running", None)
    assert found["until"] is not None


@pytest.mark.parametrize(
    ("trial", "line"),
    [
        (
            Trial(1, {}, {"lora.rank": 4}, State.COMPLETED, value=1.5),
            "trial 1: 1.5000, completed (lora.rank 4)",
        ),
        (
            Trial(2, {}, {"lora.rank": 4}, State.EARLY_STOPPED, value=1.5, pruned_by="time"),
            "trial 2: 1.5000, early_stopped, pruned by time (lora.rank 4)",
        ),
        (
            Trial(3, {}, {"lora.rank": 4}, State.FAILED, reason="no memory"),
            "trial 3: -, failed: no memory (lora.rank 4)",
        ),
    ],
)
def test_what_ended_is_told_in_a_line(trial: Trial, line: str) -> None:
    assert ended_line(trial) == line


def test_a_narrow_terminal_is_kept_to(night: SweepFolder, farense: Run) -> None:
    lines = farense("sweep", "status", night.id, COLUMNS="60").out.splitlines()
    assert max(len(line) for line in lines if "tiny-aaaa" in line or "…" in line) <= 60


def test_the_list_has_a_line_for_each(night: SweepFolder, invoke: Run) -> None:
    heading, line = invoke("sweep", "list").out.splitlines()
    assert heading.split() == ["SWEEP", "STATE", "TRIALS", "BEST", "OBJECTIVE"]
    assert line.split() == [night.id, "waits", "4", "of", "5", "1.2500", "val_loss"]


@pytest.mark.usefixtures("client")
def test_latest_is_the_newest_sweep_that_a_command_can_use(
    invoke: Run, workspace: Workspace, night: SweepFolder
) -> None:
    newer = SweepFolder(night.path.parent / "20991231-235959-night-zzzz")
    shutil.copytree(night.path, newer.path)
    for trial in read_trials(newer):
        newer.trial(trial.number).unlink()
    write_sweep(newer, replace(read_sweep(night), id=newer.id))
    assert find_sweep(workspace).id == newer.id
    said = f"`latest` is {night.id} here: {newer.id} is newer, but"

    assert json.loads(invoke("sweep", "status", "--json").out)["id"] == newer.id
    best = invoke("sweep", "best", "--json")
    assert (json.loads(best.out)["trial"], best.err) == (1, f"{said} has no best trial.\n")
    assert invoke("sweep", "stop").out.startswith(f"{newer.id} is paused")
    older = invoke("sweep", "stop")
    assert older.out.startswith(f"{night.id} is paused")
    assert f"{said} does not run." in older.err
    assert invoke("sweep", "resume").out == f"{newer.id} is running\n"
    assert invoke("sweep", "resume").out == f"{night.id} is running\n"
    ended = replace(read_sweep_state(newer), state=State.COMPLETED)
    write_sweep_state(newer, ended)
    assert invoke("sweep", "stop").out.startswith(f"{night.id} is paused")
    again = invoke("sweep", "stop")
    assert again.code == 2
    assert f"{newer.id} cannot be stopped: it is completed" in again.err
