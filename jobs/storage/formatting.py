"""Sizes, lengths of time and moments as a person reads them; files keep bytes, seconds and UTC.

A moment is shown in the machine's own zone; one that cannot be read, as it stands in the file.
"""

from __future__ import annotations

from datetime import UTC, datetime

ENDLESS = 1e10


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Return a length of time for a person: ``45s``, ``3m 20s``, ``2h 05m``, ``1d 03h``.

    ``-`` stands for one that is endless, or as good as.
    """
    if not abs(seconds) < ENDLESS:
        return "-"
    whole = max(0, round(seconds))
    for unit, size, below, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part:02d}{below}"
    return f"{whole}s"


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
