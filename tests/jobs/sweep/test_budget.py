"""The arithmetic of a sweep's time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.state import State
from jobs.sweep.budget import (
    ENDING_SECONDS,
    LONGEST_EVALUATION,
    Budget,
    seconds_left,
    trial_seconds,
)
from jobs.sweep.trial import Trial

BEGAN = datetime(2026, 1, 1, 22, tzinfo=UTC)


def budget(hours: float | None, evaluation: float | None = None) -> Budget:
    until = None if hours is None else BEGAN + timedelta(hours=hours)
    return Budget(BEGAN, until, evaluation)


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def trial(seconds: float, **values: Any) -> Trial:
    known = {"state": State.COMPLETED, "value": 1.0, "step": 100, "total_steps": 100, **values}
    return Trial(0, {}, seconds=seconds, jobs=["j"], **known)


@pytest.mark.parametrize(
    ("hours", "evaluation", "reserve"),
    [
        (None, None, 0.0),
        (None, 60.0, 0.0),
        (1, None, 360.0),
        (9, None, LONGEST_EVALUATION),
        (9, 100.0, 150.0),
        (1, 0.0, 0.0),
    ],
)
def test_what_is_kept_for_the_evaluation(
    hours: float | None, evaluation: float | None, reserve: float
) -> None:
    assert budget(hours, evaluation).reserve == reserve


def test_without_an_end_everything_may_be_started() -> None:
    found = budget(None)
    assert found.left(after(1e9)) is None
    assert found.allows(1e9, after(1e9))
    assert not found.is_over(after(1e9))


@pytest.mark.parametrize(
    ("seconds", "now", "allowed"),
    [
        (None, 0, True),
        (None, 3600 - 100 - ENDING_SECONDS - 1, True),
        (None, 3600 - 100 - ENDING_SECONDS, False),
        (600, 0, True),
        (600, 3600 - 100 - ENDING_SECONDS - 601, True),
        (600, 3600 - 100 - ENDING_SECONDS - 600, False),
        (600, 3600, False),
        (0, 7200, False),
    ],
)
def test_only_what_can_end_in_time_is_started(
    seconds: float | None, now: float, allowed: bool
) -> None:
    found = budget(1, 100 / 1.5)
    assert found.allows(seconds, after(now)) is allowed


def test_trials_have_to_end_before_the_evaluation_begins() -> None:
    found = budget(1, 100 / 1.5)
    last = 3600 - 100 - ENDING_SECONDS
    assert found.trained_by == after(last)
    assert not found.is_over(after(last - 1))
    assert found.is_over(after(last))


@pytest.mark.parametrize(
    ("trials", "seconds"),
    [
        ([], None),
        ([trial(0.0)], None),
        ([trial(100.0), trial(300.0), trial(200.0)], 200.0),
        # One that came to its own end tells more than what others would have taken.
        ([trial(100.0), trial(90.0, pruned_by="median", step=10)], 100.0),
        ([trial(100.0), trial(9.0, state=State.FAILED, value=None)], 100.0),
        ([trial(30.0, state=State.RUNNING, value=None, step=25)], 120.0),
        ([trial(30.0, pruned_by="median", step=50)], 60.0),
        ([trial(30.0, state=State.RUNNING, value=None, step=0)], None),
        ([trial(30.0, state=State.RUNNING, value=None, total_steps=None)], None),
    ],
)
def test_what_a_trial_takes(trials: list[Trial], seconds: float | None) -> None:
    assert trial_seconds(trials) == seconds


@pytest.mark.parametrize(
    ("trials", "planned", "workers", "hours", "left"),
    [
        ([], 4, 1, None, None),
        ([], 4, 1, 1, 3600.0),
        ([trial(100.0)], None, 1, None, None),
        ([trial(100.0)], None, 1, 2, 7200.0),
        ([trial(100.0)], 4, 1, None, 300.0),
        ([trial(100.0)], 4, 2, None, 150.0),
        ([trial(100.0)], 4, 0, None, 300.0),
        ([trial(100.0), trial(25.0, state=State.RUNNING, step=25)], 4, 1, None, 275.0),
        ([trial(100.0)], 4_000, 1, 1, 3600.0),
        ([trial(100.0)], 1, 1, None, 0.0),
    ],
)
def test_the_time_left(
    trials: list[Trial],
    planned: int | None,
    workers: int,
    hours: float | None,
    left: float | None,
) -> None:
    assert seconds_left(trials, planned, workers, budget(hours), BEGAN) == left
