"""Sizes and lengths of time as a person reads them."""

from __future__ import annotations

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
