"""Moments as a person reads them: in the machine's own zone. Files and JSON keep UTC.

A moment that cannot be read, of a damaged file, is shown as it stands there.
"""

from __future__ import annotations

from datetime import UTC, datetime


def local(moment: str | datetime) -> str:
    """Return a moment to the minute, for a list or a sentence: ``2026-11-25 23:00``.

    Args:
        moment: with its zone, or in UTC; ISO 8601 where it is a text.
    """
    here = _here(moment)
    return str(moment) if here is None else f"{here:%Y-%m-%d %H:%M}"


def local_exact(moment: str | datetime) -> str:
    """Return a moment to the second with its offset from UTC: ``2026-11-25 23:00:07 +00:00``."""
    here = _here(moment)
    if here is None:
        return str(moment)
    offset = f"{here:%z}"
    return f"{here:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"


def local_clock() -> str:
    """Return the time of day now: ``23:00:07``."""
    return f"{datetime.now().astimezone():%H:%M:%S}"


def _here(moment: str | datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
