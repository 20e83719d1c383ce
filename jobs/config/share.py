"""How much of the data is for validation, as people write it: ``10%``, or a number of examples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

PERCENT = re.compile(r"(\d{1,2}(?:\.\d{1,6})?)%", re.ASCII)
COUNT = re.compile(r"\d{1,9}", re.ASCII)
# More than this is no validation set: training gets the larger side.
MOST = Fraction(1, 2)


@dataclass(frozen=True)
class Share:
    """A part of the data, or a number of examples.

    Attributes:
        text: as it was written.
    """

    text: str
    part: Fraction | None = None
    count: int | None = None

    def of(self, examples: int) -> int:
        """Return how many of ``examples`` that is."""
        if self.part is None:
            return self.count or 0
        return int(self.part * examples + Fraction(1, 2))

    @property
    def rest(self) -> str:
        """What is left of the data, as people write it."""
        return "the rest" if self.part is None else f"{float(100 - 100 * self.part):g}%"


def percent(text: str) -> Share | None:
    """Return the share that a percentage says; None where ``text`` is none.

    Raises:
        ValueError: it is one, and no share for validation.
    """
    text = text.strip().replace(" %", "%")
    if not (text.endswith("%") and text[:1].isdigit()):
        return None
    found = PERCENT.fullmatch(text)
    part = Fraction(found[1]) / 100 if found else None
    if part is None or not 0 < part <= MOST:
        raise ValueError(
            f"{text} is no share for validation: expected more than 0% and at most 50%"
        )
    return Share(text, part)


def share_of(text: str) -> Share:
    """Return what a person says of validation data: ``10%``, or how many examples.

    Raises:
        ValueError: it is neither.
    """
    if (found := percent(text)) is not None:
        return found
    if COUNT.fullmatch(text) and int(text) > 0:
        return Share(text, count=int(text))
    raise ValueError(f"{text!r} is neither a share (10%) nor a number of examples (200)")
