"""Reading training data: JSON Lines in, examples or precise complaints out.

A row has one of three forms, looked for in this order: ``{"prompt", "completion"}``,
``{"messages": [{"role", "content"}, ...]}`` (see :mod:`jobs.data.messages`) and ``{"text"}``;
``metadata`` may stand beside any of them, ``tools`` beside messages. Nothing here needs a
tokenizer: `farense enqueue` refuses bad data without loading a model.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson

from jobs.data.foreign_form import other_form
from jobs.data.messages import (
    ASSISTANT,
    SYSTEM,
    UNUSED_OF_ROW,
    USER,
    Message,
    ProblemKind,
    RowError,
    ToolCall,
    kind_of,
    quoted,
    read_messages,
    read_tools,
    refuse_unused,
    text_of,
)
from jobs.errors import DataError

MAX_LINE_BYTES = 10_000_000
SHOWN_PROBLEMS = 10
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PLAIN_ROLES = {SYSTEM, USER, ASSISTANT}
NO_MESSAGES = 'tools stand beside "messages"'
FORMS = '{"prompt", "completion"}, {"messages": [...]} or {"text"}'


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
        context: what stands before that answer: a system message, perhaps, then turns of user,
            assistant and tools, ending with a user's or a tool's.
        completion: the words of the assistant's answer to it; may be empty beside tool calls.
        reasoning: what the assistant thought before that answer.
        tool_calls: what it calls.
        tools: what it may call, as the text of a JSON list.
    """

    context: tuple[Message, ...]
    completion: str
    origin: Origin | None = field(default=None, compare=False)
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tools: str | None = None

    @property
    def answer(self) -> Message:
        """The answer as the message that it is."""
        return Message(ASSISTANT, self.completion, self.reasoning, self.tool_calls)

    @property
    def conversation(self) -> tuple[Message, ...]:
        """All messages, the answer among them."""
        return (*self.context, self.answer)

    @property
    def is_plain(self) -> bool:
        """Whether all of it is words of a system, a user and an assistant."""
        return self.tools is None and all(
            message.role in PLAIN_ROLES and message.reasoning is None and not message.tool_calls
            for message in self.conversation
        )


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


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used, and why."""

    line: int
    reason: str
    kind: ProblemKind = ProblemKind.BROKEN


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
    try:
        with path.open("rb") as file:
            for number, line in numbered_lines(file):
                yield number, read_row(line, Origin(path, number))
    except OSError as error:
        raise unreadable(path, error) from error


def read_row(line: bytes, origin: Origin) -> Example | Problem:
    """Return what a line holds, wherever it comes from: every row of training data passes here."""
    try:
        return _example(line, origin)
    except RowError as error:
        return Problem(origin.line, str(error), error.kind)


def read_object(line: bytes, number: int) -> dict[str, Any] | Problem:
    """Return the JSON object on a line, whatever its keys are."""
    try:
        row = _parsed(line)
    except RowError as error:
        return Problem(number, str(error), error.kind)
    return row if isinstance(row, dict) else Problem(number, f"no object, but {kind_of(row)}")


def _refusal(path: Path, problems: list[Problem]) -> DataError:
    lines = [f"  line {problem.line}: {problem.reason}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append("  and more")
    return DataError(
        "\n".join([f"{path} has lines that cannot be used:", *lines]),
        f"`farense data check {shlex.quote(str(path))}` lists all of them.",
    )


def numbered_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file and their numbers, from 1; blank ones are passed over.

    Of a line that is too long only so much is read as tells that it is.
    """
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


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error that says why a file cannot be read."""
    return DataError(f"{path} cannot be read: {error.strerror or error}.")


def _example(line: bytes, origin: Origin) -> Example:
    row = _parsed(line)
    if not isinstance(row, dict):
        raise RowError(f"expected an object, {FORMS}; found {kind_of(row)}")
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    refuse_unused(row, UNUSED_OF_ROW)
    _refuse_two_forms(row)
    if "messages" not in row:
        refuse_unused(row, {"tools": NO_MESSAGES})
    if "prompt" in row or "completion" in row:
        prompt, completion = text_of(row, "prompt"), text_of(row, "completion")
        return Dialogue((Message("user", prompt),), completion, origin, metadata)
    if "messages" in row:
        *context, last = read_messages(row["messages"])
        return Dialogue(
            tuple(context),
            last.content,
            origin,
            metadata,
            last.reasoning,
            last.tool_calls,
            read_tools(row.get("tools")),
        )
    if "text" in row:
        return Document(text_of(row, "text"), origin, metadata)
    keys = ", ".join(quoted(key) for key in islice(row, 5)) or "no keys"
    raise RowError(f"expected {FORMS}; found {keys[:120]}")


def _refuse_two_forms(row: dict[str, Any]) -> None:
    """Refuse a row that says in two forms what is to be learned: one would be dropped."""
    forms = {"prompt": "prompt", "completion": "prompt", "messages": "messages", "text": "text"}
    found = {forms[key]: key for key in forms if row.get(key) not in (None, "", [])}
    if len(found) > 1:
        keys = " and ".join(f'"{key}"' for key in found.values())
        raise RowError(f"{keys} stand side by side; expected one of {FORMS}")


def _parsed(line: bytes) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise RowError(f"longer than {MAX_LINE_BYTES // 1_000_000} MB; expected one example")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 at byte {error.start + 1}; expected UTF-8 text") from error
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if "surrogate" in error.msg:
            raise RowError("half a surrogate pair (\\ud800 ...), which is no character") from error
        reason = f"not valid JSON at column {error.colno}: {error.msg}"
        raise RowError(f"{reason}; expected one object on one line") from error
