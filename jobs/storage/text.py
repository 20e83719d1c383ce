"""Text from elsewhere, made safe to show: a terminal must not obey what stands in a file."""

from __future__ import annotations

import unicodedata


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
