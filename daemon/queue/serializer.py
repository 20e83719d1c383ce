"""How messages stand on the queue: JSON of one shape, and never pickle.

Huey pickles by default, and whoever can write to the queue could then run code in the daemon. Here
a message is a JSON object with Huey's own fields, each of a type from a list; everything else is
refused before anything is made of it. farense's messages carry one job id and nothing more: tasks
have no callbacks, no chords and no results.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from huey.registry import Message

MAX_BYTES = 16_384
NUMBER = (int, float)
TIMES = ("eta", "expires", "expires_resolved")

# What each field of a message may hold, beside null.
FIELDS: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "name": (str,),
    "eta": (str,),
    "retries": (int,),
    "retry_delay": NUMBER,
    "priority": NUMBER,
    "args": (list,),
    "kwargs": (dict,),
    "expires": (str,),
    "expires_resolved": (str,),
    "timeout": NUMBER,
    "retry_backoff": NUMBER,
}
MESSAGE = "message"


class JsonSerializer:
    """Huey's serializer interface over JSON, for messages alone."""

    def serialize(self, data: Any) -> bytes:
        """Return ``data`` as JSON.

        Raises:
            TypeError: it is no message of the allowed shape.
        """
        if isinstance(data, Message):
            fields = {name: _plain(value) for name, value in data._asdict().items()}
            extra = [n for n, value in fields.items() if n not in FIELDS and value is not None]
            if extra:
                raise TypeError(f"messages carry no {', '.join(extra)}")
            values = {name: fields[name] for name in FIELDS if fields[name] is not None}
            return _sized({MESSAGE: values})
        raise TypeError(f"only messages are put on the queue, not {type(data).__name__}")

    def deserialize(self, data: bytes) -> Any:
        """Return the message in ``data``.

        Raises:
            ValueError: ``data`` is too large, is no JSON, or has another shape.
        """
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes, where {MAX_BYTES} are allowed")
        match orjson.loads(data):
            case {"message": dict() as fields, **rest} if not rest:
                return _message(fields)
        raise ValueError("not a message of farense")


def _message(fields: dict[str, Any]) -> Message:
    for name, value in fields.items():
        if name not in FIELDS:
            raise ValueError(f"unknown field {name[:40]!r}")
        # bool is an int to Python, and no number to us.
        if value is not None and (not isinstance(value, FIELDS[name]) or value is True):
            raise ValueError(f"{name} may not be {type(value).__name__}")
    arguments = fields.get("args") or []
    if [type(argument) for argument in arguments] != [str] or fields.get("kwargs"):
        raise ValueError("a message carries one job id")
    times = {name: _time(fields[name]) for name in TIMES if fields.get(name)}
    if not fields.get("id") or not fields.get("name"):
        raise ValueError("no id or no name")
    return Message(**{**fields, **times, "args": tuple(arguments), "kwargs": {}})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _time(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError("times on the queue have no zone")
    return value


def _sized(value: Any) -> bytes:
    data = orjson.dumps(value)
    if len(data) > MAX_BYTES:
        raise TypeError(f"a message of {len(data)} bytes, where {MAX_BYTES} are allowed")
    return data
