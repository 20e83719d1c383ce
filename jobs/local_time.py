"""Moments as a person reads them: in the machine's own zone. Files and JSON keep UTC."""

from __future__ import annotations

from datetime import datetime


def local(moment: str | datetime) -> str:
    """Return a moment to the minute, for a list or a sentence: ``2026-11-25 23:00``.

    Args:
        moment: with its zone; ISO 8601 where it is a text.
    """
    return f"{_here(moment):%Y-%m-%d %H:%M}"


def local_exact(moment: str | datetime) -> str:
    """Return a moment to the second with its offset from UTC: ``2026-11-25 23:00:07 +00:00``."""
    here = _here(moment)
    offset = f"{here:%z}"
    return f"{here:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:]}"


def _here(moment: str | datetime) -> datetime:
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return found.astimezone()
