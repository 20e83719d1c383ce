"""``python -P -m daemon.sweep <folder of a sweep> --pipe N``: the process that coordinates it.

A process of its own, so that the sampler's memory goes with it and its work slows no worker down.
It holds the sweep's lock; it ends with its daemon, whose end of the pipe closes then.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

import structlog

from daemon.client import FarenseClient
from daemon.logging import log_to
from daemon.sweep.coordinator import Coordinator
from daemon.sweep.known import evaluation_seconds, known_trials
from daemon.sweep.start import mend_state
from jobs.errors import ExitCode, FarenseError, QueueUnreachable
from jobs.paths import Workspace
from jobs.stopping import StopRequest
from jobs.storage.locks import FileLock
from jobs.sweep.folder import read_sweep
from jobs.sweep.paths import SweepFolder

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.3
# After a queue that was away: the daemon brings it back.
AWAY_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Coordinate a sweep until it has ended, or this process is to; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.sweep", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoints_qlora/sweeps/<id>")
    parser.add_argument("--pipe", type=int, help="set by the daemon: its end means stop")
    options = parser.parse_args(arguments)
    folder, stop = SweepFolder(options.folder), StopRequest()
    stop.listen_to_signals()
    if options.pipe is not None:
        stop.listen_to_pipe(options.pipe)
    try:
        lock = FileLock.acquire(folder.lock)
        if lock is None:
            return ExitCode.LOCKED
        with lock:
            lock.write(f"{os.getpid()}\n")
            log_to(folder.path / "coordinator.jsonl", logging.INFO)
            _coordinate(folder, Workspace.current(), stop)
    except FarenseError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.hint))) + "\n")
        return int(error.exit_code)
    return ExitCode.OK


def _coordinate(folder: SweepFolder, workspace: Workspace, stop: StopRequest) -> None:
    spec = read_sweep(folder)
    mend_state(folder, workspace)
    client = _connected(workspace, spec.queue, stop)
    if client is None:
        return
    with client:
        trials = known_trials(folder, workspace)
        log.info("sweep_taken_up", sweep=folder.id, trials=len(trials))
        seen = evaluation_seconds(spec.base, workspace)
        coordinator = Coordinator(folder, client, trials, seen)
        while stop.reason() is None:
            try:
                if not coordinator.tick():
                    return
                _wait(TICK_SECONDS, stop)
            except QueueUnreachable as error:
                log.warning("queue_away", reason=error.message)
                _wait(AWAY_SECONDS, stop)


def _connected(workspace: Workspace, queue: str, stop: StopRequest) -> FarenseClient | None:
    """Return a client of the queue, once it is there; None where this process is to end before."""
    while stop.reason() is None:
        try:
            return FarenseClient.connect(workspace, queue=queue, start_server=False)
        except QueueUnreachable as error:
            log.warning("queue_away", reason=error.message)
            _wait(AWAY_SECONDS, stop)
    return None


def _wait(seconds: float, stop: StopRequest) -> None:
    until = time.monotonic() + seconds
    while stop.reason() is None and time.monotonic() < until:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
