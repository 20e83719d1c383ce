"""The page about a sweep, in a real browser: of whole sweeps and of ones that came to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import Workspace
from jobs.report.sweep_data import Swept, swept
from jobs.report.sweep_page import sweep_report_of
from jobs.state import State
from jobs.storage.files import write_atomic
from jobs.sweep.trial import Trial
from tests.helpers.browser import DESKTOP, PHONE, Browser, browser
from tests.helpers.made_up_sweep import SWEEP, every_kind, made_up, trial
from tests.helpers.past_runs import FIRST
from tests.jobs.report.test_page import MARKUP

MADE_AT = "2026-11-26T07:00:00+00:00"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def page_of(folder: Path, found: Swept) -> Path:
    """Write the report on a sweep."""
    path = folder / "report.html"
    write_atomic(path, sweep_report_of(found, MADE_AT).html)
    return path


def text_of(chromium: Browser, page: Path, **window: Any) -> str:
    """Return what a page says, in which the browser finds no fault."""
    with chromium.open(page, **window) as seen:
        assert seen.faults() == {}
        return seen.page.inner_text("body")


def evaluated(past: Workspace, trials: Sequence[Trial]) -> Swept:
    """Return a sweep whose best trial was trained and evaluated by a real job."""
    real = [replace(one, jobs=[FIRST]) if one.number == 2 else one for one in trials]
    bare = made_up(real, importances={"lora.rank": 0.25, "learning_rate": 0.75})
    return swept(past, bare.spec, bare.state, bare.trials)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_sweep_is_shown_without_a_fault_in_light_and_dark(
    past: Workspace, chromium: Browser, size: tuple[int, int]
) -> None:
    found = evaluated(past, every_kind())
    page = page_of(past.root, found)
    assert page.stat().st_size < 2_000_000
    text = chromium.in_both_looks(page, size=size, pictures=5)
    run = found.best_run
    assert run is not None
    for told in (
        *(f"Sweep {SWEEP}", "completed", "preset tiny", "sampler TPE, pruner median", "1.2500"),
        *("6 of 12", "3 complete, 1 pruned, 2 failed or cancelled, 2 under way", "3h 05m"),
        *("the loss became NaN at step 6", "early_stopped", "learning_rate 75%"),
        *(FIRST, "EXCELENTE", "Token F1", "golos (4 questions)", "The worst answers first"),
        f"{run.run.summary['best_gap']:.3f}",
        run.run.answers[0]["answer"],
    ):
        assert told in text
    assert "The files of the jobs of 5 trials are not in this workspace" in text


@pytest.mark.parametrize(
    ("trials", "state", "told"),
    [
        ([], {}, ["No trial has been started yet", "none yet"]),
        (
            [trial(0, state=State.RUNNING, curves=[[[3, 2.0]]], step=3)],
            {"state": State.RUNNING},
            ["still under way", "9h 00m", "so far", "No trial has a result yet", "3 of 6"],
        ),
        ([trial(0, 1.5)], {}, ["1 of 12", "too few (1)", "1.5000"]),
        (
            [trial(n, state=State.FAILED, reason="out of memory", curves=[]) for n in range(3)],
            {"state": State.FAILED, "reason": "3 trials in a row failed"},
            ["3 trials in a row failed", "out of memory", "3 failed or cancelled"],
        ),
        (
            [trial(0, float("nan"), curves=[[[3, float("nan")]]])],
            {"state": State.PAUSED, "reason": "stopped by the user"},
            ["stopped by the user", "no finite value", "NaN or infinite losses: 1"],
        ),
    ],
    ids=["none", "running", "one", "all-failed", "nan"],
)
def test_a_sweep_that_has_little_to_show_says_so(
    tmp_path: Path, chromium: Browser, trials: list[Trial], state: dict[str, Any], told: list[str]
) -> None:
    text = text_of(chromium, page_of(tmp_path, made_up(trials, **state)), size=PHONE)
    for words in told:
        assert words in text


def test_many_trials_are_folded_away_and_markup_is_not_obeyed(
    tmp_path: Path, chromium: Browser
) -> None:
    many = [trial(n, 1.0 + n / 10, jobs=[MARKUP], pruned_by=MARKUP) for n in range(30)]
    plan = {"description": MARKUP, "set": {"prompt_format": "farense"}}
    found = made_up([*many, trial(30, state=State.FAILED, reason=MARKUP)], plan, reason=MARKUP)
    page = page_of(tmp_path, found)
    with chromium.open(page, scheme="dark") as seen:
        assert seen.page.get_by_text("5 more", exact=True).is_visible()
        assert seen.faults() == {}
        assert "obeyed" not in seen.page.title()
        assert seen.page.get_by_text(MARKUP.replace("\u202e", "?"), exact=False).count() >= 60
