"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daemon.times import Window, parse_at, parse_duration, parse_in, parse_since
from jobs.errors import ConfigError, InvalidInput

EVENING = datetime(2026, 11, 24, 21, 30).astimezone()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("23:00", datetime(2026, 11, 24, 23, 0)),
        ("7:05", datetime(2026, 11, 25, 7, 5)),
        ("21:30", datetime(2026, 11, 25, 21, 30)),
        ("2026-11-26 06:15", datetime(2026, 11, 26, 6, 15)),
        ("11pm", datetime(2026, 11, 24, 23, 0)),
        ("6am", datetime(2026, 11, 25, 6, 0)),
        ("6:45 PM", datetime(2026, 11, 25, 18, 45)),
        ("12am", datetime(2026, 11, 25, 0, 0)),
        ("12 p.m.", datetime(2026, 11, 25, 12, 0)),
        ("23h", datetime(2026, 11, 24, 23, 0)),
        ("23h15", datetime(2026, 11, 24, 23, 15)),
        ("midnight", datetime(2026, 11, 25, 0, 0)),
        ("tomorrow 23:00", datetime(2026, 11, 25, 23, 0)),
        ("6am tomorrow", datetime(2026, 11, 25, 6, 0)),
        ("tonight at 22:15", datetime(2026, 11, 24, 22, 15)),
        ("midnight tonight", datetime(2026, 11, 25, 0, 0)),
        ("tonight 1am", datetime(2026, 11, 25, 1, 0)),
        # The 24th is a Tuesday.
        ("friday 22:00", datetime(2026, 11, 27, 22, 0)),
        ("tue 22:00", datetime(2026, 11, 24, 22, 0)),
        ("tuesday, 9pm", datetime(2026, 12, 1, 21, 0)),
    ],
)
def test_a_time_is_the_next_one(text: str, expected: datetime) -> None:
    assert parse_at(text, EVENING) == expected.astimezone(UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "24:00", "12:60", "2026-11-24 21:00", "2031-01-01 00:00", "９:30"),
        *(
            "11",
            "13pm",
            "0am",
            "today 6am",
            "tomorrow",
            "tomorrow friday 6am",
            "23h99",
            "6 o'clock",
        ),
    ],
)
def test_what_is_no_time_ahead_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_at(text, EVENING)


def test_a_length_of_time() -> None:
    assert parse_duration("1h30m") == parse_duration("90min") == timedelta(minutes=90)
    assert parse_in("2d", EVENING) == EVENING + timedelta(days=2)


@pytest.mark.parametrize("text", ["", "h", "2", "2 hours", "-1h", "400d", "9" * 18 + "h", "1h1h"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_in(text, EVENING)


@pytest.mark.parametrize(
    ("window", "hour", "inside"),
    [
        ("22:00-07:00", 21, False),
        ("22:00-07:00", 22, True),
        ("22:00-07:00", 3, True),
        ("22:00-07:00", 7, False),
        ("9:00-17:30", 17, True),
        ("9:00-17:30", 18, False),
        ("10pm-7am", 21, False),
        ("10pm-7am", 23, True),
    ],
)
def test_a_window_may_go_past_midnight(window: str, hour: int, inside: bool) -> None:
    moment = datetime(2026, 11, 24, hour).astimezone()
    assert Window.parse(window).contains(moment) is inside


@pytest.mark.parametrize("text", ["", "22:00", "22-07", "22:00-22:00", "22:00-25:00", "a-b"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Window.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("22:00", "2026-11-27T22:00"),
        ("6am", "2026-11-28T06:00"),
        ("yesterday 6am", "2026-11-27T06:00"),
        ("friday 22:00", "2026-11-27T22:00"),
        ("saturday at 23:00", "2026-11-21T23:00"),
        ("8h", "2026-11-27T23:30"),
        ("1h30m", "2026-11-28T06:00"),
        ("2026-11-25 23:00", "2026-11-25T23:00"),
    ],
)
def test_a_moment_in_the_past_is_the_last_such_one(text: str, expected: str) -> None:
    now = datetime(2026, 11, 28, 7, 30).astimezone()
    assert parse_since(text, now) == datetime.fromisoformat(expected).astimezone()


@pytest.mark.parametrize("text", ["", "soon", "2999-01-01 10:00", "2001-01-01 10:00", "900d"])
def test_what_is_no_moment_in_the_past_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_since(text, datetime(2026, 11, 28, 7, 30).astimezone())
