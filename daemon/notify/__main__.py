"""``python -P -m daemon.notify --pipe N``: the process that sends, started by a daemon.

The daemon holds the other end of the pipe. It writes ``look`` there after it has put something down
(or the thing itself, where the disk is full), and ``bye`` before it ends. Where the pipe closes
without that, the daemon was killed: a while later, if none has come back, that is told, too. Then
this process goes on until all is sent, at most for a day.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

import orjson

from daemon.host import boot_id
from daemon.night.settings import NightSettings
from daemon.notify.addresses import notify_folder
from daemon.notify.delivery import Delivery
from daemon.notify.happening import Happening, What, happening_from
from daemon.notify.look_up import running_job
from daemon.notify.paths import NotifyFolder
from daemon.notify.sender import GIVEN_UP_AFTER, MINUTE, Sender
from daemon.runs.workspace_locks import daemon_lock
from jobs.errors import ExitCode, FarenseError
from jobs.paths import Workspace
from jobs.state import now
from jobs.storage.locks import FileLock, held_by, is_held

LOOK, BYE = b"look", b"bye"
# From a daemon that is gone without a word to the message, where none has come back.
GONE_SECONDS = 60.0
# After a daemon has taken its leave: what can be sent at once still is.
LEAVE_SECONDS = 15.0
# How often a daemon is noted to be there.
SEEN_SECONDS = 60.0
NICE = 10


class Watch:
    """What is heard of a daemon, and of its end.

    Args:
        pipe: the read end; None where no daemon has started this process.
        gone_seconds: how long a daemon is gone before that is told.
    """

    def __init__(
        self, sender: Sender, workspace: Workspace, pipe: int | None, gone_seconds: float
    ) -> None:
        self._sender, self._workspace, self._pipe = sender, workspace, pipe
        self._gone_seconds = gone_seconds
        self._heard = b""
        self._bye = False
        self._daemon: int | None = None
        self._ended_at: float | None = None
        self._told = False
        self._see_at = 0.0
        self._ended = now()

    def begin(self) -> None:
        """Tell of a daemon that was gone, and note the one that is there now."""
        kept = self._sender.standing
        pid = held_by(daemon_lock(self._workspace)) if self._pipe is not None else None
        self._daemon = pid
        away = time.time() - kept.seen
        missed = kept.watched not in (None, pid, _took_leave(self._sender.folder))
        # It is noted once a minute: less than two of these may be no time at all.
        if missed and away > max(2 * SEEN_SECONDS, self._gone_seconds):
            rebooted = kept.boot is not None and kept.boot != boot_id()
            since = _moment(kept.seen)
            self._tell_gone({"since": since, "back": True, "rebooted": rebooted})
        self._sender.change(watched=pid, boot=boot_id(), seen=time.time())

    def listen(self, seconds: float) -> None:
        """Wait for a word of the daemon, or for some time."""
        if self._pipe is None or self._ended_at is not None:
            time.sleep(min(seconds, 1.0))
            return
        if not select.select([self._pipe], [], [], seconds)[0]:
            return
        words = os.read(self._pipe, 1 << 16)
        if not words:
            self._ended_at, self._ended = time.monotonic(), now()
            return
        *lines, self._heard = (self._heard + words).split(b"\n")
        for line in lines:
            self._understand(line)

    def _understand(self, line: bytes) -> None:
        if line == BYE:
            self._bye = True
            self._sender.change(watched=None)
        elif line != LOOK:
            with suppress(ValueError):
                self._sender.happened(happening_from(orjson.loads(line)))

    def over(self) -> bool:
        """Tell whether this process has nothing more to do."""
        if not self._sender.folder.path.is_dir():
            return True  # the workspace was removed
        if self._ended_at is None:
            self._see()
            return self._pipe is None and self._sender.idle
        gone = time.monotonic() - self._ended_at
        if self._bye:
            return not self._sender.busy and (self._sender.idle or gone > LEAVE_SECONDS)
        if is_held(lock := daemon_lock(self._workspace)):
            # Of a daemon that was killed the system may close the pipe before it frees the lock.
            # Another daemon, once it has said who it is, starts its own sender.
            return held_by(lock) not in (None, self._daemon) and not self._sender.busy
        if gone > self._gone_seconds and not self._told:
            self._told = True
            running = running_job(self._workspace)
            self._tell_gone({"since": self._ended, "back": False, "running": running})
            self._sender.change(watched=None)
        return self._told and (self._sender.idle or gone > GIVEN_UP_AFTER)

    def _tell_gone(self, detail: dict[str, object]) -> None:
        self._sender.happened(Happening(What.DAEMON_GONE, detail=dict(detail)))

    def _see(self) -> None:
        if self._pipe is not None and time.monotonic() > self._see_at:
            self._see_at = time.monotonic() + SEEN_SECONDS
            self._sender.change(seen=time.time())


def main(arguments: list[str] | None = None) -> int:
    """Send what there is until the daemon has ended; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.notify", description=__doc__)
    parser.add_argument("--pipe", type=int, help="set by the daemon: its end means that it is gone")
    parser.add_argument("--minute", type=float, default=MINUTE, help="between two of a kind")
    parser.add_argument("--gone-seconds", type=float, default=GONE_SECONDS)
    options = parser.parse_args(arguments)
    with suppress(OSError):
        os.nice(NICE)
    workspace = Workspace.current()
    try:
        lock = FileLock.acquire(notify_folder(workspace).lock)
        if lock is None:
            return ExitCode.LOCKED
        with lock:
            lock.write(f"{os.getpid()}\n")
            _send(workspace, options, lock)
    except FarenseError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.hint))) + "\n")
        return int(error.exit_code)
    return ExitCode.OK


def _send(workspace: Workspace, options: argparse.Namespace, lock: FileLock) -> None:
    sender = Sender(
        workspace,
        NightSettings.of(workspace).on_event,
        start=lambda question: Delivery.start(question, kept=(lock.descriptor,)),
        minute=options.minute,
    )
    watch = Watch(sender, workspace, options.pipe, options.gone_seconds)
    watch.begin()
    seconds = sender.tick()
    while not watch.over():
        watch.listen(seconds)
        seconds = sender.tick()


def _took_leave(folder: NotifyFolder) -> int | None:
    """Return the pid of the daemon that last took its leave, and forget it."""
    try:
        pid = int(folder.left.read_text())
        folder.left.unlink()
    except (OSError, ValueError):
        return None
    return pid


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
