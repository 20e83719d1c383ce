"""The messages of a conversation, and the tools that stand beside them: read, or refused.

They are those of OpenAI's chat format as TRL, mlx-lm and chat templates take it. What others write
in another way and mean the same is read as the same: arguments of a call as text or as an object,
reasoning under three names, a tool without ``{"type": "function", "function": ...}`` around it.
Pure; no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from jobs.storage.values import printable

SYSTEM, DEVELOPER, USER, ASSISTANT, TOOL = "system", "developer", "user", "assistant", "tool"
# Who may speak after whom; before the first message stands nobody.
AFTER = {
    "": {SYSTEM, DEVELOPER, USER},
    SYSTEM: {DEVELOPER, USER},
    DEVELOPER: {USER},
    USER: {ASSISTANT},
    ASSISTANT: {USER},
    TOOL: {TOOL, ASSISTANT},
}
# One thing, as different servers name it.
REASONING = ("reasoning_content", "reasoning", "thinking")
WEIGHTS = ("weight", "train")

# Keys that others write and that change what is to be learned.
_NO_WEIGHT = "the answer would be learned like all others; take the line out, or the key"
_OF_ASSISTANT = "only an assistant's message may have it"
_OLD_CALLS = 'write it as "tool_calls", and the answer with the role "tool"'
_IN_A_MESSAGE = 'it would not be read; write it in the assistant\'s message of "messages"'
UNUSED_OF_ROW = {
    "functions": 'it would not be read; write them as "tools", and calls as "tool_calls"',
    "system": 'it would not be read; write it as the first message of "messages"',
    "images": "the pictures would not be seen",
    "weight": _NO_WEIGHT,
    "train": _NO_WEIGHT,
    **dict.fromkeys(REASONING, _IN_A_MESSAGE),
}
UNUSED_OF_MESSAGE = {"function_call": _OLD_CALLS}
UNUSED_OF_OTHERS = dict.fromkeys(("tool_calls", *REASONING), _OF_ASSISTANT)
UNUSED_OF_ANSWER = {"weight": _NO_WEIGHT, "train": _NO_WEIGHT}


@dataclass(frozen=True)
class ToolCall:
    """A call that an assistant makes; ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``developer``, ``user``, ``assistant`` or ``tool``.
        content: its words; may be empty beside tool calls, and in what a tool answers.
        reasoning: what the assistant thought before it.
        name: of the tool that answers.
        tool_call_id: of the call that is answered.
        learned: whether this answer is, where all answers of a conversation are.
    """

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None
    learned: bool = True


class ProblemKind(StrEnum):
    """What is wrong with a line, in a word."""

    BROKEN = "broken"
    EMPTY = "empty"


class RowError(Exception):
    """Why a row is refused; whoever knows its line turns it into a problem of that line."""

    def __init__(self, reason: str, kind: ProblemKind = ProblemKind.BROKEN) -> None:
        super().__init__(reason)
        self.kind = kind


def read_messages(value: Any) -> list[Message]:
    """Return the messages of a row, of which the last is the assistant's.

    Raises:
        RowError: they are no conversation, or hold what nothing here makes use of.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RowError('"messages": expected a list of {"role", "content"}')
    if value:
        refuse_unused(value[-1], UNUSED_OF_ANSWER, f"message {len(value)}: ")
    messages = [_message(item, f"message {number}: ") for number, item in enumerate(value, 1)]
    _check_turns(messages)
    return messages


def read_tools(value: Any) -> str | None:
    """Return the tools that stand beside messages, as the text of a JSON list; None for none.

    Raises:
        RowError: they are no tools.
    """
    if value is None or value in ("", [], {}):
        return None
    tools = _parsed(value, '"tools"', "a list of tools")
    if not isinstance(tools, list):
        raise RowError(f'"tools": expected a list, found {kind_of(tools)}')
    read = [_tool(tool, number) for number, tool in enumerate(tools, start=1)]
    return orjson.dumps(read).decode() if read else None


def refuse_unused(row: Mapping[str, Any], unused: Mapping[str, str], where: str = "") -> None:
    """Refuse a key that changes what is to be learned and that nothing here makes use of.

    An empty value, and the weight that everything has, change nothing.
    """
    for key, reason in unused.items():
        value = row.get(key)
        if value is None or value in ("", [], {}):
            continue
        if key in WEIGHTS and isinstance(value, bool | int | float) and value == 1:
            continue
        raise RowError(f'{where}"{key}" is not supported: {reason}')


def text_of(row: Mapping[str, Any], key: str, where: str = "", *, empty: bool = False) -> str:
    """Return a text of a row.

    Args:
        empty: it may be empty.
    """
    value = row.get(key)
    if key not in row:
        raise RowError(f'{where}"{key}" is missing')
    if not isinstance(value, str):
        raise RowError(f'{where}"{key}": expected text, found {kind_of(value)}')
    if not empty and not value.strip():
        raise RowError(f'{where}"{key}" is empty', ProblemKind.EMPTY)
    return value


def quoted(text: str) -> str:
    """Return ``text`` as JSON writes it: a terminal must not obey what stands in a file."""
    return printable(orjson.dumps(text).decode())


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names[type(value)]


def _message(item: dict[str, Any], where: str) -> Message:
    refuse_unused(item, UNUSED_OF_MESSAGE, where)
    role = text_of(item, "role", where)
    if role != ASSISTANT:
        refuse_unused(item, UNUSED_OF_OTHERS, where)
    if role == TOOL:
        return Message(
            role,
            _content(item, where, empty=True),
            name=_optional(item, "name", where),
            tool_call_id=_optional(item, "tool_call_id", where),
        )
    if role != ASSISTANT:
        return Message(role, _content(item, where))
    calls = _calls(item.get("tool_calls"), where)
    if item.get("content", "") is None and not calls:
        raise RowError(f'{where}"content" is null, and there are no "tool_calls"')
    # Beside calls nothing has to be said: null, then.
    words = item if not calls or item.get("content") is not None else {"content": ""}
    return Message(
        role,
        _content(words, where, empty=bool(calls)),
        _reasoning(item, where),
        calls,
        learned=_is_learned(item, where),
    )


def _content(item: Mapping[str, Any], where: str, *, empty: bool = False) -> str:
    if isinstance(item.get("content"), list):
        raise RowError(
            f'{where}"content": expected text, found a list (`farense data import` joins parts '
            "that are text)"
        )
    return text_of(item, "content", where, empty=empty)


def _is_learned(item: Mapping[str, Any], where: str) -> bool:
    weights = [item[key] for key in WEIGHTS if item.get(key) is not None]
    for weight in weights:
        if not isinstance(weight, bool | int | float) or weight not in (0, 1):
            raise RowError(f'{where}"weight" is {quoted(str(weight))}; an answer is learned or not')
    return all(weights)


def _reasoning(item: Mapping[str, Any], where: str) -> str | None:
    found = {key: text_of(item, key, where) for key in REASONING if item.get(key)}
    if len(set(found.values())) > 1:
        keys = " and ".join(f'"{key}"' for key in found)
        raise RowError(f"{where}{keys} differ; they mean the same")
    return next(iter(found.values()), None)


def _optional(item: Mapping[str, Any], key: str, where: str) -> str | None:
    return None if item.get(key) is None else text_of(item, key, where)


def _calls(value: Any, where: str) -> tuple[ToolCall, ...]:
    if value is None or value in ("", [], {}):
        return ()
    if not isinstance(value, list):
        raise RowError(f'{where}"tool_calls": expected a list, found {kind_of(value)}')
    return tuple(
        _call(item, f"{where}tool call {number}: ") for number, item in enumerate(value, 1)
    )


def _call(item: Any, where: str) -> ToolCall:
    if not isinstance(item, dict):
        raise RowError(f"{where}expected an object, found {kind_of(item)}")
    function = item.get("function", item)
    if not isinstance(function, dict):
        raise RowError(f'{where}"function": expected an object, found {kind_of(function)}')
    name = text_of(function, "name", where)
    given = function.get("arguments")
    arguments = {} if given is None else _parsed(given, f'{where}"arguments"', "a JSON object")
    if not isinstance(arguments, dict):
        raise RowError(f'{where}"arguments": expected an object, found {kind_of(arguments)}')
    return ToolCall(name, orjson.dumps(arguments).decode(), _optional(item, "id", where))


def _tool(item: Any, number: int) -> dict[str, Any]:
    where = f'"tools": tool {number}: '
    if not isinstance(item, dict):
        raise RowError(f"{where}expected an object, found {kind_of(item)}")
    function = item.get("function", item)
    if not isinstance(function, dict):
        raise RowError(f'{where}"function": expected an object, found {kind_of(function)}')
    text_of(function, "name", where)
    return item if "function" in item else {"type": "function", "function": item}


def _parsed(value: Any, where: str, expected: str) -> Any:
    """Return what a value is, or what a text says that it is."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise RowError(
            f"{where}: expected {expected}, found text that is no JSON: {error}"
        ) from error


def _check_turns(messages: Sequence[Message]) -> None:
    before = Message("", "")
    for message in messages:
        allowed = AFTER[before.role] | ({TOOL} if before.tool_calls else set())
        if message.role not in allowed:
            break
        before = message
    else:
        if before.role == ASSISTANT:
            return
    roles = ", ".join(quoted(message.role) for message in messages[:8])
    tools = (
        "; a tool answers the tool_calls of an assistant"
        if any(message.role == TOOL for message in messages)
        else ""
    )
    raise RowError(
        '"messages": expected user and assistant in turns (after a system message, if any), '
        f"ending with assistant{tools}; found {roles[:120] or 'none'}"
    )
