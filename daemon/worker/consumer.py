"""The daemon: one a workspace, Huey's consumer with our way of stopping.

SIGTERM, SIGINT and SIGHUP all mean the same: stop gracefully. The running child writes a
checkpoint, its job goes back to the queue, the embedded server is shut down. A second signal kills
the child, whose job then goes on from an earlier checkpoint. (Huey alone kills the task on SIGTERM,
waits hours on SIGINT, and executes ``sys.argv`` anew on SIGHUP.)
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog
from huey.consumer import Consumer
from huey.consumer import Worker as HueyWorker
from redis.exceptions import RedisError

from daemon.logging import configure_logging
from daemon.night.night import Night
from daemon.night.settings import NightSettings
from daemon.queue.broker import Broker
from daemon.queue.reconnect import RedisLink
from daemon.runs.private_folder import private_folder, temporary_folder
from daemon.runs.workspace_id import make_home
from daemon.runs.workspace_locks import daemon_lock
from daemon.settings import Settings
from daemon.worker.terminal import Tell, teller
from daemon.worker.worker import Worker
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.storage.locks import FileLock, held_by

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Huey's schedule is not used; a job's own record says when it is due.
SCHEDULER_SECONDS = 60
# Beyond the grace period of the child: to write down how its job stands.
STOP_MARGIN = 30.0
# A wait for a message that takes longer than this was no answer: the server hangs.
HUNG_SECONDS = 3.0
# Bits that no file of a daemon or its children has: logs, metrics, adapters are for the user alone.
OTHERS = 0o077
# How often the daemon looks whether jobs may run again.
CLOSED_SECONDS = 0.5


class QueueWorker(HueyWorker):  # type: ignore[misc]  # huey publishes no types
    """Huey's worker loop, calm where Redis is away, and mending what was lost meanwhile."""

    link: RedisLink
    mend: Callable[[], None]
    closed: Callable[[], bool]
    run_deferred: Callable[[], bool]

    def loop(self, now: Any = None) -> None:
        """Take one message and run its job; called again and again until the daemon stops."""
        self.mend()
        if self.closed():
            self.stop_flag.wait(CLOSED_SECONDS)
            return
        if self.link.call(self.run_deferred):
            return
        task = self._next()
        if task is not None:
            try:
                self.huey.execute(task, now)
            except RedisError as error:
                self.link.lost(error)
        elif self.link.away:
            self.stop_flag.wait(self.link.seconds_to_next_try)

    def _next(self) -> Any:
        began = time.monotonic()
        task = self.link.call(self.huey.dequeue)
        if task is None and time.monotonic() - began > HUNG_SECONDS:
            # Huey takes a server that hangs for an empty queue.
            self.link.call(self.huey.storage.conn.ping)
        return task


class DaemonConsumer(Consumer):  # type: ignore[misc]  # huey publishes no types
    """Huey's consumer, with one worker thread and our signals."""

    worker_class = QueueWorker
    _signum: int | None

    def __init__(self, link: RedisLink, stop_seconds: float, **options: Any) -> None:
        self.link = link
        self.kill = threading.Event()
        self.mend: Callable[[], None] = lambda: None
        self.closed: Callable[[], bool] = lambda: False
        self.run_deferred: Callable[[], bool] = lambda: False
        super().__init__(
            workers=1,
            periodic=False,
            scheduler_interval=SCHEDULER_SECONDS,
            shutdown_timeout=stop_seconds,
            **options,
        )
        # Under nohup the terminal's SIGHUP is ignored, and stays so.
        ignored = {number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_IGN}
        heeded = set(STOP_SIGNALS) - (ignored & {signal.SIGHUP})
        self._signal_actions = dict.fromkeys(heeded, (False, True))

    def _create_worker(self) -> QueueWorker:
        worker: QueueWorker = super()._create_worker()
        worker.link = self.link
        worker.mend = lambda: self.mend()
        worker.closed = lambda: self.closed()
        worker.run_deferred = lambda: self.run_deferred()
        return worker

    def _handle_signal(self, signum: int, frame: FrameType | None) -> None:
        """Note a signal; the main loop acts on it. The second one is impatience."""
        if self._signum is not None:
            self.kill.set()
        self._signum = signum

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle the stop signals, from before anything is started until all of it has ended."""
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self._set_signal_handlers()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(workspace: Workspace, settings: Settings, night: Night, tell: Tell) -> None:
    """Run the daemon in the foreground until it is told to stop.

    Args:
        night: what is done around jobs on this machine.
        tell: is given a line for a person where a job starts, and where it ends.

    Raises:
        WorkspaceError: another daemon runs in this workspace, or the workspace cannot be written.
        QueueUnreachable: the queue cannot be reached or started.
        ConfigError: ``FARENSE_REDIS_URL`` is not a URL of Redis.
    """
    os.umask(OTHERS)
    private_folder(workspace)
    path = daemon_lock(workspace)
    lock = FileLock.acquire(path)
    if lock is None:
        raise WorkspaceError(
            f"A daemon runs in this workspace already (pid {held_by(path)}): {workspace.root}",
            "One is enough: it takes the jobs one after another. To end it: farense daemon stop",
        )
    with lock:
        lock.write("")  # the pid there is of a daemon that is gone
        configure_logging(workspace)
        temporary_folder(workspace)
        make_home(workspace)
        broker = Broker(workspace, settings)
        try:
            _serve(workspace, settings, night, broker, lock, tell)
        finally:
            broker.close()
            if broker.server is not None:
                broker.server.shut_down()
            log.info("daemon_stopped", pid=os.getpid())


def _serve(
    workspace: Workspace,
    settings: Settings,
    night: Night,
    broker: Broker,
    lock: FileLock,
    tell: Tell,
) -> None:
    link = RedisLink(broker)
    queue = broker.queue(settings.queue, lambda job_id: worker.run(job_id))
    consumer = DaemonConsumer(link, settings.grace_seconds + STOP_MARGIN, huey=queue)
    stop, kill = consumer.stop_flag, consumer.kill
    worker = Worker(workspace, settings, broker, link, stop, kill, tell, night)
    consumer.mend, consumer.closed = worker.mend, worker.closed
    consumer.run_deferred = worker.run_deferred
    with consumer.signals():
        # From now on `farense daemon stop` knows whom to tell, and is heard.
        lock.write(f"{os.getpid()}\n")
        broker.ensure()
        window = settings.window and str(settings.window)
        log.info("daemon_started", pid=os.getpid(), queue=broker.address, window=window)
        # Before it takes a job, the worker mends what the last crash left.
        link.lost_something = True
        try:
            consumer.run()
        finally:
            worker.leave()


def run_daemon(
    workspace: Workspace, settings: Settings | None = None, night: Night | None = None
) -> None:
    """Run the daemon in the foreground until SIGTERM, SIGINT or SIGHUP.

    It says on stderr, a line each, which job starts and what each came to.

    Args:
        settings: None: those of the environment.
        night: None: as the workspace's settings say (:class:`daemon.night.settings.NightSettings`).

    Raises:
        WorkspaceError: another daemon runs in this workspace, or the workspace cannot be written.
        QueueUnreachable: the queue cannot be reached or started.
        ConfigError: a ``FARENSE_*`` variable, or ``night.yaml``, has a value that is not allowed.
    """
    settings = settings or Settings.from_environment()
    night = night or Night(NightSettings.of(workspace))
    with teller() as tell:
        run(workspace, settings, night, tell)
