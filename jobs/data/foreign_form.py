"""What a data file that is no JSON Lines of ours looks like, and what to do with it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import DataError

LOOK_BYTES = 200_000
# How files begin: https://en.wikipedia.org/wiki/List_of_file_signatures
IMPORTED = {b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file"}
SIGNATURES = {
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip file (or a spreadsheet)",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF": "a PDF",
}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
UNPACK = "Unpack it, or save it as JSON Lines, CSV or Parquet: farense data import reads these."
IMPORT = "Import it: farense data import {file}"

# Columns of other layouts -> how they are called, and what to do with such a file.
LAYOUTS: tuple[tuple[set[str], str, str], ...] = (
    (
        {"chosen", "rejected"},
        "preference pairs (chosen, rejected), which farense does not train on",
        "To learn the chosen answers alone, name the columns: "
        "farense data import {file} --map prompt=prompt --map completion=chosen",
    ),
    ({"instruction", "output"}, "Alpaca rows (instruction, input, output)", IMPORT),
    ({"instruction", "response"}, "rows of instruction and response", IMPORT),
    ({"conversations"}, "ShareGPT rows (conversations of from and value)", IMPORT),
    ({"question", "answer"}, "rows of question and answer", IMPORT),
    ({"pergunta", "resposta"}, "rows of pergunta and resposta", IMPORT),
    ({"question", "response"}, "rows of question and response", IMPORT),
    ({"prompt", "response"}, "rows of prompt and response", IMPORT),
    ({"input", "output"}, "rows of input and output", IMPORT),
)


@dataclass(frozen=True)
class ForeignForm:
    """What a file looks like.

    Attributes:
        action: what to do, with ``{file}`` and ``{new}`` for names.
        is_table: whether it is CSV or TSV.
    """

    what: str
    action: str = IMPORT
    is_table: bool = False


def other_form(path: Path) -> DataError | None:
    """Return an error that says what a file holds instead of our rows; None where nothing is known.

    Ask only of a file of which no line could be used.
    """
    try:
        if path.is_dir():
            return DataError(f"{path} is a folder.", "Name the JSON Lines file in it.")
        with path.open("rb") as file:
            start = file.read(LOOK_BYTES)
    except OSError:
        return None
    imported = [ForeignForm(what) for it, what in IMPORTED.items() if start.startswith(it)]
    found = next(iter(imported), None) or of_bytes(start)
    found = found or of_text(start.decode("utf-8", "ignore").lstrip("\ufeff"))
    if found is None:
        return None
    return DataError(
        f"{path} looks like {found.what}, not like JSON Lines of farense.",
        with_names(found.action, path),
    )


def with_names(action: str, path: Path) -> str:
    """Return what to do with a file, with its name, and one for what becomes of it."""
    names = {"{file}": str(path), "{new}": str(path.with_name(f"{path.stem}-lines.jsonl"))}
    for place, name in names.items():
        action = action.replace(place, shlex.quote(name))
    return action


def of_bytes(start: bytes) -> ForeignForm | None:
    """Return what a file is that begins so and is no text to be read."""
    for signature, what in SIGNATURES.items():
        if start.startswith(signature):
            return ForeignForm(what, UNPACK)
    if start.startswith(UTF_16) or (len(start) > 3 and start[1::2].count(0) > len(start) // 4):
        return ForeignForm(
            "text in UTF-16", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {file} > {new}"
        )
    if b"\0" in start[:1000] and not start.startswith(tuple(IMPORTED)):
        return ForeignForm("a binary file", UNPACK)
    return None


def of_text(text: str) -> ForeignForm | None:
    """Return what a text is that begins so, where it is no JSON Lines of ours."""
    body = text.lstrip()
    if body.startswith("["):
        return _array(body)
    if body[:200].lower().startswith(("<!doctype", "<html", "<?xml")):
        return ForeignForm(
            "a web page (or XML)",
            "Download the data itself: this may be the page that shows it.",
        )
    first, _, rest = body.partition("\n")
    row = _object(first)
    if row is not None:
        return _layout(row)
    if _object(body) is not None:
        return ForeignForm(
            "one JSON object over several lines",
            "Write each example on one line: jq -c . {file} > {new}",
        )
    return _of_table(first, rest)


def starts_with_object(line: str) -> bool:
    """Tell whether a line begins with a whole JSON object."""
    return _object(line) is not None


def _array(body: str) -> ForeignForm:
    rows = _object(body[1:].lstrip())
    layout = _layout(rows) if rows is not None else None
    of_rows = f" of {layout.what}" if layout else ""
    return ForeignForm(f"one JSON array{of_rows}", layout.action if layout else IMPORT)


def _layout(row: dict[str, Any]) -> ForeignForm | None:
    for columns, what, action in LAYOUTS:
        if columns <= set(row):
            return ForeignForm(what, action)
    return None


def _of_table(first: str, rest: str) -> ForeignForm | None:
    """Tell a table by a header whose separator stands in the next line, too."""
    second = rest.partition("\n")[0]
    for separator, name in ((",", "CSV"), (";", "CSV with semicolons"), ("\t", "TSV")):
        columns = [column.strip().strip('"') for column in first.split(separator)]
        if 2 <= len(columns) <= 100 and separator in second and all(map(_is_name, columns)):
            shown = ", ".join(columns[:6])
            return ForeignForm(f"a {name} table (columns {shown})", is_table=True)
    return None


def _is_name(column: str) -> bool:
    return 0 < len(column) <= 60 and not column.startswith(("{", "["))


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that ``text`` begins with."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
