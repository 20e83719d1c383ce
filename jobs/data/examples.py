"""Reading training data: JSON Lines in, examples or precise complaints out.

A row has one of three forms, looked for in this order: ``{"prompt", "completion"}``,
``{"messages": [{"role", "content"}, ...]}`` and ``{"text"}``; ``metadata`` may stand beside any of
them. Nothing here needs a tokenizer: `farense enqueue` refuses bad data without loading a model.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from jobs.data.foreign_form import other_form
from jobs.errors import DataError
from jobs.storage.values import printable

MAX_LINE_BYTES = 10_000_000
SHOWN_PROBLEMS = 10
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FORMS = '{"prompt", "completion"}, {"messages": [...]} or {"text"}'

# Keys that others write and that change what is to be learned.
_NO_TOOLS = "the conversation would be learned without its tools"
_NO_REASONING = "the answer would be learned without its reasoning"
_NO_WEIGHT = "the answer would be learned like all others; take the line out, or the key"
WEIGHTS = ("weight", "train")
UNUSED_OF_ROW = {
    "tools": _NO_TOOLS,
    "functions": _NO_TOOLS,
    "system": 'it would not be read; write it as the first message of "messages"',
    "images": "the pictures would not be seen",
    "weight": _NO_WEIGHT,
    "train": _NO_WEIGHT,
    "reasoning_content": _NO_REASONING,
    "reasoning": _NO_REASONING,
    "thinking": _NO_REASONING,
}
UNUSED_OF_MESSAGE = {
    "tool_calls": _NO_TOOLS,
    "function_call": _NO_TOOLS,
    "tool_call_id": _NO_TOOLS,
    "reasoning_content": _NO_REASONING,
    "reasoning": _NO_REASONING,
    "thinking": _NO_REASONING,
}
UNUSED_OF_ANSWER = {"weight": _NO_WEIGHT, "train": _NO_WEIGHT}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True)
class Origin:
    """Where an example stands: a file and a line, counted from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


@dataclass(frozen=True)
class Dialogue:
    """A conversation whose last answer is learned. Equal when the texts are equal.

    Attributes:
        context: an optional system message, then user and assistant turns, ending with a user's.
        completion: the assistant's answer to it.
    """

    context: tuple[Message, ...]
    completion: str
    origin: Origin | None = field(default=None, compare=False)
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Document:
    """A text that is learned whole. Equal when the texts are equal."""

    text: str
    origin: Origin | None = field(default=None, compare=False)
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)


Example = Dialogue | Document


def located(row: Example, message: str) -> str:
    """Return ``message``, opened by the row's file and line where they are known."""
    return f"{row.origin}: {message}" if row.origin else message


class ProblemKind(StrEnum):
    """What is wrong with a line, in a word."""

    BROKEN = "broken"
    EMPTY = "empty"


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used, and why."""

    line: int
    reason: str
    kind: ProblemKind = ProblemKind.BROKEN


class _RowError(Exception):
    """Why a row is refused; becomes a :class:`Problem` with the number of its line."""

    def __init__(self, reason: str, kind: ProblemKind = ProblemKind.BROKEN) -> None:
        super().__init__(reason)
        self.kind = kind


def read_examples(path: Path) -> list[Example]:
    """Return the examples in a JSON Lines file.

    Raises:
        DataError: the file is missing, unreadable or empty, or has bad lines; the first of them are
            named with what was expected there.
    """
    examples: list[Example] = []
    problems: list[Problem] = []
    for _, found in scan_examples(path):
        if isinstance(found, Problem):
            problems.append(found)
            if len(problems) > SHOWN_PROBLEMS:
                break
        else:
            examples.append(found)
    if problems:
        raise (other_form(path) if not examples else None) or _refusal(path, problems)
    if not examples:
        raise DataError(f"{path} holds no examples.", f"Each line should be one object: {FORMS}.")
    return examples


def scan_examples(path: Path) -> Iterator[tuple[int, Example | Problem]]:
    """Yield each line's number, from 1, and what it holds; blank lines are passed over.

    Raises:
        DataError: the file is missing or unreadable.
    """
    for number, line in _numbered_lines(path):
        try:
            yield number, _example(line, Origin(path, number))
        except _RowError as error:
            yield number, Problem(number, str(error), error.kind)


def _refusal(path: Path, problems: list[Problem]) -> DataError:
    lines = [f"  line {problem.line}: {problem.reason}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append("  and more")
    return DataError(
        "\n".join([f"{path} has lines that cannot be used:", *lines]),
        f"`farense data check {shlex.quote(str(path))}` lists all of them.",
    )


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                rest = line
                while rest and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES)
                if number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _example(line: bytes, origin: Origin) -> Example:
    row = _parsed(line)
    if not isinstance(row, dict):
        raise _RowError(f"expected an object, {FORMS}; found {_kind_of(row)}")
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    _refuse_unused(row, UNUSED_OF_ROW)
    _refuse_two_forms(row)
    if "prompt" in row or "completion" in row:
        prompt, completion = _text(row, "prompt"), _text(row, "completion")
        return Dialogue((Message("user", prompt),), completion, origin, metadata)
    if "messages" in row:
        *context, last = _messages(row["messages"])
        return Dialogue(tuple(context), last.content, origin, metadata)
    if "text" in row:
        return Document(_text(row, "text"), origin, metadata)
    keys = ", ".join(_quoted(key) for key in islice(row, 5)) or "no keys"
    raise _RowError(f"expected {FORMS}; found {keys[:120]}")


def _refuse_two_forms(row: dict[str, Any]) -> None:
    """Refuse a row that says in two forms what is to be learned: one would be dropped."""
    forms = {"prompt": "prompt", "completion": "prompt", "messages": "messages", "text": "text"}
    found = {forms[key]: key for key in forms if row.get(key) not in (None, "", [])}
    if len(found) > 1:
        keys = " and ".join(f'"{key}"' for key in found.values())
        raise _RowError(f"{keys} stand side by side; expected one of {FORMS}")


def _parsed(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise _RowError(f"longer than {MAX_LINE_BYTES // 1_000_000} MB; expected one example")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _RowError(f"not UTF-8 at byte {error.start + 1}; expected UTF-8 text") from error
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if "surrogate" in error.msg:
            raise _RowError("half a surrogate pair (\\ud800 ...), which is no character") from error
        reason = f"not valid JSON at column {error.colno}: {error.msg}"
        raise _RowError(f"{reason}; expected one object on one line") from error


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _RowError('"messages": expected a list of {"role", "content"}')
    for number, item in enumerate(value, start=1):
        _refuse_unused(item, UNUSED_OF_MESSAGE, f"message {number}: ")
    if value:
        _refuse_unused(value[-1], UNUSED_OF_ANSWER, f"message {len(value)}: ")
    messages = [
        Message(_text(item, "role"), _text(item, "content", f"message {number}: "))
        for number, item in enumerate(value, start=1)
    ]
    turns = [message.role for message in messages]
    if turns[:1] == ["system"]:
        turns = turns[1:]
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        roles = ", ".join(_quoted(message.role) for message in messages[:8])
        raise _RowError(
            '"messages": expected user and assistant in turns (after a system message, if any), '
            f"ending with assistant; found {roles[:120] or 'none'}"
        )
    return messages


def _refuse_unused(row: dict[str, Any], unused: Mapping[str, str], where: str = "") -> None:
    """Refuse a key that changes what is to be learned and that nothing here makes use of.

    An empty value, and the weight that everything has, change nothing.
    """
    for key, reason in unused.items():
        value = row.get(key)
        if value is None or value in ("", [], {}):
            continue
        if key in WEIGHTS and isinstance(value, bool | int | float) and value == 1:
            continue
        raise _RowError(f'{where}"{key}" is not supported: {reason}')


def _text(row: dict[str, Any], key: str, where: str = "") -> str:
    value = row.get(key)
    if key not in row:
        raise _RowError(f'{where}"{key}" is missing')
    if not isinstance(value, str):
        raise _RowError(f'{where}"{key}": expected text, found {_kind_of(value)}')
    if not value.strip():
        raise _RowError(f'{where}"{key}" is empty', ProblemKind.EMPTY)
    return value


def _quoted(text: str) -> str:
    """Return ``text`` as JSON writes it: a terminal must not obey what stands in a file."""
    return printable(orjson.dumps(text).decode())


def _kind_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names[type(value)]
