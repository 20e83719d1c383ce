"""The daemons that share the queue, and this machine: its disk, its power."""

from __future__ import annotations

import shutil
import socket
from dataclasses import asdict
from typing import Any

from daemon.page.source import Reader
from daemon.reader import QueueReader
from daemon.standstill import daemon_runs
from daemon.store.workers import WorkerCard
from jobs.paths import Workspace
from jobs.storage.values import printable

# Free space is told in steps of so many bytes: else a page would be told of it each second.
STEP = 50_000_000


def machines(reader: Reader, workspace: Workspace) -> dict[str, Any]:
    """Return the daemons by name, and what this machine says of itself."""
    cards = reader.workers() if isinstance(reader, QueueReader) else []
    return {
        "daemon": daemon_runs(workspace),
        "workspace": str(workspace.root),
        "host": socket.gethostname(),
        "disk": disk(workspace),
        "workers": [_worker(card) for card in cards],
    }


def _worker(card: WorkerCard) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: printable(value) if isinstance(value, str) else value
        for name, value in asdict(card).items()
        if name != "seconds_ago"  # of a daemon that lives it changes all the time and says nothing
    }
    return {**told, "silent_minutes": None if card.alive else round(card.seconds_ago / 60)}


def disk(workspace: Workspace) -> dict[str, int] | None:
    """Return the size of the workspace's disk, and what is free of it, in bytes."""
    try:
        found = shutil.disk_usage(workspace.root)
    except OSError:
        return None
    return {"total": found.total, "free": found.free // STEP * STEP}
