"""Times as people type them: `23:00`, `2h30m`, `22:00-07:00`; all in the machine's own zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from jobs.errors import ConfigError, InvalidInput

DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")
LONGEST = timedelta(days=366)


def parse_at(text: str, now: datetime) -> datetime:
    """Return the moment that ``text`` names: a time of day, the next one, or a date with a time.

    Args:
        text: ``23:00``, or ``2026-11-25 23:00`` (ISO 8601); without a zone it is local.
        now: with its zone.

    Raises:
        InvalidInput: it names none, one that has passed, or one more than a year ahead.
    """
    clock = _clock(text.strip())
    if clock is not None:
        local = now.astimezone()
        moment = _at(local, clock)
        return moment if moment > now else _at(local + timedelta(days=1), clock)
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            f"{text!r} is not a time.", "Give one as 23:00 or as '2026-11-25 23:00'."
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

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def _clock(text: str) -> time | None:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})", text, re.ASCII)
    if not found or int(found[1]) > 23 or int(found[2]) > 59:
        return None
    return time(int(found[1]), int(found[2]))


def _at(day: datetime, clock: time) -> datetime:
    # Made anew from the local date, so that the zone's summer time is that of the day itself.
    return datetime.combine(day.date(), clock).astimezone(UTC)


def _not_too_far(moment: datetime, now: datetime, text: str) -> datetime:
    if moment - now > LONGEST:
        raise InvalidInput(f"{text} is more than a year ahead.")
    return moment
