"""What open pages are sent: what has changed, once; and nothing is looked at without them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from daemon.page import live as module
from daemon.page.live import Live


class Told:
    """Values of topics that a test changes, and how often each was asked for."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.asked: Counter[str] = Counter()

    def see(self, topic: str) -> Any:
        self.asked[topic] += 1
        value = self.values[topic]
        if isinstance(value, Exception):
            raise value
        return value


async def heard(stream: AsyncIterator[bytes]) -> tuple[str, Any]:
    """Return the next topic and value of a stream; ("beat", None) for a beat."""
    async with asyncio.timeout(20):
        while True:
            event = await anext(stream)
            if event.startswith(b"data: "):
                found = orjson.loads(event[6:])
                return found["topic"], found.get("value")


def test_what_has_not_changed_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.2)
    told = Told()
    told.values = {"a": 1, "b": 1}

    async def follow() -> None:
        live = Live(told.see, 0.01)
        stream = live.follow(["a", "b"])
        assert {await heard(stream), await heard(stream)} == {("a", 1), ("b", 1)}
        assert await heard(stream) == ("beat", None)
        told.values["b"] = 2
        assert await heard(stream) == ("b", 2)
        assert told.asked["a"] > 2
        await live.close()

    asyncio.run(follow())


def test_two_pages_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.values = {"a": 1}

    async def follow() -> None:
        live = Live(told.see, 60)
        streams = [live.follow(["a"]) for _ in range(5)]
        assert [await heard(stream) for stream in streams] == [("a", 1)] * 5
        assert told.asked["a"] <= 6
        await live.close()

    asyncio.run(follow())


def test_nothing_is_looked_at_once_the_last_page_is_closed() -> None:
    told = Told()
    told.values = {"a": 1}

    async def follow() -> None:
        live = Live(told.see, 0.01)
        stream = live.follow(["a"])
        await heard(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        async with asyncio.timeout(20):
            while live._looking is not None:
                await asyncio.sleep(0)
        before = told.asked["a"]
        await asyncio.sleep(0)
        assert (live.pages, told.asked["a"]) == (0, before)
        again = live.follow(["a"])
        assert await heard(again) == ("a", 1)
        await live.close()

    asyncio.run(follow())


def test_a_view_that_fails_ends_no_other() -> None:
    told = Told()
    told.values = {"bad": RuntimeError("a fault"), "good": 1}

    async def follow() -> None:
        live = Live(told.see, 0.01)
        stream = live.follow(["bad", "good"])
        found = dict([await heard(stream), await heard(stream)])
        assert found["good"] == 1 and "could not read" in found["bad"]["error"]
        told.values["bad"] = 2
        assert await heard(stream) == ("bad", 2)
        await live.close()

    asyncio.run(follow())
