"""A daemon's part in notifications: it puts down what happens, and keeps a sender running.

Nothing here waits, and nothing raises: no job is delayed or lost for a message. No sender runs
where nobody wants to be told.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from daemon import piped
from daemon.joblog import last_lines
from daemon.notify.addresses import any_address, environment_addresses, notify_folder
from daemon.notify.happening import Happening, What, put_down, shortened
from daemon.notify.paths import NotifyFolder
from daemon.piped import Piped
from jobs.errors import ExitCode, FarenseError
from jobs.paths import Workspace
from jobs.state import JobState

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
LOOK, BYE = b"\nlook\n", b"\nbye\n"
# What could not be put down, because the disk is full, is kept here for a while.
MOST_KEPT = 1000


class Notifier:
    """Puts down what happens for the sender of a workspace, and looks after that process.

    Args:
        on_event: the command that is run with each event; None for none.
        notice_seconds: how long a daemon is gone before that is told.

    Raises:
        ConfigError: a ``FARENSE_*`` variable has a value that is not allowed.
    """

    def __init__(
        self,
        workspace: Workspace,
        on_event: Sequence[str] | None,
        notice_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        environment_addresses()  # a mistake there is told when the daemon starts
        self._workspace, self._on_event = workspace, on_event
        self._notice_seconds, self._clock = notice_seconds, clock
        self._folder = NotifyFolder.of(workspace)
        self._sender: Piped | None = None
        self._unsaved: list[Happening] = []
        self._delay = FIRST_DELAY
        self._not_before = self._look_at = 0.0
        self._said = ""

    @property
    def pid(self) -> int | None:
        """The process id of the sender; None where none was started."""
        return None if self._sender is None else self._sender.process.pid

    @property
    def wanted(self) -> bool:
        """Whether somebody wants to be told of anything."""
        with suppress(OSError):
            return self._on_event is not None or any_address(self._workspace)
        return False

    def ended(self, job_id: str, state: JobState) -> None:
        """Put down that a job has ended."""
        reason = shortened(state.reason or "")
        self.happened(What.JOB_ENDED, job_id, state=str(state.state), reason=reason)

    def happened(self, what: What, subject: str | None = None, **detail: object) -> None:
        """Put down something that happened, where somebody wants to be told."""
        try:
            if self.wanted:
                happening = Happening(what, subject, detail)
                if not self._put_down(happening):
                    self._unsaved = [*self._unsaved, happening][-MOST_KEPT:]
                self._say(LOOK)
        except Exception:
            # A mistake of ours must not become one of the job that has just ended.
            log.exception("notification_not_put_down")

    def tick(self) -> None:
        """Start a sender where one is wanted and none runs, from time to time."""
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + LOOK_SECONDS
        self._reap()
        if not self.wanted:
            if self._sender is not None:
                self.close()  # nobody wants to be told any more
        elif self._sender is None and self._clock() >= self._not_before:
            self._start()
        self._unsaved = [happening for happening in self._unsaved if not self._passed(happening)]

    def close(self) -> None:
        """Take leave of the sender, which sends what it can and ends by itself."""
        with suppress(OSError):  # where nobody was ever told there is no folder
            self._folder.left.write_text(f"{os.getpid()}\n")
        if self._sender is None:
            return
        self._say(BYE)
        os.close(self._sender.pipe)
        self._sender = None

    def _passed(self, happening: Happening) -> bool:
        """Put down what could not be put down before; else say it into the pipe, on a full disk."""
        return self._put_down(happening) or self._say(b"\n" + happening.line() + b"\n")

    def _put_down(self, happening: Happening) -> bool:
        try:
            put_down(self._folder, happening)
        except (FarenseError, OSError) as error:
            if str(error) != self._said:
                log.warning("notification_not_put_down", reason=str(error))
            self._said = str(error)
            return False
        return True

    def _say(self, words: bytes) -> bool:
        if self._sender is None:
            return False
        with suppress(OSError):  # it does not listen, or is gone
            return os.write(self._sender.pipe, words) == len(words)
        return False

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "daemon.notify"]
        command += ["--gone-seconds", str(self._notice_seconds)]
        try:
            folder = notify_folder(self._workspace)
            with folder.stderr.open("wb") as output:
                self._sender = piped.start(command, self._workspace, os.environ, output)
        except (FarenseError, OSError) as error:
            self._wait(str(error))
            return
        log.info("notifier_started", pid=self._sender.process.pid)

    def _reap(self) -> None:
        if self._sender is None or (code := self._sender.process.poll()) is None:
            return
        os.close(self._sender.pipe)
        self._sender = None
        if code == ExitCode.LOCKED:  # the one before sends its last
            self._not_before = self._clock() + LOOK_SECONDS
            return
        self._wait(last_lines(self._folder.stderr) or f"exit code {code}")

    def _wait(self, reason: str) -> None:
        """Let some time pass before the next start, and more each time."""
        log.warning("notifier_lost", reason=reason, retry_in=self._delay)
        self._not_before = self._clock() + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)
