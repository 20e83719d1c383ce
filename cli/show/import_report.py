"""What ``farense data import`` did, as lines. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from jobs.data.examples import Document, Example
from jobs.data.messages import ToolCall
from jobs.storage.values import printable

if TYPE_CHECKING:
    from jobs.importing.importing import Imported

WIDTH = 100
SHOWN = 10
INDENT = "  "


def import_lines(done: Imported) -> Iterator[str]:
    """Yield what was read and how it was understood, what was written, and what was left out."""
    for name, kind in done.kinds.items():
        yield f"{printable(name)}: {kind}"
    for (name, why), count in done.forms.most_common():
        yield f"{INDENT}{_count(count)} in the form {printable(name)}, known by {printable(why)}"
    for columns, fate in (
        (done.kept, "kept in metadata, which is never trained on"),
        (done.unused, "not used"),
    ):
        if columns:
            yield from wrap(
                f"{fate}: {printable(', '.join(sorted(columns)))}",
                WIDTH,
                initial_indent=INDENT,
                subsequent_indent=INDENT * 2,
            )
    if done.left_out_count:
        yield f"{INDENT}left out: {_count(done.left_out_count, 'row')}"
        for row in done.left_out[:SHOWN]:
            file = f"{Path(row.file).name}, " if len(done.kinds) > 1 else ""
            yield from wrap(
                f"{printable(file)}{row.unit} {row.line}: {row.reason}",
                WIDTH,
                initial_indent=INDENT * 2,
                subsequent_indent=INDENT * 4,
            )
        if done.left_out_count > SHOWN:
            yield f"{INDENT * 2}and {done.left_out_count - SHOWN:,} more (--json lists them)"
    yield f"{done.train}: {_count(done.train_examples)}"
    if done.valid:
        yield f"{done.valid}: {_count(done.valid_examples)}"


def next_lines(done: Imported, workspace: Path, here: Path, model: str | None) -> Iterator[str]:
    """Yield what to type next.

    Args:
        workspace: data in it are named relative to it.
        here: the folder in which commands are typed.
        model: one that is there, to be trained.
    """
    files = [path for path in (done.train, done.valid) if path]
    checked = [shlex.quote(relative(path, here)) for path in files]
    data = [
        shlex.quote(f"data.{side}={relative(path, workspace)}")
        for side, path in zip(("train", "valid"), files, strict=False)
    ]
    valid = checked[1] if done.valid else "10%"
    yield "Next:"
    yield f"{INDENT}farense data check {checked[0]} --valid {valid} --format chat"
    without = [] if done.valid else ["data.valid=10%"]
    trained = [shlex.quote(f"model=models/{model}")] if model else []
    settings = " ".join(f"--set {setting}" for setting in (*trained, *data, *without))
    yield f"{INDENT}farense enqueue chat {settings}"


def plain_example(row: Example) -> Iterator[str]:
    """Yield an example without a model: what is learned stands between ``>>`` and ``<<``."""
    yield f"line {row.origin.line if row.origin else 0}"
    if isinstance(row, Document):
        texts = [f">>{row.text}<<"]
    else:
        *turns, answer = (
            (
                message.role,
                "\n".join(filter(None, (message.content, *map(_call, message.tool_calls)))),
            )
            for message in row.conversation
        )
        texts = [*(f"{role}: {said}" for role, said in turns), f"{answer[0]}: >>{answer[1]}<<"]
    yield from (f"    {line}".rstrip() for text in texts for line in text.split("\n"))


def _call(call: ToolCall) -> str:
    return f"{call.name}({call.arguments})"


def relative(path: Path, folder: Path) -> str:
    """Return how a path is written by who is in ``folder``."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _count(number: int, noun: str = "example") -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
