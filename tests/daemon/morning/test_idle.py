"""When nothing ran, and why not, from lines of the daemon's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from daemon.morning.daemon_log import LogEntry
from daemon.morning.idle import (
    LOST_DAEMON,
    NO_DAEMON,
    NOTHING_READY,
    QUEUE_AWAY,
    Timeline,
    timeline,
)
from tests.helpers.made_up_night import said

EVENING = datetime(2026, 11, 27, 22, 0, tzinfo=UTC)
MORNING = EVENING + timedelta(hours=9)
OUTSIDE = "outside the window 23:00-06:00"


def at(hours: float) -> datetime:
    return EVENING + timedelta(hours=hours)


def seen(*entries: LogEntry, runs: bool = True, heard: datetime | None = None) -> Timeline:
    return timeline(entries, EVENING, MORNING, runs=runs, heard=lambda job, before: heard)


def reasons(found: Timeline) -> dict[str, float]:
    return {idle.reason: idle.seconds / 3600 for idle in found.idle()}


def test_each_reason_counts_for_as_long_as_it_held() -> None:
    found = seen(
        said(at(-3), "daemon_started"),
        said(at(-2), "queue_held", reason=OUTSIDE),
        said(at(1), "queue_open"),
        said(at(2), "job_started", job="a"),
        said(at(5), "job_ended", job="a"),
        said(at(5.005), "job_started", job="b"),  # what lies between two jobs is no idle time
        said(at(6), "job_ended", job="b"),
        said(at(7), "the queue at its socket is away: closed"),
        said(at(8), "the queue at its socket is back"),
        said(at(8.5), "daemon_stopped"),
        runs=False,
    )
    assert reasons(found) == {OUTSIDE: 1, NOTHING_READY: 2.5, QUEUE_AWAY: 1, NO_DAEMON: 0.5}
    assert abs(found.busy - timedelta(hours=3.995)) < timedelta(seconds=1)
    [outside] = [idle for idle in found.idle() if idle.reason == OUTSIDE]
    assert outside.spans == ((at(0), at(1)),)


def test_a_daemon_without_a_log_was_not_running() -> None:
    assert reasons(seen(runs=False)) == {NO_DAEMON: 9}


def test_a_daemon_that_died_had_worked_until_its_job_was_last_heard_of() -> None:
    lines = (said(at(-1), "daemon_started"), said(at(0), "job_started", job="a"))
    found = seen(*lines, runs=False, heard=at(6))
    assert found.busy == timedelta(hours=6)
    assert reasons(found) == {LOST_DAEMON: 3}
    again = seen(*lines, said(at(8), "daemon_started"), runs=True, heard=at(6))
    assert reasons(again) == {LOST_DAEMON: 2, NOTHING_READY: 1}


def test_a_reason_that_differs_in_a_number_alone_is_one() -> None:
    full = "the disk is full: {} MB must be free"
    found = seen(
        said(at(0), "daemon_started"),
        said(at(0), "queue_held", reason=full.format(512)),
        said(at(1), "queue_open"),
        said(at(1), "queue_held", reason=full.format(640)),
        said(at(3), "queue_open"),
        said(at(3), "job_started", job="a"),
    )
    assert reasons(found) == {full.format(512): 3}


def test_what_was_before_the_evening_does_not_count() -> None:
    found = seen(
        said(at(-9), "daemon_started"),
        said(at(-8), "job_started", job="a"),
        said(at(1), "job_ended", job="a"),
    )
    assert found.busy == timedelta(hours=1)
    assert reasons(found) == {NOTHING_READY: 8}
