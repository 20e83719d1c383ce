"""Being asked to stop: a signal, or the end of the pipe to the worker. Both only set a flag."""

from __future__ import annotations

import os
import signal
import threading


class StopRequest:
    """Why this process should stop, once it should.

    The training loop asks after every step and then saves a checkpoint; nothing is interrupted.
    """

    def __init__(self) -> None:
        self._reason: str | None = None

    def reason(self) -> str | None:
        """Return why to stop, or None."""
        return self._reason

    def listen_to_signals(self) -> None:
        """Take SIGTERM and SIGINT as a request; a second SIGINT ends the process at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def listen_to_pipe(self, descriptor: int) -> None:
        """Take the end of ``descriptor`` as a request: its other end is held by the worker alone,
        so it closes when the worker dies, however it dies.
        """
        threading.Thread(target=self._wait_for_end, args=(descriptor,), daemon=True).start()

    def _on_signal(self, number: int, _: object) -> None:
        self._reason = f"asked to stop by {signal.Signals(number).name}"
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _wait_for_end(self, descriptor: int) -> None:
        while os.read(descriptor, 4096):
            pass
        self._reason = self._reason or "the worker is gone"
