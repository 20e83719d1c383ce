"""What the daemon's terminal says of its jobs: a line where one starts, and one where it ends.

Pure, but for :func:`teller`. The log has everything else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue
from threading import Thread

from daemon.figures import figures
from daemon.store.records import JobRecord
from jobs.state import FINISHED_WELL, State
from jobs.storage.formatting import duration, local_clock
from jobs.storage.values import printable

Tell = Callable[[str], None]

# Lines that wait for a terminal which stands still (Ctrl-S); what comes then is left out.
MOST_WAITING = 200
LEAVE_SECONDS = 1.0


@contextmanager
def teller() -> Iterator[Tell]:
    """Provide what writes lines to stderr, with the time.

    A thread writes them: nobody waits for a terminal, or for a pipe that is not read.
    """
    lines: Queue[str | None] = Queue(MOST_WAITING)

    def write() -> None:
        while (line := lines.get()) is not None:
            with suppress(OSError, ValueError):  # whoever read there is gone
                sys.stderr.write(line)
                sys.stderr.flush()

    def tell(line: str | None) -> None:
        with suppress(Full):
            lines.put_nowait(line and f"{local_clock()}  {line}\n")

    writer = Thread(target=write, name="teller", daemon=True)
    writer.start()
    try:
        yield tell
    finally:
        tell(None)
        writer.join(LEAVE_SECONDS)


def start_line(record: JobRecord) -> str:
    """Return that an attempt of a job begins."""
    what = f"evaluates {record.evaluates}" if record.evaluates else record.preset
    name = f" ({record.name})" if record.name else ""
    again = f", attempt {record.attempt}" if record.attempt > 1 else ""
    if record.attempt > 1 and record.checkpoint_step:
        again += f", from the checkpoint of step {record.checkpoint_step}"
    steps = "" if record.evaluates or not record.total_steps else f", {record.total_steps:,} steps"
    return printable(f"{record.id} starts: {what}{name}{steps}{again}")


def note_line(text: str, record: JobRecord) -> str:
    """Return what is to be known of the machine on which a job starts."""
    return printable(f"{record.id}: {text}")


def end_line(record: JobRecord) -> str:
    """Return what an attempt of a job came to: its figures, or why it failed and what to type."""
    state, seconds = record.state, record.duration_seconds
    took = f" after {duration(seconds)}" if seconds is not None and record.finished else ""
    if state in FINISHED_WELL:
        found = ", ".join(figures(record))
        return printable(f"{record.id} {state}{took}" + (f": {found}" if found else ""))
    reason = f": {record.reason.rstrip('.')}" if record.reason else ""
    if state is State.FAILED:
        return printable(f"{record.id} failed{took}{reason}. More: farense logs {record.id}")
    if state is State.QUEUED:
        return printable(f"{record.id} is back in the queue{reason}")
    return printable(f"{record.id} {state}{took}{reason}")
