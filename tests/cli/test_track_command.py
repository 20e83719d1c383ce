"""`farense track`: a run that has ended, or still runs, sent to trackers by hand."""

from __future__ import annotations

import json

import pytest

from daemon.track.kinds import Tracker
from jobs.paths import Workspace
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json
from tests.cli.conftest import Run
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.tracked import curves_of, read_back, trackers_installed


def test_an_older_run_is_sent_once_with_its_evaluation(past: Workspace, invoke: Run) -> None:
    trackers_installed()
    done = invoke("track", FIRST, "--to", "tensorboard", "--json")
    assert done.code == 0, done.err
    (sent,) = json.loads(done.out)
    curves, rest = read_back("tensorboard", past, FIRST)
    assert (sent["rows"], sent["why"]) == (len(curves), "")
    assert curves == curves_of(past.run(FIRST), "tensorboard")
    report = read_json(past.run(FIRST).evaluation_report)
    assert rest["evaluation/token_f1"] == pytest.approx(report["token_f1"])
    assert rest["evaluation/base_token_f1"] == pytest.approx(
        report["base"]["scores"]["token_f1"]["mean"]
    )
    again = invoke("track", FIRST, "--to", "tensorboard")
    assert again.code == 0
    assert f"tensorboard --logdir {past.logs / 'tensorboard'}" in again.out
    assert read_back("tensorboard", past, FIRST) == (curves, rest)


def test_of_a_job_that_has_not_ended_go_the_rows_of_a_checkpoint(
    past: Workspace, invoke: Run
) -> None:
    trackers_installed()
    run = past.run(SECOND)
    write_state(run, type(read_state(run))(State.PAUSED, attempt=1))
    done = invoke("track", SECOND, "--to", "tensorboard")
    assert done.code == 0, done.err
    assert "what a checkpoint covers is sent" in done.err
    covered = run.newest_checkpoint_step()
    assert covered is not None
    steps = read_back("tensorboard", past, SECOND)[0]
    assert max(steps) <= covered
    assert set(steps) < set(curves_of(run, "tensorboard")) or max(steps) == covered


def test_a_config_that_names_no_tracker_wants_one(past: Workspace, invoke: Run) -> None:
    done = invoke("track", FIRST)
    assert done.code == 2
    assert f"farense track {FIRST} --to tensorboard" in done.err


def test_a_library_that_is_missing_is_named_with_what_installs_it(
    past: Workspace, invoke: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracker, "installed", False)
    done = invoke("track", FIRST, "--to", "wandb", "--to", "mlflow")
    assert done.code == 2
    assert "wandb, mlflow are not installed here" in done.err
    assert "make trackers" in done.err


def test_a_mistyped_tracker_is_refused(past: Workspace, invoke: Run) -> None:
    done = invoke("track", FIRST, "--to", "tensorbord")
    assert done.code == 2
    assert "tensorboard" in done.err
