"""``python -P -m daemon.track.courier JOB TRACKER --pipe N``: forwards one job to one tracker.

The one process that loads the tracker's library. It ends once all is forwarded that is there, where
the job does not run; or when the pipe closes, after a last look. A library that does not come back
is ended by an alarm: whoever looks after this process starts another one later.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from daemon.runs.private_folder import temporary_folder
from daemon.track.kinds import TRACKERS, folder_of
from daemon.track.paths import Cursor, read_cursor, track_folder, write_cursor
from daemon.track.source import Row, TrackedEnd, TrackedFiles, after
from daemon.track.writer import TrackedRun, Writer
from jobs.errors import ExitCode, FarenseError
from jobs.paths import RunDirectory, Workspace
from jobs.state import State
from jobs.storage.locks import FileLock

# Of a call into a library, or the opening of a run: a little more than its own patience.
SECONDS = 120
LOOK_SECONDS = 1.0
NICE = 10


class Courier:
    """Brings a tracker up to where a job is."""

    def __init__(
        self, workspace: Workspace, run: RunDirectory, tracker: str, make: Callable[..., Writer]
    ) -> None:
        self._workspace, self._run, self._tracker, self._make = workspace, run, tracker, make
        self._source = TrackedFiles(workspace, run.job_id)
        self._writer: Writer | None = None
        self._held = -1
        self.cursor = replace(read_cursor(run, tracker), why="")

    def look(self) -> bool:
        """Forward what is new; tell whether more is to be expected soon."""
        state, ended = self._source.state, self._source.ended
        if state is None:
            return False  # it was removed
        rows = self._source.rows(ended=ended)
        self._go_back()
        if state is State.RUNNING and self._writer is None:
            self._open()  # the run is to be seen from its beginning
        self._send(rows)
        if ended and not self.cursor.ended:
            self._open()
            self._send(rows)  # what it has lost, as it may say only now
            self._add("summary", self._source.outcome())
            self._keep(ended=True)
        evaluated = self._source.evaluation_time
        if self.cursor.ended and evaluated > self.cursor.evaluation:
            self._add("evaluation", self._source.evaluation())
            self._keep(evaluation=evaluated)
        return state is State.RUNNING

    def _add(self, kind: str, found: TrackedEnd) -> None:
        """Add what there is at the end; it is kept once the tracker has taken leave."""
        with limited():
            self._open().outcome(kind, found, self.cursor.step)
        self.close()

    def close(self) -> None:
        """Let the tracker keep all that it was given."""
        if self._writer is not None:
            with limited():
                self._writer.close()
            self._writer = None

    def failed(self, why: str) -> None:
        """Note why it does not go on."""
        with suppress(FarenseError, OSError):
            self._keep(why=why)

    def _go_back(self) -> None:
        """Begin a run of its own where rows that were sent have been trained again.

        That takes a checkpoint that was damaged after it was written: it happens to nobody twice.
        """
        if self.cursor.step < 0:
            return
        there = {row["step"]: row["timestamp"] for row in self._source.rows(ended=True)}
        if there.get(self.cursor.step) != self.cursor.timestamp:
            self.close()
            self.cursor = Cursor(course=self.cursor.course + 1)

    def _send(self, rows: list[Row]) -> None:
        """Send the rows that the tracker does not hold, by what it says itself once it is open."""
        known = self.cursor.step if self._writer is None else self._held
        if not after(rows, known):
            return
        writer = self._open()
        if new := after(rows, self._held):
            with limited():
                writer.rows(new)
        last = rows[-1]
        self._held = max(self._held, last["step"])
        self._keep(step=last["step"], timestamp=last["timestamp"], rows=len(rows))

    def _open(self) -> Writer:
        if self._writer is None:
            course = self.cursor.course
            name = self._run.job_id if course == 1 else f"{self._run.job_id}-{course}"
            shown = name if self._source.name == self._run.job_id else self._source.name
            folder = folder_of(self._workspace, self._tracker)
            with limited():
                writer = self._make(TrackedRun(name, shown, self._source.config, folder))
                self._held = writer.begin()
            self._writer = writer
        return self._writer

    def _keep(self, **changes: Any) -> None:
        self.cursor = replace(self.cursor, **changes)
        write_cursor(self._run, self._tracker, self.cursor)


def main(arguments: list[str] | None = None) -> int:
    """Forward one job to one tracker; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.track.courier", description=__doc__)
    parser.add_argument("job")
    parser.add_argument("tracker", choices=TRACKERS)
    parser.add_argument("--pipe", type=int, required=True, help="its end means: one last look")
    options = parser.parse_args(arguments)
    with suppress(OSError):
        os.nice(NICE)
    workspace = Workspace.current()
    try:
        os.environ["TMPDIR"] = str(temporary_folder(workspace))
        name = f"{options.job}.{options.tracker}.lock"
        lock = FileLock.acquire(track_folder(workspace) / name)
        if lock is None:
            return ExitCode.LOCKED
        with lock:
            return _forward(workspace, options.job, options.tracker, options.pipe)
    except FarenseError as error:
        sys.stderr.write(f"{error.message}\n")
        return int(error.exit_code)


def _forward(workspace: Workspace, job: str, tracker: str, pipe: int) -> int:
    courier = Courier(workspace, workspace.run(job), tracker, _writer_of(tracker))
    try:
        left = False
        while courier.look() and not left:
            left = bool(select.select([pipe], [], [], LOOK_SECONDS)[0])
        courier.look()
        courier.close()
    except FarenseError:
        raise
    except Exception as error:
        # Its words may hold an address or a key: they stay in the private folder.
        traceback.print_exc()
        courier.failed(type(error).__name__)
        return ExitCode.FAILED
    return ExitCode.OK


def _writer_of(tracker: str) -> Callable[..., Writer]:
    """Return what makes a run of a tracker, once its library is there; only here it is loaded."""

    def make(run: TrackedRun) -> Writer:
        match tracker:
            case "tensorboard":
                from daemon.track.to_tensorboard import TensorBoardRun  # noqa: PLC0415 - loads it

                return TensorBoardRun(run)
            case "trackio":
                from daemon.track.to_trackio import TrackioRun  # noqa: PLC0415 - likewise

                return TrackioRun(run)
            case "mlflow":
                from daemon.track.to_mlflow import MlflowRun  # noqa: PLC0415 - likewise

                return MlflowRun(run)
            case _:
                from daemon.track.to_wandb import WandbRun  # noqa: PLC0415 - likewise

                return WandbRun(run)

    return make


@contextmanager
def limited() -> Iterator[None]:
    """End this process where what is done takes longer than it may: it may hang in C code."""
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main())
