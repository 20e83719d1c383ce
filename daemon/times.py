"""Times as people type them: `23:00`, `11pm`, `tomorrow 6am`, `2h30m`, `22:00-07:00`.

All are in the machine's own zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from jobs.errors import ConfigError, InvalidInput

DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")
LONGEST = timedelta(days=366)
CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?:(?::|(?P<h>h))(?P<minute>\d{2})?)?(?:\s?(?P<half>[ap])\.?m\.?)?", re.ASCII
)
NAMED_CLOCKS = {"noon": time(12), "midnight": time(0)}
DAYS = {"today": 0, "tonight": 0, "tomorrow": 1}
PAST_DAYS = {"today": 0, "yesterday": 1}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def parse_at(text: str, now: datetime) -> datetime:
    """Return the moment that ``text`` names: a time of day, the next one, or a day with a time.

    Args:
        text: ``23:00`` or ``11pm``, ``tomorrow 6am`` or ``friday 22:00``, or ``2026-11-25 23:00``
            (ISO 8601); without a zone it is local.
        now: with its zone.

    Raises:
        InvalidInput: it names none, one that has passed, or one more than a year ahead.
    """
    clock = _clock(text.strip())
    if clock is not None:
        return _next(now, clock)
    if (named := _on_named_day(text, now)) is not None:
        if named <= now:
            raise InvalidInput(f"{text} has passed already.")
        return named
    try:
        moment = _dated(datetime.fromisoformat(text.strip()), now)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            f"{text!r} is not a time.",
            "Give one as 23:00, 11pm, 'tomorrow 6am' or '2026-11-25 23:00'.",
        ) from None
    if moment <= now:
        raise InvalidInput(f"{text} has passed already.")
    return _not_too_far(moment, now, text)


def parse_in(text: str, now: datetime) -> datetime:
    """Return the moment that lies ``text`` (``2h``, ``90m``, ``1h30m``) ahead.

    Raises:
        InvalidInput: it is not a length of time, or longer than a year.
    """
    return _not_too_far(now + parse_duration(text), now, text)


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment in the past that ``text`` names: the last such one.

    Args:
        text: ``22:00`` or ``10pm``, ``yesterday 6am`` or ``friday 22:00``, ``8h`` or ``90m`` ago,
            or ``2026-11-25 23:00`` (ISO 8601); without a zone it is local.
        now: with its zone.

    Raises:
        InvalidInput: it names none, or one that is still ahead or more than a year ago.
    """
    moment = _past(text.strip(), now)
    if moment is None:
        raise InvalidInput(
            f"{text!r} is not a time.",
            "Give one as 22:00, 8h, 'yesterday 6am' or '2026-11-25 23:00'.",
        )
    if moment > now:
        raise InvalidInput(f"{text} is still ahead.")
    if now - moment > LONGEST:
        raise InvalidInput(f"{text} is more than a year ago.")
    return moment


def parse_duration(text: str) -> timedelta:
    """Return a length of time: ``2h``, ``90m``, ``1h30m``, ``3d``.

    Raises:
        InvalidInput: it is none.
    """
    found = DURATION.fullmatch(text.strip().lower())
    # More digits than any year has seconds: not a length of time either.
    if not found or not any(found.groups()) or len(text) > 20:
        raise InvalidInput(
            f"{text!r} is not a length of time.", "Give one as 2h, 90m, 1h30m or 3d."
        )
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise InvalidInput(f"{text!r} is too long a time.") from None


@dataclass(frozen=True)
class Window:
    """The part of each day in which jobs may run; past midnight where it ends before it begins."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Window:
        """Return the window that ``text``, as ``22:00-07:00``, names.

        Raises:
            ConfigError: it names none.
        """
        first, _, last = text.partition("-")
        start, end = _clock(first.strip()), _clock(last.strip())
        if start is None or end is None or start == end:
            raise ConfigError(
                f"{text!r} is not a part of the day.", "Give one as 22:00-07:00, in local time."
            )
        return cls(start, end)

    def contains(self, moment: datetime) -> bool:
        """Tell whether a moment, which has a zone, lies in the window."""
        clock = moment.astimezone().time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def began(self, moment: datetime) -> datetime:
        """Return when the window last began, up to a moment, which has a zone."""
        return _last(moment, self.start)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def _past(text: str, now: datetime) -> datetime | None:
    """Return the moment that a text names looking back; None where it names none."""
    # `8h` is a length of time here, and a time of day where one looks ahead.
    with suppress(InvalidInput):
        return now - parse_duration(text)
    if (clock := _clock(text)) is not None:
        return _last(now, clock)
    words = text.lower().replace(",", " ").split()
    days = [word for word in words if word in PAST_DAYS or _weekday(word) is not None]
    clock = _clock(" ".join(word for word in words if word not in (*days, "at", "last")))
    if len(days) == 1 and clock is not None:
        return _on_past_day(days[0], clock, now)
    try:
        given = datetime.fromisoformat(text)
        moment = given if given.tzinfo else _at(given.date(), given.time())[0]
        return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _on_past_day(day: str, clock: time, now: datetime) -> datetime:
    """Return that time of day on today, on yesterday, or on the last such day of the week."""
    today, weekday = now.astimezone().date(), _weekday(day)
    if weekday is None:
        return _at(today - timedelta(days=PAST_DAYS[day]), clock)[0]
    last = today - timedelta(days=(today.weekday() - weekday) % 7)
    moment = _at(last, clock)[0]
    return moment if moment <= now else _at(last - timedelta(days=7), clock)[0]


def _last(now: datetime, clock: time) -> datetime:
    """Return the last moment of that time of day, up to now."""
    today = now.astimezone().date()
    days = (today, today - timedelta(days=1))
    return max(moment for day in days for moment in _at(day, clock) if moment <= now)


def _on_named_day(text: str, now: datetime) -> datetime | None:
    """Return the moment of ``tomorrow 6am``, ``6am tomorrow`` or ``friday at 22:00``.

    A day of the week is the next one, tonight the next such time. Today it may have passed.
    """
    words = [word for word in text.lower().replace(",", " ").split() if word != "at"]
    days = [word for word in words if word in DAYS or _weekday(word) is not None]
    clock = _clock(" ".join(word for word in words if word not in days))
    if len(days) != 1 or clock is None:
        return None
    if days == ["tonight"]:
        return _next(now, clock)
    today, weekday = now.astimezone().date(), _weekday(days[0])
    if weekday is None:
        return _ahead(now, _at(today + timedelta(days=DAYS[days[0]]), clock))
    first = today + timedelta(days=(weekday - today.weekday()) % 7)
    return _first(now, (first, first + timedelta(days=7)), clock)


def _next(now: datetime, clock: time) -> datetime:
    """Return the next moment of that time of day."""
    today = now.astimezone().date()
    return _first(now, (today, today + timedelta(days=1)), clock)


def _first(now: datetime, days: Sequence[date], clock: time) -> datetime:
    """Return the first moment ahead of that time of day on some days; the last where none is."""
    return _ahead(now, [moment for day in days for moment in _at(day, clock)])


def _weekday(word: str) -> int | None:
    """Return the number of a day of the week from Monday, 0; three letters are enough."""
    if len(word) < 3:
        return None
    return next((n for n, day in enumerate(WEEKDAYS) if day.startswith(word)), None)


def _clock(text: str) -> time | None:
    """Return a time of day: ``23:00``, ``11pm``, ``6:30 am``, ``23h``, ``23h30``, ``noon``."""
    if text.lower() in NAMED_CLOCKS:
        return NAMED_CLOCKS[text.lower()]
    found = CLOCK.fullmatch(text.lower())
    if not found or not (found["minute"] or found["h"] or found["half"]):
        return None
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12 or found["h"]:
            return None
        hour = hour % 12 + (12 if found["half"] == "p" else 0)
    return time(hour, minute) if hour <= 23 and minute <= 59 else None


def _dated(given: datetime, now: datetime) -> datetime:
    """Return the moment that a date with a time names; without a zone it is local."""
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    return _ahead(now, _at(given.date(), given.time()))


def _ahead(now: datetime, moments: Sequence[datetime]) -> datetime:
    """Return the first of some moments that is ahead; the last where none is."""
    return next((moment for moment in moments if moment > now), moments[-1])


def _at(day: date, clock: time) -> list[datetime]:
    """Return the moments at which clocks show a time on a day, first the earlier one.

    Where clocks go back there may be two. Where they are put forward over that time it is the
    moment at which they are.
    """
    both = [datetime.combine(day, clock.replace(fold=fold)) for fold in (0, 1)]
    moments = sorted({wall.astimezone(UTC) for wall in both})
    shown = [moment for moment in moments if _wall(moment) == both[0]]
    return shown or [_change(moments[0], moments[-1])]


def _wall(moment: datetime) -> datetime:
    """Return what the machine's clock shows at a moment."""
    return moment.astimezone().replace(tzinfo=None, fold=0)


def _change(before: datetime, after: datetime) -> datetime:
    """Return the second in between from which on the machine's clock has another offset."""
    old = before.astimezone().utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone().utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def _not_too_far(moment: datetime, now: datetime, text: str) -> datetime:
    if moment - now > LONGEST:
        raise InvalidInput(f"{text} is more than a year ahead.")
    return moment
