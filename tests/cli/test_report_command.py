"""`farense report`: where it writes, what it takes, and that it needs nothing running."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.paths import Workspace
from tests.cli.conftest import Run
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.waiting import wait_until

EVALUATION = "20261122-230000-eval_tiny-aaaa"


def test_one_job_goes_to_its_folder_and_starts_no_server(past: Workspace, invoke: Run) -> None:
    done = invoke("report", "second", "--json")
    assert done.code == 0, done.err
    run = past.run(SECOND)
    told = json.loads(done.out)
    assert told["report"] == str(run.report)
    assert told["bytes"] == run.report.stat().st_size
    assert told["runs"] == [SECOND]
    assert told["missing"] == {SECOND: []}
    plots = {str(p) for folder in (run.plots, run.evaluation) for p in folder.glob("*.png")}
    assert len(plots) == 8
    assert set(told["plots"]) == plots
    assert not list(past.private.glob("*.sock"))


def test_an_evaluation_stands_for_the_training_that_it_evaluates(
    past: Workspace, invoke: Run
) -> None:
    done = invoke("report", EVALUATION, "--output", "page.html")
    assert (done.code, done.out) == (0, "page.html\n")
    assert f"{EVALUATION} evaluates {FIRST}" in done.err
    assert FIRST in (past.root / "page.html").read_text()


def test_several_go_to_output_and_an_older_folder_stays_as_it_is(
    past: Workspace, invoke: Run
) -> None:
    old = past.root / "old_runs" / "v1"
    old.mkdir(parents=True)
    shutil.copy(past.run(FIRST).metrics_json, old)
    done = invoke("report", "old_runs/v1", "latest")
    page = past.root / "output" / "report-v1-bbbb.html"
    assert (done.code, done.out) == (0, f"{page}\n")
    assert (page.with_name("report-v1-bbbb_plots") / "validation_loss.png").is_file()
    assert not past.run(SECOND).report.exists()
    # Both are there to be handed on, as any file that this person makes; a job's own page is not.
    (past.root / "mine").touch()
    mode = (past.root / "mine").stat().st_mode
    assert {path.stat().st_mode for path in page.parent.rglob("*") if path.is_file()} == {mode}
    alone = invoke("report", str(old))
    assert alone.out == f"{past.root / 'output' / 'report-v1.html'}\n"
    assert [path.name for path in old.iterdir()] == ["training_metrics.json"]
    # The folder of a job is that job.
    named = invoke("report", f"checkpoints_qlora/{FIRST}")
    assert named.out == f"{past.run(FIRST).report}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing argument 'JOB...'"),
        (["nothing"], "nothing"),
        (["./data"], "does not look like a run"),
        (["models"], "does not look like a run"),
        (["./nowhere"], "There is no folder"),
        (["first", "--output", "data"], "data is a folder"),
        (["latest", "latest"], f"{SECOND} is named twice"),
        (["latest", "first", f"checkpoints_qlora/{SECOND}"], f"{SECOND} is named twice"),
        (["first"] * 13, "13 jobs are too many"),
    ],
)
def test_what_cannot_be_reported_says_why(
    past: Workspace, invoke: Run, arguments: list[str], told: str
) -> None:
    done = invoke("report", *arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_it_opens_in_the_browser(past: Workspace, farense: Run, tmp_path: Path) -> None:
    shutil.rmtree(past.run(FIRST).evaluation)
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    done = farense("report", "first", "--open", BROWSER=f"{browser} %s")
    assert done.code == 0, done.err
    address = wait_until(lambda: opened.exists() and opened.read_text().strip(), "the browser")
    assert address == past.run(FIRST).report.resolve().as_uri()
