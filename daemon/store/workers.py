"""Which daemons work on this queue: each says so as often as it renews a lease."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import orjson
from redis import Redis

from daemon.settings import Settings
from daemon.store import keys
from jobs.paths import Workspace
from jobs.state import DEFAULT_QUEUE
from jobs.storage.values import printable, well_typed

# A daemon that has not been heard of for a day is forgotten.
FORGOTTEN_SECONDS = 86_400
# A daemon says that it lives at least this often, however long its leases are.
LONGEST_SILENCE = 30.0


@dataclass(frozen=True)
class WorkerCard:
    """A daemon, as it told of itself.

    Attributes:
        name: ``host:pid``.
        workspace: its path on that host.
        queue: whose jobs it runs.
        job: the id of the job it runs.
        held_because: why it starts no job now.
        seconds_ago: since it was last heard of.
        silence_seconds: within which it says something.
        alive: it has done so.
        power: what a person should know of its machine's battery and heat; None where that is
            nothing, and of a daemon of an older version.
    """

    name: str
    workspace: str
    queue: str
    job: str | None
    held_because: str | None
    silence_seconds: float
    seconds_ago: float = 0.0
    alive: bool = True
    power: str | None = None


def own_name() -> str:
    """Return the name of the daemon in this process: ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Announcer:
    """Tells the queue of one daemon."""

    def __init__(self, redis: Redis, name: str, workspace: Workspace, settings: Settings) -> None:
        self._redis, self._name = redis, name
        self._workspace, self._queue = str(workspace.root), settings.queue
        self._seconds = min(settings.lease_seconds, LONGEST_SILENCE)
        self._said: tuple[str | None, ...] | None = None
        self._again_at = 0.0

    def tell(self, job: str | None, held_because: str | None, power: str | None = None) -> None:
        """Say what the daemon does, where that is new or was said long ago.

        Args:
            power: what a person should know of the machine's battery and heat.

        Raises:
            RedisError: the server is away.
        """
        said = (job, held_because, power)
        if said == self._said and time.monotonic() < self._again_at:
            return
        card = WorkerCard(
            self._name,
            self._workspace,
            self._queue,
            job,
            held_because,
            self._seconds,
            power=power,
        )
        values = {**asdict(card), "at": server_seconds(self._redis)}
        self._redis.hset(keys.WORKERS, self._name, orjson.dumps(values))
        self._said = said
        self._again_at = time.monotonic() + self._seconds / 3

    def leave(self) -> None:
        """Say that the daemon ends.

        Raises:
            RedisError: the server is away.
        """
        self._redis.hdel(keys.WORKERS, self._name)


def workers(redis: Redis) -> list[WorkerCard]:
    """Return the daemons of a queue by name; those long gone are forgotten.

    Raises:
        RedisError: the server is away.
    """
    now = server_seconds(redis)
    found = []
    for name, text in cast(dict[bytes, bytes], redis.hgetall(keys.WORKERS)).items():
        try:
            values = orjson.loads(text)
            ago = max(0.0, now - float(values.pop("at")))
            card = WorkerCard(**{**values, "seconds_ago": ago})
            alive = ago <= float(card.silence_seconds)
        except (ValueError, TypeError, KeyError, AttributeError):
            redis.hdel(keys.WORKERS, name)
            continue
        if ago > FORGOTTEN_SECONDS or not well_typed(card):
            redis.hdel(keys.WORKERS, name)
            continue
        found.append(WorkerCard(**{**asdict(card), "alive": alive}))
    return sorted(found, key=lambda card: str(card.name))


def server_seconds(redis: Redis) -> float:
    """Return the clock of the queue's server, in seconds.

    Raises:
        RedisError: the server is away.
    """
    seconds, microseconds = redis.time()
    return seconds + microseconds / 1e6


def why_nothing_starts(cards: Sequence[WorkerCard], queue_name: str) -> list[str]:
    """Return why nothing starts on a queue; nothing where some daemon takes jobs from it."""
    here = working(cards, queue_name)
    if not here:
        return [no_daemon(queue_name)]
    if not all(card.held_because for card in here):
        return []
    return [
        printable(f"The daemon {card.name} starts nothing: {card.held_because}.") for card in here
    ]


def power_lines(cards: Sequence[WorkerCard]) -> list[str]:
    """Return what is to be known of the power and the heat of daemons' machines, a line each."""
    return [printable(f"{card.name}: {card.power}.") for card in cards if card.alive and card.power]


def is_at(card: WorkerCard, workspace: Workspace) -> bool:
    """Tell whether a daemon is that of a workspace of this machine."""
    host = card.name.rpartition(":")[0]
    return (host, card.workspace) == (socket.gethostname(), str(workspace.root))


def working(cards: Sequence[WorkerCard], queue_name: str) -> list[WorkerCard]:
    """Return the daemons that work on a queue now."""
    return [card for card in cards if card.alive and card.queue == queue_name]


def no_daemon(queue_name: str) -> str:
    """Return for a person that no daemon works on a queue."""
    if queue_name == DEFAULT_QUEUE:
        return "No daemon works on this queue. Start one: farense daemon"
    return printable(
        f"No daemon works on the queue {queue_name}. Start one: farense daemon --queue {queue_name}"
    )
