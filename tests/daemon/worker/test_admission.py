"""When no job may be started."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import count

import pytest

from daemon.night.power import Power, PowerWatch
from daemon.night.settings import NightSettings
from daemon.settings import Settings
from daemon.times import Window
from daemon.worker.admission import HOLD_SECONDS, SPACE_BYTES, Admission
from jobs.paths import Workspace


def fed(*found: Power) -> PowerWatch:
    """Return a watch that finds the machine fed so, one after the other, at each look."""
    left = list(found)
    return PowerWatch(
        lambda: left.pop(0) if len(left) > 1 else left[0], clock=count(0, 60).__next__
    )


def admission(
    workspace: Workspace, hour: int = 23, *, mains: bool = True, **settings: object
) -> Admission:
    night, power = datetime(2026, 11, 24, hour).astimezone(), fed(Power(on_mains=mains))
    return Admission(workspace, Settings(**settings), now=lambda: night, power=power)  # type: ignore[arg-type]


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


def looks(admission: Admission, number: int) -> list[str | None]:
    """Return what several looks find, each of which looks anew."""
    found = []
    for _ in range(number):
        admission._look_at = 0.0
        found.append(admission.look())
    return found


def test_below_its_floor_a_battery_holds_jobs_until_it_is_well_above(workspace: Workspace) -> None:
    charges = (31, 30, 29, 30, 34, 35, 30, 29)
    power = fed(*(Power(percent, on_mains=False) for percent in charges))
    held = Admission(workspace, Settings(), NightSettings(battery_floor=30), power=power)
    reason = "battery below 30 %: waits for mains power, or 35 %"
    assert looks(held, 8) == [None, None, reason, reason, reason, None, None, reason]


def test_mains_power_lets_them_go_on_at_any_charge(workspace: Workspace) -> None:
    power = fed(Power(12, on_mains=False), Power(12, on_mains=True), Power(29, on_mains=False))
    held = Admission(workspace, Settings(), NightSettings(battery_floor=30), power=power)
    first, second, third = looks(held, 3)
    assert None not in (first, third)
    assert second is None


def test_a_battery_that_tells_nothing_holds_nothing(workspace: Workspace) -> None:
    power = fed(Power(None, on_mains=False))
    night = NightSettings(battery_floor=99)
    assert Admission(workspace, Settings(), night, power=power).look() is None
    full = fed(Power(98, on_mains=False), Power(100, on_mains=False))
    assert looks(Admission(workspace, Settings(), night, power=full), 2) == [
        *("battery below 99 %: waits for mains power, or 100 %", None),
    ]


def test_a_rest_holds_jobs_for_its_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested = Admission(workspace, Settings())
    assert rested.look() is None
    rested.rest("resting until 02:14", minutes=2)
    assert rested.look() == "resting until 02:14"
    later = time.monotonic() + 121
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert rested.look() is None
