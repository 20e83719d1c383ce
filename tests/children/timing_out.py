"""The real training child, whose GPU work macOS ends again and again: a stand-in for Metal's words.

``python -P timing_out.py TIMES RUN_DIRECTORY --attempt N --pipe FD``: each of the first TIMES
attempts writes a checkpoint, takes steps beyond it, and is aborted with what MLX passes on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobs import sinks
from jobs.__main__ import main
from jobs.events import CheckpointSaved, Envelope, TrainMetrics
from tests.children.child import GPU_TIMEOUT


def install(times: int) -> None:
    """Let the log of an attempt that is to be aborted do so."""
    whole = sinks.job_log

    def job_log(path: Path) -> sinks.Sink:
        write, saved = whole(path), False

        def tell(envelope: Envelope) -> None:
            nonlocal saved
            write(envelope)
            if envelope.attempt > times:
                return
            saved |= isinstance(envelope.event, CheckpointSaved)
            if saved and isinstance(envelope.event, TrainMetrics):
                sys.stderr.write(GPU_TIMEOUT)
                sys.stderr.flush()
                os.abort()

        return tell

    sinks.job_log = job_log


if __name__ == "__main__":
    install(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
