"""Two answers to one question, side by side, and where they part."""

from __future__ import annotations

import textwrap
from itertools import zip_longest

# Below this a column has no room for words, and the answers stand one below the other.
NARROWEST = 24
BETWEEN = "  |  "


def side_by_side(heads: tuple[str, str], texts: tuple[str, str], width: int | None) -> str:
    """Return two texts in two columns; one below the other where there is no terminal.

    Args:
        width: columns of the terminal; None where there is none.
    """
    column = ((width or 0) - len(BETWEEN)) // 2
    if column < NARROWEST:
        parts = (f"{head}:\n{text}" for head, text in zip(heads, texts, strict=True))
        return "\n\n".join(parts)
    one, other = (_lines(head, column) for head in heads)
    titles = [*zip_longest(one, other, fillvalue=""), ("-" * column, "-" * column)]
    one, other = (_lines(text, column) for text in texts)
    rows = [*titles, *zip_longest(one, other, fillvalue="")]
    return "\n".join(f"{one:<{column}}{BETWEEN}{other}".rstrip() for one, other in rows)


def parting(ours: str, theirs: str) -> str:
    """Return in a line whether two answers are the same, and where they part."""
    if ours == theirs:
        return "The same answer."
    one, other = ours.split(), theirs.split()
    pairs = zip_longest(one, other, fillvalue="")
    at = next((n for n, (left, right) in enumerate(pairs) if left != right), None)
    if at is None:
        return "The same words, with other white space between them."
    left, right = (repr(words[at]) if at < len(words) else "the end" for words in (one, other))
    return f"They part at word {at + 1}: {left} here, {right} there."


def _lines(text: str, width: int) -> list[str]:
    wrapped = (textwrap.wrap(line, width) or [""] for line in text.splitlines())
    return [line for lines in wrapped for line in lines]
