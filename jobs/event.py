"""The base of everything that a job says; the events themselves are in :mod:`jobs.events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Event:
    """Base of all events; ``kind`` is what stands under ``event``."""

    kind: ClassVar[str]
