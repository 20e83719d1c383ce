"""When a child is to stop for a rest."""

from __future__ import annotations

from datetime import datetime

from daemon.night.rest import LOOK_SECONDS, RestWatch, has_stepped, resting
from daemon.night.settings import Rest
from jobs.events import Envelope, EvaluationStarted, Event, Progress, Started

REST = Rest(after_minutes=60, minutes=2)
HOUR = 3600.0


def log(*events: Event, attempt: int = 1) -> list[Envelope]:
    return [Envelope(event, "x", attempt, "2026-11-24T21:00:00+00:00") for event in events]


def started(step: int) -> Started:
    return Started(1, "p", "m", "none", 20, 20, 1, 4, 8, 4, 100, {}, resumed_step=step)


def progress(step: int) -> Progress:
    return Progress(step, 20, 1, 1.0, 1.0)


def test_a_rest_is_due_after_its_time_and_stays_so() -> None:
    watch = RestWatch(REST, 100.0, lambda: True)
    looks = (100.0, 100.0 + HOUR - 1, 100.0 + HOUR, 100.0 + HOUR)
    assert [watch.due(now) for now in looks] == [False, False, True, True]
    assert not RestWatch(None, 0.0, lambda: True).due(1e9)


def test_a_child_that_has_not_come_further_goes_on_until_it_has() -> None:
    looked: list[bool] = []

    def stepped() -> bool:
        looked.append(True)
        return len(looked) == 3

    watch = RestWatch(REST, 0.0, stepped)
    assert [watch.due(HOUR + 0.01 * step) for step in range(100)] == [False] * 100
    assert len(looked) == 1
    assert not watch.due(HOUR + LOOK_SECONDS)
    assert watch.due(HOUR + 3 * LOOK_SECONDS)


def test_further_is_a_step_beyond_the_one_it_began_from() -> None:
    before = log(started(0), progress(9))
    assert has_stepped(before, 1)
    assert not has_stepped(before, 2)
    assert not has_stepped(before + log(started(8), progress(8), attempt=2), 2)
    assert has_stepped(before + log(started(8), progress(9), attempt=2), 2)
    began = EvaluationStarted(1, "p", "x", "m", "none", 10, 20, 4, 100, 4)
    assert not has_stepped(log(began, progress(4)), 1)
    assert has_stepped(log(began, progress(5)), 1)


def test_a_person_is_told_until_when() -> None:
    assert resting(REST, datetime(2026, 11, 24, 2, 12).astimezone()) == "resting until 02:14"
