"""Figures, sizes, lengths of time and moments as a person reads them, wherever they are shown.

Files keep numbers in full, bytes, seconds and UTC.

A moment is shown in the machine's own zone; one that cannot be read, as it stands in the file.
"""

from __future__ import annotations

from datetime import UTC, datetime

ENDLESS = 1e10
# What stands where there is nothing to show.
NONE = "-"


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def counted(number: int, noun: str) -> str:
    """Return ``1 example``, ``2 examples``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a length of time for a person: ``45s``, ``3m 20s``, ``2h 05m``, ``1d 03h``.

    ``-`` stands for one that is endless, or as good as.
    """
    if not abs(seconds) < ENDLESS:
        return NONE
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


def local_time(moment: datetime) -> str:
    """Return the time of day of a moment that has a zone, to the minute: ``23:00``."""
    return f"{moment.astimezone():%H:%M}"


def local_clock() -> str:
    """Return the time of day now: ``23:00:07``."""
    return f"{datetime.now().astimezone():%H:%M:%S}"


def _here(moment: str | datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def length_text(seconds: float | None) -> str:
    """Return a length of time as :func:`duration` does; ``-`` where there is none."""
    return NONE if seconds is None else duration(seconds)


def moment_text(moment: str | None) -> str:
    """Return a moment as :func:`local_exact` does; ``-`` where there is none."""
    return NONE if moment is None else local_exact(moment)


def memory_text(megabytes: float | None) -> str:
    """Return an amount of memory for a person: ``592 MB``; ``-`` where none is known."""
    if megabytes is None:
        return NONE
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def figure(value: float | None, digits: int = 4, sign: str = "") -> str:
    """Return a loss, a gap or a score for a person; ``-`` where there is none.

    Args:
        sign: ``+`` for a difference.
    """
    return NONE if value is None else f"{value:{sign}.{digits}f}"


def amount(value: float | None) -> str:
    """Return a number of any size in up to three digits, thousands set apart."""
    if value is None:
        return NONE
    if 100 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.3g}"
