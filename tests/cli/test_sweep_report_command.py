"""`farense sweep report`: where it writes, what it prints, and that it needs nothing running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.sweep.folder import find_sweep, write_trial
from jobs.sweep.paths import SweepFolder
from tests.cli.conftest import Run
from tests.cli.test_sweep_command import plan_file
from tests.helpers.made_up_sweep import every_kind
from tests.helpers.waiting import wait_until


@pytest.fixture
def night(workspace: Workspace, preset: Preset, invoke: Run) -> SweepFolder:
    """A sweep with trials of every kind."""
    assert preset.name == "tiny"
    assert invoke("sweep", plan_file(workspace)).code == 0
    folder = find_sweep(workspace)
    for trial in every_kind():
        write_trial(folder, trial)
    return folder


def test_the_page_goes_to_the_folder_of_the_sweep_and_opens(
    night: SweepFolder, farense: Run, tmp_path: Path
) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    done = farense("sweep", "report", "--open", BROWSER=f"{browser} %s")
    assert (done.code, done.out) == (0, f"{night.report}\n"), done.err
    address = wait_until(lambda: opened.exists() and opened.read_text().strip(), "the browser")
    assert address == night.report.resolve().as_uri()
    assert "the loss became NaN at step 6" in night.report.read_text()
    assert {path.stem for path in night.plots.iterdir()} == {
        "learning_curves",
        "parallel_coordinates",
    }


def test_json_names_what_was_written(workspace: Workspace, night: SweepFolder, invoke: Run) -> None:
    page = Path("pages") / "night.html"
    (workspace.root / page.parent).mkdir()
    done = invoke("sweep", "report", night.id[-4:], "--output", str(page), "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["sweep"], told["report"]) == (night.id, str(page))
    assert (told["best"], told["best_job"]) == (2, "20261125-220002-night-aaaa")
    assert told["bytes"] == (workspace.root / page).stat().st_size
    assert [str(Path(path).parent) for path in told["plots"]] == ["pages/night_plots"] * 2
    assert "are not in this workspace" in told["missing"][0]
    assert not night.report.exists()
    assert not list(workspace.private.glob("*.sock"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "there is no such sweep"),
        (["--output", "data"], "data is a folder"),
        (["latest", "more"], "unexpected extra argument"),
    ],
)
def test_what_cannot_be_reported_says_why(
    night: SweepFolder, invoke: Run, arguments: list[str], words: str
) -> None:
    done = invoke("sweep", "report", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not night.report.exists()
