"""Times of day where clocks are put forward or back, in several zones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon.times import Window, parse_at
from tests.helpers.zones import Zone, zone

__all__ = ["zone"]

# Clocks go from 1:00 to 2:00 on 29 March 2026, and from 2:00 back to 1:00 on 25 October.
LISBON = "Europe/Lisbon"
# From 2:00 to 3:00 on 8 March 2026, and from 2:00 back to 1:00 on 1 November.
NEW_YORK = "America/New_York"
# By half an hour only: from 2:00 to 2:30 on 4 October 2026, and back on 5 April.
LORD_HOWE = "Australia/Lord_Howe"
# At midnight: 24 April 2026 begins at 1:00.
CAIRO = "Africa/Cairo"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "now", "text", "expected"),
    [
        # A time that no clock shows is the moment at which clocks are put forward.
        (LISBON, "2026-03-28 20:00", "tomorrow 01:30", "2026-03-29 01:00"),
        (LISBON, "2026-03-29 00:45", "01:30", "2026-03-29 01:00"),
        (LISBON, "2026-03-29 00:45", "today 1:30", "2026-03-29 01:00"),
        (LISBON, "2026-03-28 20:00", "sunday 01:30", "2026-03-29 01:00"),
        (LISBON, "2026-03-28 20:00", "2026-03-29 01:30", "2026-03-29 01:00"),
        (LISBON, "2026-03-29 01:30", "01:30", "2026-03-30 00:30"),
        # Beside the gap nothing moves.
        (LISBON, "2026-03-28 20:00", "00:59", "2026-03-29 00:59"),
        (LISBON, "2026-03-28 20:00", "02:00", "2026-03-29 01:00"),
        (LISBON, "2026-03-28 20:00", "tomorrow 23:00", "2026-03-29 22:00"),
        # Of a time that clocks show twice it is the next one.
        (LISBON, "2026-10-24 20:00", "tomorrow 01:30", "2026-10-25 00:30"),
        (LISBON, "2026-10-25 00:15", "01:30", "2026-10-25 00:30"),
        (LISBON, "2026-10-25 00:45", "01:30", "2026-10-25 01:30"),
        (LISBON, "2026-10-25 00:45", "today 01:30", "2026-10-25 01:30"),
        (LISBON, "2026-10-25 00:45", "sunday 01:30", "2026-10-25 01:30"),
        (LISBON, "2026-10-25 00:45", "2026-10-25 01:30", "2026-10-25 01:30"),
        (LISBON, "2026-10-25 01:45", "01:30", "2026-10-26 01:30"),
        (LISBON, "2026-10-25 01:45", "sunday 01:30", "2026-11-01 01:30"),
        # With a zone of its own it is what it says.
        (LISBON, "2026-10-24 20:00", "2026-10-25 01:30+00:00", "2026-10-25 01:30"),
        (NEW_YORK, "2026-03-07 20:00", "tomorrow 2:30", "2026-03-08 07:00"),
        (NEW_YORK, "2026-03-08 06:50", "2:30", "2026-03-08 07:00"),
        (NEW_YORK, "2026-11-01 05:45", "1:30", "2026-11-01 06:30"),
        (LORD_HOWE, "2026-10-03 12:00", "2:15", "2026-10-03 15:30"),
        (LORD_HOWE, "2026-04-04 14:50", "1:45", "2026-04-04 15:15"),
        (CAIRO, "2026-04-23 12:00", "midnight", "2026-04-23 22:00"),
        ("UTC", "2026-03-29 00:45", "01:30", "2026-03-29 01:30"),
    ],
)
def test_a_time_is_the_next_moment_at_which_clocks_show_it(
    zone: Zone, name: str, now: str, text: str, expected: str
) -> None:
    zone(name)
    assert parse_at(text, utc(now)) == utc(expected)


@pytest.mark.parametrize(
    ("now", "inside"),
    [
        ("2026-03-29 00:59", True),
        ("2026-03-29 01:00", False),
        ("2026-10-25 00:30", True),
        ("2026-10-25 01:30", True),
        ("2026-10-25 02:00", False),
    ],
)
def test_a_window_goes_by_what_the_clock_shows(zone: Zone, now: str, inside: bool) -> None:
    zone(LISBON)
    assert Window.parse("00:30-02:00").contains(utc(now)) is inside
