"""What may stand on the queue, and what is refused."""

from __future__ import annotations

import pickle
from datetime import datetime
from typing import Any

import orjson
import pytest
from huey.registry import Message

from daemon.queue.serializer import MAX_BYTES, JsonSerializer

SERIALIZER = JsonSerializer()


def message(**values: Any) -> Message:
    return Message(**{"id": "1", "name": "daemon.job_queue.run_job", "args": ("job",), **values})


def test_a_message_comes_back_as_it_was() -> None:
    sent = message(
        eta=datetime(2026, 11, 22, 22, 0, 0, 123),
        expires_resolved=datetime(2026, 11, 23),
        retries=0,
        retry_delay=0,
        priority=3.5,
        kwargs={},
    )
    back = SERIALIZER.deserialize(SERIALIZER.serialize(sent))
    assert back == sent
    assert isinstance(back, Message)
    assert isinstance(back.args, tuple)


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1},
        "text",
        None,
        (None, False),
        message(on_complete=message()),
        message(chord_config=("a", 1, 0, message())),
        message(args=("x" * MAX_BYTES,)),
    ],
)
def test_nothing_else_is_put_on_the_queue(value: Any) -> None:
    with pytest.raises(TypeError):
        SERIALIZER.serialize(value)


def wire(**fields: Any) -> bytes:
    return orjson.dumps({"message": {"id": "1", "name": "run_job", "args": ["job"], **fields}})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"{" * 5000,
        pickle.dumps(message()),
        wire(args=[1]),
        wire(args=[]),
        wire(args=["job", "job"]),
        wire(args=[["job"]]),
        wire(args="job"),
        wire(kwargs={"job_id": "job"}),
        wire(on_complete={"id": "2"}),
        wire(chord_config=[1, 2]),
        wire(id=""),
        wire(name=None),
        wire(name=["run_job"]),
        wire(retries=True),
        wire(retries="1"),
        wire(eta="tomorrow"),
        wire(eta="2026-11-22T22:00:00+00:00"),
        wire(unknown=1),
        wire(args=["x" * MAX_BYTES]),
        orjson.dumps({"message": {}, "revocation": [None, True]}),
        orjson.dumps({"revocation": [None, True]}),
    ],
)
def test_everything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        SERIALIZER.deserialize(data)
