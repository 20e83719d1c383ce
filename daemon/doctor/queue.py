"""What `farense doctor` looks at in the workspace and its queue; it starts and changes nothing."""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from daemon.doctor.findings import Finding, ok, problem, warning
from daemon.file_client import FileClient
from daemon.queue.broker import Broker
from daemon.runs.private_folder import PRIVATE
from daemon.runs.workspace_locks import daemon_lock
from daemon.service.left_behind import stale_services
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.workers import workers
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.storage.files import explain
from jobs.storage.locks import held_by, is_held

ASKED = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")


def workspace_finding(workspace: Workspace) -> Finding:
    """Tell whether every folder that a job writes to can be written, and locked.

    Raises:
        WorkspaceError: one cannot.
    """
    if not workspace.root.is_dir():
        return problem(
            "workspace",
            f"There is no folder {workspace.root}.",
            "Make it, or set FARENSE_HOME to the folder that holds data/ and models/.",
        )
    folders = (workspace.data, workspace.models, workspace.runs, workspace.logs)
    for folder in (workspace.root, *folders, workspace.private):
        if folder.is_dir():
            _try_to_write(folder)
    return ok("workspace", f"{workspace.root} can be written")


def _try_to_write(folder: Path) -> None:
    """Write and lock a file that has no name: nothing is left behind."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise explain(error, folder) from error


def private_finding(workspace: Workspace) -> Finding:
    """Tell whether the private folder is this user's alone."""
    folder = workspace.private
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return ok("private", f"{folder} is made with the first job, for you alone")
    except OSError as error:
        raise explain(error, folder) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return problem("private", f"{folder} is not a folder of yours.", f"Remove it: {folder}")
    if (mode := stat.S_IMODE(found.st_mode)) != PRIVATE:
        return warning(
            "private",
            f"{folder} is open to others (mode {mode:04o}).",
            f"chmod 700 {shlex.quote(str(folder))}",
        )
    return ok("private", f"{folder} is yours alone (mode 0700)")


def queue_finding(workspace: Workspace, settings: Settings) -> Finding:
    """Tell whether the queue answers and keeps what it accepts.

    Raises:
        QueueUnreachable: it does not answer, could not be started, or accepts nothing.
        ConfigError: the URL of the shared Redis is not one.
    """
    broker = Broker(workspace, settings)
    try:
        if broker.server is not None and broker.server.pid() is None:
            broker.server.check_files()
            return ok("queue", "does not run yet: the first `farense enqueue` starts it")
        broker.check()
        broker.check_writable()
        try:
            told = broker.redis.config_get(*ASKED)
            facts: dict[str, Any] = {str(name): value for name, value in told.items()}
        except RedisError as error:
            return warning(
                "queue",
                f"{broker.address} answers, but does not tell how durable it is: {error}",
                "Let this user run CONFIG GET, or make sure of appendonly yes yourself.",
            )
        facts |= broker.redis.info("persistence")
        facts["dead"] = broker.redis.llen(keys.DEAD_LETTERS)
    finally:
        broker.close()
    return durability_finding(facts, broker.address)


def durability_finding(facts: Mapping[str, Any], address: str) -> Finding:
    """Judge what a server says of itself (``CONFIG GET`` and ``INFO persistence``)."""
    if facts.get("aof_last_write_status", "ok") != "ok":
        return problem(
            "queue",
            f"{address} cannot write its append-only file, and so accepts no job.",
            "Free space on its disk.",
        )
    if facts.get("appendonly") != "yes":
        return warning(
            "queue",
            f"{address} keeps no append-only file: a restart loses what it accepted.",
            "Set in its configuration: appendonly yes, appendfsync always",
        )
    if str(facts.get("maxmemory", "0")) != "0" and facts.get("maxmemory-policy") != "noeviction":
        return warning(
            "queue",
            f"{address} throws keys away when its memory is full ({facts['maxmemory-policy']}).",
            "Set in its configuration: maxmemory-policy noeviction",
        )
    if facts.get("appendfsync") != "always":
        return warning(
            "queue",
            f"{address} syncs its append-only file now and then (appendfsync "
            f"{facts.get('appendfsync')}): a power failure loses what it has just accepted.",
            "Set in its configuration: appendfsync always",
        )
    if facts.get("dead"):
        return warning(
            "queue",
            f"{address} answers; {facts['dead']} message(s), record(s) or event(s) could not be "
            "read and were set aside.",
            "See what they are: farense queue dead; forget them: farense queue dead --clear",
        )
    return ok("queue", f"{address} answers; every accepted job is on disk (appendfsync always)")


def daemon_finding(workspace: Workspace, settings: Settings | None = None) -> Finding:
    """Tell whether a daemon works through the queue, and whether something holds it.

    Raises:
        WorkspaceError: its lock cannot be read.
    """
    lock = daemon_lock(workspace)
    try:
        running, pid = is_held(lock), held_by(lock)
    except OSError as error:
        raise WorkspaceError(f"{lock} cannot be read: {error.strerror}.") from error
    if running and settings is not None and (held := _held(workspace, settings)):
        return warning(
            "daemon",
            f"runs (pid {pid}), but starts nothing now: {held}.",
            "It starts jobs again once that is over.",
        )
    if running:
        return ok("daemon", f"runs (pid {pid})")
    waiting = [record.id for record in FileClient(workspace).jobs() if record.interrupted]
    names = f" Interrupted, and waiting for it too: {', '.join(waiting)}." if waiting else ""
    return warning(
        "daemon",
        f"No daemon runs in this workspace: jobs wait until one does.{names}",
        "Start it: farense daemon",
    )


def service_findings(workspace: Workspace) -> list[Finding]:
    """Tell of services that cannot start since a workspace or a clone was moved."""
    return [warning("daemon", found, action) for found, action in stale_services(workspace)]


def _held(workspace: Workspace, settings: Settings) -> str | None:
    """Return why the daemon of a workspace starts no job; None where it may, or cannot be asked."""
    broker = Broker(workspace, settings)
    try:
        here = [c for c in workers(broker.redis) if c.alive and c.workspace == str(workspace.root)]
    except (RedisError, OSError):
        return None
    finally:
        broker.close()
    return next((card.held_because for card in here if card.held_because), None)
