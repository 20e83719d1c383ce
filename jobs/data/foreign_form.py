"""What a data file that is no JSON Lines of ours looks like, and what to do with it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from jobs.errors import DataError

LOOK_BYTES = 200_000
# How files begin: https://en.wikipedia.org/wiki/List_of_file_signatures
SIGNATURES = (
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\x03\x04", "a zip file (or a spreadsheet)"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF", "a PDF"),
)
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
UNPACK = "Unpack or convert it to JSON Lines first: one object on each line."

# Columns of other layouts -> how they are called, and the row of ours that says the same.
LAYOUTS: tuple[tuple[set[str], str, str], ...] = (
    (
        {"instruction", "output"},
        "Alpaca rows (instruction, input, output)",
        '{"prompt": instruction and input, "completion": output}',
    ),
    (
        {"conversations"},
        "ShareGPT rows (conversations of from and value)",
        '{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}: '
        '"human" becomes "user", "gpt" becomes "assistant"',
    ),
    (
        {"chosen", "rejected"},
        "preference pairs (chosen, rejected), which farense does not train on",
        '{"prompt": ..., "completion": ...} with the chosen answer',
    ),
    (
        {"question", "answer"},
        "rows of question and answer",
        '{"prompt": question, "completion": answer}',
    ),
    (
        {"input", "output"},
        "rows of input and output",
        '{"prompt": input, "completion": output}',
    ),
)


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
    found = _of_bytes(start) or _of_text(start.decode("utf-8", "ignore").lstrip("\ufeff"))
    if found is None:
        return None
    what, action = found
    names = {"{file}": str(path), "{new}": str(path.with_name(f"{path.stem}-lines.jsonl"))}
    for place, name in names.items():
        action = action.replace(place, shlex.quote(name))
    return DataError(f"{path} looks like {what}, not like JSON Lines of farense.", action)


def _of_bytes(start: bytes) -> tuple[str, str] | None:
    for signature, what in SIGNATURES:
        if start.startswith(signature):
            return what, UNPACK
    if start.startswith(UTF_16) or (len(start) > 3 and start[1::2].count(0) > len(start) // 4):
        return "text in UTF-16", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {file} > {new}"
    if b"\0" in start[:1000]:
        return "a binary file", UNPACK
    return None


def _of_text(text: str) -> tuple[str, str] | None:
    body = text.lstrip()
    if body.startswith("["):
        return _array(body)
    if body[:200].lower().startswith(("<!doctype", "<html", "<?xml")):
        return (
            "a web page (or XML)",
            "Download the data itself: this may be the page that shows it.",
        )
    first, _, rest = body.partition("\n")
    row = _object(first)
    if row is not None:
        return _layout(row)
    if _object(body) is not None:
        return (
            "one JSON object over several lines",
            "Write each example on one line: jq -c . {file} > {new}",
        )
    return _table(first, rest)


def _array(body: str) -> tuple[str, str]:
    rows = _object(body[1:].lstrip())
    layout = _layout(rows) if rows is not None else None
    of_rows = f" of {layout[0]}" if layout else ""
    then = f"\n{layout[1]}" if layout else ""
    return (
        f"one JSON array{of_rows}",
        "Write each element on a line of its own: jq -c '.[]' {file} > {new}" + then,
    )


def _layout(row: dict[str, Any]) -> tuple[str, str] | None:
    for columns, what, ours in LAYOUTS:
        if columns <= set(row):
            return what, f"Write each as {ours}."
    return None


def _table(first: str, rest: str) -> tuple[str, str] | None:
    """Tell a table by a header whose separator stands in the next line, too."""
    second = rest.partition("\n")[0]
    for separator, name in ((",", "CSV"), (";", "CSV with semicolons"), ("\t", "TSV")):
        columns = [column.strip().strip('"') for column in first.split(separator)]
        if 2 <= len(columns) <= 100 and separator in second and all(map(_is_name, columns)):
            shown = ", ".join(columns[:6])
            return (
                f"a {name} table (columns {shown})",
                'Write each row as {"prompt": ..., "completion": ...} on a line of its own, for '
                "example with Python's csv and json modules.",
            )
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
