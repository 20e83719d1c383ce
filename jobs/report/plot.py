"""A plot, before it is drawn: what it is called, what it shows in words, and how to draw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.report.theme import Look
from jobs.storage.values import printable

# Names of fewer characters stand side by side in a legend.
SHORT_NAME = 24


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        name: of its file, without the ending.
        finding: what is to be seen, for who does not see it.
        draw: returns it as PNG, in the colours of a look.
    """

    name: str
    finding: str
    draw: Callable[[Look], bytes]


def short(text: str, length: int = 28) -> str:
    """Return a name as it fits into a legend."""
    text = printable(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def step_text(step: float) -> str:
    """Return the number of a step."""
    return f"{step:,.0f}"
