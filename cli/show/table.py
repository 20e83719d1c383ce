"""Tables in a terminal: cells of wide characters and colours, in columns that line up."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from click import style

from jobs.storage.values import printable

GAP = "  "


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column, in terminal cells."""
    columns = zip(*rows, strict=True)
    return [max(display_width(printable(cell)) for cell in column) for column in columns]


def table_width(widths: Sequence[int]) -> int:
    """Return the terminal cells that a line of such columns takes."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def fitting(widths: Sequence[int], give_way: Sequence[int], width: int | None) -> list[int]:
    """Return the places of the columns that are shown.

    Args:
        widths: of all columns.
        give_way: the places of those that may be left out, in that order, until the others fit.
        width: of the terminal in columns; None sets no limit.
    """
    kept = list(range(len(widths)))
    for place in give_way:
        if width is None or table_width([widths[column] for column in kept]) <= width:
            break
        kept.remove(place)
    return kept


def aligned(
    cells: Sequence[str],
    widths: Sequence[int],
    right: Sequence[bool] | None = None,
    colours: Sequence[str | None] | None = None,
) -> str:
    """Return one line of cells padded to ``widths``; colour is added after padding."""
    parts = []
    for index, (given, width) in enumerate(zip(cells, widths, strict=True)):
        cell = printable(given)
        padding = " " * (width - display_width(cell))
        colour = colours[index] if colours else None
        text = style(cell, fg=colour) if colour else cell
        parts.append(padding + text if right and right[index] else text + padding)
    return GAP.join(parts).rstrip()


def table(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> list[str]:
    """Return lines of cells in columns.

    Args:
        right: the columns whose cells stand at the right; what is left out does not.
    """
    widths = column_widths(rows)
    sides = [*right, *([False] * (len(widths) - len(right)))]
    return [aligned(row, widths, sides) for row in rows]


def display_width(text: str) -> int:
    """Return the terminal cells that ``text`` takes: wide characters two, combining marks none."""
    return sum(
        0
        if unicodedata.combining(character) or unicodedata.category(character) == "Cf"
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def shortened(text: str, width: int) -> str:
    """Return ``text`` cut to ``width`` terminal cells, ending in ``…`` where it was cut."""
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
