"""Conversations as ShareGPT, OpenAI and those after them write them, as messages of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from jobs.data.messages import REASONING, UNUSED_OF_MESSAGE, WEIGHTS, RowError

# What speakers are called -> the role that they have.
ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model", "ai"), "assistant"),
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    "function_call": "assistant",
}
# Beside role and content; whether each can be learned, the reader of our rows judges.
KEPT_OF_MESSAGE = frozenset(
    {
        "name",
        "tool_calls",
        "tool_call_id",
        *REASONING,
        *WEIGHTS,
        *UNUSED_OF_MESSAGE,
    }
)


def conversation(value: Any, key: str, system: str | None) -> list[dict[str, Any]]:
    """Return the messages of a conversation.

    Args:
        key: where it stands, for who is told of a fault.
        system: a system message that stands beside it.

    Raises:
        RowError: it is none.
    """
    turns = parsed(value)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RowError(f'"{key}": expected a list of messages')
    messages: list[dict[str, Any]] = []
    calls: list[str] = []
    made = 0
    for number, turn in enumerate(turns, start=1):
        where = f'"{key}", message {number}: '
        if "from" in turn and "role" not in turn:
            message = _of_sharegpt(turn, where, made, calls)
            made += len(message.get("tool_calls", ()))
        else:
            message = _of_openai(turn, where)
        messages.append(message)
    if system is not None:
        first = messages[0] if messages else {}
        if first.get("role") != "system":
            return [{"role": "system", "content": system}, *messages]
        if first.get("content") != system:
            raise RowError(f'"{key}" opens with a system message, and another stands beside it')
    return messages


def system_of(values: Mapping[str, Any], column: str | None) -> str | None:
    """Return the system message that stands in a column of its own.

    Raises:
        RowError: it is no text.
    """
    value = values.get(column) if column else None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        raise RowError(f'"{column}": expected text')
    return value


def tools_of(value: Any) -> list[Any] | None:
    """Return the tools of a conversation in OpenAI's form; None where there are none.

    Raises:
        RowError: they are no list.
    """
    tools = parsed(value)
    if tools in (None, "", [], {}):
        return None
    if not isinstance(tools, list):
        raise RowError('"tools": expected a list, or JSON text of one')
    return [_tool(_without_nulls(tool)) for tool in tools]


def parsed(value: Any) -> Any:
    """Return what a text holds as JSON, where it is a list or an object; else ``value``."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _tool(tool: Any) -> Any:
    bare = isinstance(tool, dict) and "function" not in tool and "name" in tool
    return {"type": "function", "function": tool} if bare else tool


def _of_openai(turn: dict[str, Any], where: str) -> dict[str, Any]:
    said = turn.get("content")
    role = turn.get("role")
    message: dict[str, Any] = {"role": role}
    if isinstance(role, str):
        # Speakers are called so in files that are half ShareGPT.
        message["role"] = ROLES.get(role, role) if role != "function_call" else role
    message["content"] = _joined(said, where) if isinstance(said, list) else said
    kept = {key: value for key, value in turn.items() if key in KEPT_OF_MESSAGE}
    return message | {
        key: _without_nulls(value) for key, value in kept.items() if value is not None
    }


def _joined(parts: list[Any], where: str) -> str:
    """Return the text of a content that is given in parts."""
    texts = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            raise RowError(f"{where}a part that is no text ({str(kind)[:40]})")
        texts.append(part["text"])
    return "".join(texts)


def _of_sharegpt(turn: dict[str, Any], where: str, made: int, calls: list[str]) -> dict[str, Any]:
    """Return a turn of ``from`` and ``value``.

    Args:
        made: calls in the turns before it: by their numbers they are named.
        calls: names of those that are not answered yet; changed.
    """
    speaker, said = turn["from"], turn.get("value")
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        known = ", ".join(ROLES)
        raise RowError(f"{where}nobody is called {str(speaker)[:40]!r}; known are {known}")
    kept = {
        key: value for key, value in turn.items() if key in KEPT_OF_MESSAGE and value is not None
    }
    if speaker == "function_call":
        found = _calls(said, where, made)
        calls += [call["id"] for call in found]
        return {"role": role, "content": None, "tool_calls": found}
    if role == "tool" and calls:
        kept["tool_call_id"] = calls.pop(0)
    return {"role": role, "content": said, **kept}


def _calls(said: Any, where: str, made: int) -> list[dict[str, Any]]:
    value = parsed(said)
    calls = []
    for call in value if isinstance(value, list) else [value]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise RowError(f"{where}expected a call as JSON, with name and arguments")
        arguments = call.get("arguments", call.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        function = {"name": call["name"], "arguments": arguments}
        made += 1
        # Of nine letters and digits: Mistral's templates insist on that.
        calls.append({"id": f"call{made:05}", "type": "function", "function": function})
    return calls


def _without_nulls(value: Any) -> Any:
    """Return a value without empty keys: a table gives each row the keys of all rows."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
