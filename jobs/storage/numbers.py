"""Numbers as they stand in files that another program, or an older farense, may have written."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> float | None:
    """Return a number, also one that is not finite; None of all else, true and false among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def finite(value: Any) -> float | None:
    """Return a finite number; None of all else."""
    found = number(value)
    return found if found is not None and math.isfinite(found) else None
