"""Being asked to stop: by a signal, by the end of the pipe to the worker, or by silence on it; or
to end early, by a word on that pipe.

Each only sets a flag. But where another machine may take the job once its lease is over, this
process ends at once when that is near, whatever it is doing: two must never run one job.
"""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable

from jobs.errors import ExitCode

# These go on while the machine sleeps, as a lease does: Linux's by this name, macOS' by that one.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# How long a wait for the pipe lasts at the most: a sleep of the machine is noticed after it.
LONGEST_WAIT = 1.0
# For how many times the limit of silence a process may live: it is two thirds of a lease, so that
# this leaves a little of the lease. What stays behind is what a kill leaves.
LAST = 1.4
# What a worker writes after each renewal of the lease, and before the word that ends a run early.
BEAT, END_EARLY = b".", b"end early: "
WORD = re.compile(re.escape(END_EARLY) + rb"([a-z]{1,20})\n")


class StopRequest:
    """Why this process should stop, once it should.

    The training loop asks after every step and then saves a checkpoint; nothing is interrupted.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._ending: str | None = None
        self._heard = b""

    def reason(self) -> str | None:
        """Return why to stop, or None."""
        return self._reason

    def ending(self) -> str | None:
        """Return who wants the run to end now, with what it has reached; or None."""
        return self._ending

    def listen_to_signals(self) -> None:
        """Take SIGTERM and SIGINT as a request; a second SIGINT ends the process at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def listen_to_pipe(
        self,
        descriptor: int,
        limit: float | None = None,
        end: Callable[[], object] = lambda: os._exit(ExitCode.STOPPED),
    ) -> None:
        """Take the end of ``descriptor`` as a request: its other end is held by the worker alone,
        so it closes when the worker dies, however it dies.

        Args:
            limit: seconds of silence that are a request, too: the worker writes something after
                each renewal of the lease, and without a lease another machine may take the job.
            end: ends the process; called when the lease is nearly over. It may be in a step, load a
                model or write a checkpoint that takes too long.
        """
        target, arguments = self._listen, (descriptor, limit, end)
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _on_signal(self, number: int, _: object) -> None:
        self._reason = f"asked to stop by {signal.Signals(number).name}"
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _listen(self, descriptor: int, limit: float | None, end: Callable[[], object]) -> None:
        heard = time.clock_gettime(CLOCK)
        wait = None if limit is None else min(limit / 4, LONGEST_WAIT)
        gone = False
        while True:
            if gone:  # nothing more comes, and a select would not wait
                time.sleep(wait or 0.0)
            elif select.select([descriptor], [], [], wait)[0]:
                if words := os.read(descriptor, 4096):
                    self._understand(words)
                    heard = time.clock_gettime(CLOCK)
                else:
                    gone = True
                    self._reason = self._reason or "the worker is gone"
            if limit is None:
                if gone:
                    return
                continue
            silence = time.clock_gettime(CLOCK) - heard
            if silence > limit:
                self._reason = self._reason or f"no lease was renewed for {limit:.0f} s"
            if silence > limit * LAST:
                end()
                return

    def _understand(self, words: bytes) -> None:
        """Look for the word that ends the run early; beats may stand around it, and cut it apart in
        time, but never in place.
        """
        self._heard = (self._heard + words).replace(BEAT, b"")[-4096:]
        if found := WORD.search(self._heard):
            self._ending = self._ending or found[1].decode()
            self._heard = b""


def end_early(by: str) -> bytes:
    """Return what a worker writes into the pipe so that the run ends early.

    Args:
        by: who wants it, in small letters: the name of a pruner, or ``time``.
    """
    return END_EARLY + by.encode() + b"\n"
