"""How much memory a run may take, as people write it: ``auto``, ``6GB``, ``512 MB``."""

from __future__ import annotations

import re
from typing import Any

AUTO = "auto"
SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(GB|MB)", re.ASCII | re.IGNORECASE)
# Decimal, as every size that farense prints.
UNITS = {"GB": 10**9, "MB": 10**6}


def memory_setting(given: Any) -> str:
    """Return the setting in the one form in which it is kept: ``auto``, ``6GB``.

    Args:
        given: what a person wrote; None, as elsewhere, for a setting that is left out.

    Raises:
        ValueError: it is neither ``auto`` nor a size.
    """
    text = AUTO if given is None else given.strip() if isinstance(given, str) else ""
    if text.lower() == AUTO:
        return AUTO
    found = SIZE.fullmatch(text)
    if found is None or not float(found[1]):
        raise ValueError(
            f"memory: {given!r} is neither auto nor a size; write 6GB or 512MB, say, or auto "
            "for all that the machine has"
        )
    return f"{found[1]}{found[2].upper()}"


def bytes_of(setting: str) -> int | None:
    """Return the bytes that a setting says; None for ``auto``."""
    found = SIZE.fullmatch(setting)
    return round(float(found[1]) * UNITS[found[2].upper()]) if found else None
