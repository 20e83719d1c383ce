"""Starting, stopping and looking at the daemon of a workspace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import RedisError

from daemon.joblog import last_lines
from daemon.queue.broker import Broker
from daemon.runs.workspace_id import is_home
from daemon.runs.workspace_locks import daemon_lock
from daemon.settings import Settings
from daemon.standstill import as_it_is
from daemon.store.progress import phase_text
from daemon.store.workers import is_at, workers
from jobs.errors import QueueUnreachable, WorkspaceError
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import explain
from jobs.storage.locks import held_by, is_held

START_SECONDS = 30.0
# The grace period of a child, and what the daemon needs after it.
STOP_SECONDS = 95.0
POLL_SECONDS = 0.02

# Daemons that outlive the function that started them; kept so that they are reaped when they end.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class DaemonStatus:
    """A daemon and its queue, at a glance.

    Attributes:
        server: the address of the queue, without a password.
        queued: jobs that wait; None where the queue does not answer.
        running_job: the id of the job under way.
        doing: what it does that is no step; None while it steps.
        held_because: why it starts no job now.
        power: what is to be known of the machine's battery and heat.
    """

    running: bool
    pid: int | None
    server: str
    server_running: bool
    queued: int | None
    running_job: str | None
    doing: str | None = None
    held_because: str | None = None
    power: str | None = None


def daemon_status(workspace: Workspace) -> DaemonStatus:
    """Return how the daemon of a workspace stands; nothing is started for it."""
    broker = Broker(workspace, Settings.from_environment())
    try:
        broker.check()
        records = broker.store.get_many(broker.store.unfinished())
        cards = [card for card in workers(broker.redis) if card.alive and is_at(card, workspace)]
    except (QueueUnreachable, RedisError):
        records, cards = None, []
    finally:
        broker.close()
    found = records or []
    running = [
        record
        for record in found
        if record.state is State.RUNNING and is_home(record.home, workspace)
        if not as_it_is(record, workspace).interrupted
    ]
    alive = is_held(daemon_lock(workspace))
    card = cards[-1] if cards and alive else None
    return DaemonStatus(
        running=alive,
        pid=held_by(daemon_lock(workspace)),
        server=broker.address,
        server_running=records is not None,
        queued=None if records is None else sum(r.state is State.QUEUED for r in found),
        running_job=running[0].id if running else None,
        doing=phase_text(running[0]) if running else None,
        held_because=card.held_because if card else None,
        power=card.power if card else None,
    )


def start_daemon(workspace: Workspace) -> int:
    """Start a daemon in the background and return its pid; a running one's, where there is one.

    Raises:
        WorkspaceError: it ended at once, or does not come up.
    """
    lock = daemon_lock(workspace)
    if (pid := held_by(lock)) is not None:
        return pid
    process = _spawn(workspace)
    try:
        return _wait_for_lock(process, workspace)
    except BaseException:  # Ctrl-C too: what was started here must not stay behind
        process.terminate()
        raise


def _wait_for_lock(process: subprocess.Popen[bytes], workspace: Workspace) -> int:
    """Return the pid of the daemon that holds the lock, once one does."""
    lock = daemon_lock(workspace)
    deadline = time.monotonic() + START_SECONDS
    while held_by(lock) != process.pid:
        if process.poll() is not None and (pid := held_by(lock)) is not None:
            return pid  # another was quicker
        if process.poll() is not None or time.monotonic() > deadline:
            words = last_lines(workspace.logs / "daemon.stderr")
            raise WorkspaceError(
                f"The daemon did not start: {words or f'exit code {process.returncode}'}",
                f"See {workspace.daemon_log}.",
            )
        time.sleep(POLL_SECONDS)
    return process.pid


def stop_daemon(workspace: Workspace, timeout: float = STOP_SECONDS) -> bool:
    """Stop the daemon gracefully, and the embedded server with it, and wait for both.

    A running job writes a checkpoint and goes back to the queue.

    Returns:
        Whether there was something to stop.

    Raises:
        WorkspaceError: the daemon is of another user, or still there after ``timeout`` seconds.
    """
    stopped = _stop(workspace, timeout)
    broker = Broker(workspace, Settings.from_environment())
    if broker.server is not None:
        stopped |= broker.server.shut_down()
    return stopped


def _stop(workspace: Workspace, timeout: float) -> bool:
    lock = daemon_lock(workspace)
    deadline = time.monotonic() + timeout
    told: int | None = None
    while is_held(lock):
        pid = held_by(lock)
        if pid is not None and pid != told:
            _tell(pid)
            told = pid
        if time.monotonic() > deadline:
            raise WorkspaceError(
                f"The daemon (pid {pid}) has not stopped within {timeout:.0f} s.",
                "Its job may still be writing a checkpoint; `farense daemon stop` again has the "
                "job's process killed.",
            )
        time.sleep(POLL_SECONDS)
    return told is not None


def _tell(pid: int) -> None:
    try:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise WorkspaceError(f"The daemon (pid {pid}) belongs to another user.") from error


def _spawn(workspace: Workspace) -> subprocess.Popen[bytes]:
    _started[:] = [process for process in _started if process.poll() is None]
    path = workspace.logs / "daemon.stderr"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "daemon"],
                cwd=workspace.root,
                env={**os.environ, "FARENSE_HOME": str(workspace.root)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise explain(error, path) from error
    _started.append(process)
    return process
