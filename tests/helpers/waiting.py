"""Waiting for a condition: the only place of the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

TIMEOUT = 30.0
INTERVAL = 0.02


def wait_until(
    condition: Callable[[], Value | None],
    what: str = "the condition",
    timeout: float = TIMEOUT,
    interval: float = INTERVAL,
) -> Value:
    """Return the first truthy value of ``condition``; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {timeout:.0f} s")
        time.sleep(interval)
    return value
