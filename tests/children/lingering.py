"""The real training child, which lingers at a step until it is asked to stop.

``python -P lingering.py TIMES STEPS RUN_DIRECTORY --attempt N --pipe FD``: each of the first TIMES
attempts goes on for STEPS steps at least, and then waits.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs import __main__ as program
from jobs import sinks
from jobs.events import Envelope, TrainMetrics
from jobs.stopping import StopRequest
from tests.helpers.waiting import wait_until

# A daemon on a busy machine comes to it.
WITHIN = 120.0
_requests: list[StopRequest] = []


class KnownRequest(StopRequest):
    """A request to stop that the log can look at."""

    def __init__(self) -> None:
        super().__init__()
        _requests.append(self)


def install(times: int, steps: int) -> None:
    """Let the log of an attempt that is to linger do so."""
    whole = sinks.job_log

    def job_log(path: Path) -> sinks.Sink:
        write = whole(path)

        def tell(envelope: Envelope) -> None:
            write(envelope)
            attempt, event = envelope.attempt, envelope.event
            far = isinstance(event, TrainMetrics) and event.step >= steps * attempt
            if far and attempt <= times:
                wait_until(lambda: _requests[0].reason(), "the wish to stop", WITHIN)

        return tell

    sinks.job_log = job_log
    vars(program)["StopRequest"] = KnownRequest


if __name__ == "__main__":
    install(int(sys.argv[1]), int(sys.argv[2]))
    sys.exit(program.main(sys.argv[3:]))
