"""What changes, sent as it changes: server-sent events to every open page.

While a page is open each topic that some page follows is looked up once a second, once for all of
them, in a thread; what has not changed is not sent. With no page open nothing is done at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson

from jobs.storage.files import plain

LOOK_SECONDS = 1.0
# A page that hears nothing for some of these beats takes its server for gone.
BEAT_SECONDS = 4.0
BEAT = b'data: {"topic":"beat"}\n\n'


class Live:
    """Follows topics for the pages that are open.

    Args:
        see: returns the value of a topic; called in a thread, never twice at once.
    """

    def __init__(self, see: Callable[[str], Any], seconds: float = LOOK_SECONDS) -> None:
        self._see, self._seconds = see, seconds
        self._followed: Counter[str] = Counter()
        self._values: dict[str, tuple[str, bytes]] = {}
        self._changed, self._wake = asyncio.Condition(), asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """End the streams of all pages: the server ends."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    @property
    def pages(self) -> int:
        """How many topics are followed, each page's counted."""
        return self._followed.total()

    async def follow(self, topics: Sequence[str]) -> AsyncIterator[bytes]:
        """Yield the values of some topics as events of a stream: now, and when they change."""
        self._followed.update(topics)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        self._wake.set()
        sent: dict[str, str] = {}
        try:
            yield b"retry: 1000\n\n"
            while not self._closed:
                new = [(t, *self._values[t]) for t in topics if self._is_new(t, sent)]
                for topic, digest, event in new:
                    sent[topic] = digest
                    yield event
                if not new and not await self._something(topics, sent):
                    yield BEAT
        finally:
            self._followed.subtract(topics)
            self._followed += Counter()

    def _is_new(self, topic: str, sent: dict[str, str]) -> bool:
        return topic in self._values and self._values[topic][0] != sent.get(topic)

    async def _something(self, topics: Sequence[str], sent: dict[str, str]) -> bool:
        """Wait for a change; tell whether there was one before the next beat."""
        try:
            async with asyncio.timeout(BEAT_SECONDS), self._changed:
                await self._changed.wait_for(
                    lambda: self._closed or any(self._is_new(t, sent) for t in topics)
                )
        except TimeoutError:
            return False
        return True

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        while self._followed and not self._closed:
            self._wake.clear()
            topics = [topic for topic, count in self._followed.items() if count > 0]
            self._values = {t: v for t, v in self._values.items() if t in topics}
            for topic in topics:
                value = await loop.run_in_executor(None, self._event, topic)
                if self._values.get(topic, ("",))[0] != value[0]:
                    self._values[topic] = value
                    async with self._changed:
                        self._changed.notify_all()
            try:
                async with asyncio.timeout(self._seconds):
                    await self._wake.wait()  # a page that was just opened does not wait
            except TimeoutError:
                pass
        self._values.clear()
        self._looking = None

    def _event(self, topic: str) -> tuple[str, bytes]:
        try:
            value = self._see(topic)
        except Exception:
            # One view that fails must not end all others; its page says so.
            traceback.print_exc(file=sys.stderr)
            value = {"error": "farense could not read this: its own log says why.", "hint": None}
        text = orjson.dumps({"topic": topic, "value": plain(value)})
        return hashlib.sha256(text).hexdigest(), b"data: " + text + b"\n\n"
