"""When no job may be started."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from daemon.settings import Settings
from daemon.times import Window
from daemon.worker.admission import HOLD_SECONDS, SPACE_BYTES, Admission
from jobs.paths import Workspace


def admission(
    workspace: Workspace, hour: int = 23, *, mains: bool = True, **settings: object
) -> Admission:
    night = datetime(2026, 11, 24, hour).astimezone()
    return Admission(workspace, Settings(**settings), now=lambda: night, mains=lambda: mains)  # type: ignore[arg-type]


def test_a_window_closes_the_queue_by_day(workspace: Workspace) -> None:
    window = Window.parse("22:00-07:00")
    assert admission(workspace, 23, window=window).look() is None
    assert admission(workspace, 12, window=window).look() == "outside the window 22:00-07:00"
    assert admission(workspace, 12).look() is None


def test_on_battery_nothing_starts_if_that_is_wanted(workspace: Workspace) -> None:
    assert admission(workspace, mains=False, on_mains_only=True).look() == "not on mains power"
    assert admission(workspace, mains=False).look() is None
    assert admission(workspace, mains=True, on_mains_only=True).look() is None


def test_a_full_disk_closes_it_until_there_is_space(workspace: Workspace) -> None:
    free = [1_000]
    full = Admission(workspace, Settings(), free=lambda: free[0])
    assert full.look() is None
    full.disk_is_full()
    assert "the disk is full" in (full.look() or "")
    free[0] += SPACE_BYTES
    full._look_at = 0.0
    assert full.look() is None


def test_space_that_is_there_again_opens_it_at_once(workspace: Workspace) -> None:
    full = Admission(workspace, Settings(), free=lambda: 10**12)
    full.disk_is_full(free=0)
    assert full.look() is None


def test_a_full_disk_does_not_close_it_for_ever(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space that was made before the daemon looked is not there to be made again."""
    full = Admission(workspace, Settings(), free=lambda: 10**12)
    full.disk_is_full()
    assert full.look() is not None
    later = time.monotonic() + HOLD_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert full.look() is None
