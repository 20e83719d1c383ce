"""Values that others wrote, into a file or into Redis: are they of their types, are they numbers,
and can they be shown? A terminal must not obey what stands in a file.
"""

from __future__ import annotations

import math
import unicodedata
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def well_typed(instance: Any) -> bool:
    """Tell whether each field of a dataclass holds a value of its type.

    A whole number may stand for a float; true and false are no numbers. What lists and dictionaries
    hold is not looked at.
    """
    kind: type = type(instance)
    types = _types(kind)
    return all(_fits(value, types[name]) for name, value in vars(instance).items())


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types)


@cache
def _types(kind: type) -> dict[str, tuple[type, ...]]:
    return {name: tuple(_flat(hint)) for name, hint in get_type_hints(kind).items()}


def _flat(hint: Any) -> list[type]:
    if get_origin(hint) in (Union, UnionType):
        return [part for option in get_args(hint) for part in _flat(option)]
    found = get_origin(hint) or hint
    return [float, int] if found is float else [found]


def printable(text: str, keep: str = "") -> str:
    """Return ``text`` with a question mark for each character that is not to be seen.

    Those are control characters, so the escape sequences of terminals, marks that turn the
    direction of writing, line breaks and halves of surrogate pairs.

    Args:
        keep: characters that stay all the same: a line break, say.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or _shows(c) else "?" for c in text)


def _shows(character: str) -> bool:
    # No-break and other wide or narrow spaces are not "printable" to Python.
    return character.isprintable() or unicodedata.category(character) == "Zs"


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
