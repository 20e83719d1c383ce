"""When a child is stopped that nobody asked to stop."""

from __future__ import annotations

from daemon.lifecycle.failures import FailureClass, StopReason
from daemon.worker.watchdog import Watchdog, trained_before
from jobs.events import Envelope, TrainMetrics


def looks(
    watchdog: Watchdog, *, until: float, every: float = 10.0, writes: bool
) -> StopReason | None:
    """Look every few seconds from second 0 on, at a log that grows or does not."""
    now, size = 0.0, 100
    while now < until:
        now, size = now + every, size + writes
        if verdict := watchdog.look(now, size):
            return verdict
    return None


def row(seconds: float) -> Envelope:
    metrics = TrainMetrics(1, 1, 1, 1.0, None, None, None, 1e-4, 1.0, 1.0, 1.0, seconds, "")
    return Envelope(metrics, "job", 1, "")


def test_a_child_that_stays_silent_hangs() -> None:
    verdict = looks(Watchdog(30, None, 0, 0), until=3600, writes=False)
    assert verdict is not None
    assert verdict.kind is FailureClass.HANG
    assert "30 minutes (stall_minutes)" in verdict.reason
    assert looks(Watchdog(30, None, 0, 0), until=29 * 60, writes=False) is None


def test_one_that_writes_does_not() -> None:
    assert looks(Watchdog(30, None, 0, 0), until=100 * 3600, writes=True) is None


def test_every_sign_of_life_begins_the_wait_anew() -> None:
    watchdog = Watchdog(1, None, 0, 0)
    sizes = [(50, 1), (100, 1), (105, 2), (160, 2), (164, 2)]
    assert [watchdog.look(now, size) for now, size in sizes] == [None] * 5
    assert watchdog.look(166, 2) is not None


def test_without_the_setting_a_child_may_be_silent_for_ever() -> None:
    assert looks(Watchdog(None, None, 0, 0), until=100 * 3600, writes=False) is None


def test_a_machine_that_stood_still_is_no_hang_and_costs_no_time() -> None:
    watchdog = Watchdog(30, 2, 0, 0)
    assert watchdog.look(10, 1) is None
    assert watchdog.look(10 + 8 * 3600, 1) is None
    assert watchdog.look(20 + 8 * 3600, 1) is None


def test_hours_count_over_all_attempts() -> None:
    assert looks(Watchdog(30, 8, 0, 0), until=7.9 * 3600, writes=True) is None
    verdict = looks(Watchdog(30, 8, 7.5 * 3600, 0), until=0.6 * 3600, writes=True)
    assert verdict is not None
    assert verdict.kind is FailureClass.TIME_LIMIT
    assert "8 hours (max_hours)" in verdict.reason
    assert looks(Watchdog(30, 8, 7.5 * 3600, 0), until=0.4 * 3600, writes=True) is None


def test_the_hours_before_are_those_of_the_last_row() -> None:
    assert trained_before([]) == 0.0
    assert trained_before([row(10.0), row(90.0)]) == 90.0
