"""How it stands with the messages of a workspace, kept from one sender to the next."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from daemon.notify.paths import NotifyFolder
from jobs.errors import FarenseError
from jobs.storage.files import read_json, write_json
from jobs.storage.values import well_typed


@dataclass(frozen=True)
class Standing:
    """What a sender keeps. Times are seconds since the epoch.

    Attributes:
        last: when a message of a kind was last sent, by the key of the address and the kind.
        held: when jobs were last held, by the reason.
        watched: the pid of a daemon that has not taken its leave; None where none is missed.
        boot: the time since the machine was started in which it ran (:func:`daemon.host.boot_id`).
        seen: when it was last there.
    """

    last: dict[str, dict[str, float]] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    watched: int | None = None
    boot: str | None = None
    seen: float = 0.0


def read_standing(folder: NotifyFolder) -> Standing:
    """Return what was kept; a new one where there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        values: Any = read_json(folder.standing)
        found = Standing(**values)
        times = [time for kinds in (*found.last.values(), found.held) for time in kinds.values()]
        if well_typed(found) and all(isinstance(t, int | float) for t in times):
            return found
    return Standing()


def write_standing(folder: NotifyFolder, standing: Standing) -> None:
    """Keep it; on a full disk it is not kept."""
    with suppress(FarenseError):
        write_json(folder.standing, asdict(standing))
