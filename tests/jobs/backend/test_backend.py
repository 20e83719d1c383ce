"""The backends that may be asked for."""

from __future__ import annotations

from jobs.backend.backend import BACKENDS
from jobs.backend.choice import NAMES


def test_every_backend_that_may_be_asked_for_is_there() -> None:
    assert tuple(BACKENDS) == NAMES
