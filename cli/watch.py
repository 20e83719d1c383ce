"""``farense watch``: one job, live, until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import click

from cli.options import json_option, optional_job_argument
from cli.output import note, print_json_line, warn
from cli.reading import held_lines, reading

if TYPE_CHECKING:
    from daemon.records import JobRecord
    from jobs.events import Envelope

INTERRUPTED = 130
LOOK_SECONDS = 2.0


class Reader(Protocol):
    """What watching needs of a client."""

    def job(self, argument: str) -> JobRecord:
        """Return a job."""

    def follow(
        self, job_id: str, *, follow: bool = True, idle: Callable[[], object] = ...
    ) -> Iterator[Envelope]:
        """Yield the events of a job until it ends; call ``idle`` while nothing happens."""


@click.command(short_help="Watch a job live until it ends.")
@optional_job_argument
@json_option
@click.pass_context
def watch(ctx: click.Context, job: str | None, as_json: bool) -> None:
    """Watch a job until it ends: what it says, and below it a progress bar.

    JOB is an id, part of one, a name, or `latest`; without it the running job, else the newest
    unfinished one, else the newest. Ctrl-C stops watching; the job goes on. Exits with 0 where the
    job came to a good end and with 1 where it failed or was cancelled.

    \b
    Example: farense watch latest
    """

    with reading() as reader:
        record = reader.job(job) if job else default_job(reader.jobs()) or reader.job("latest")
        warn_without_daemon(reader, record)
        ctx.exit(watch_job(reader, record.id, as_json=as_json))


def watch_job(reader: Reader, job_id: str, *, as_json: bool = False) -> int:
    """Show a job until it ends, or until Ctrl-C; return the exit code that tells how."""
    still = Standstill(reader, job_id)
    try:
        show(reader.follow(job_id, idle=still.tell), as_json=as_json)
    except KeyboardInterrupt:
        note(f"Stopped watching; {job_id} goes on. Look again: farense watch {job_id}")
        return INTERRUPTED
    return report_end(reader.job(job_id))


class Standstill:
    """Says on stderr, once each time, why a job that is watched does not move.

    Args:
        job_id: of the job.
    """

    def __init__(self, reader: Reader, job_id: str) -> None:
        self._reader, self._job_id = reader, job_id
        self._said: str | None = None
        self._next = 0.0

    def tell(self) -> None:
        """Look, at most every two seconds, and say what is new."""
        from daemon.interrupted import standstill

        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        record = self._reader.job(self._job_id)
        held = [] if record.finished else held_lines(self._reader, [record])
        why = f"{record.id} is {text}." if (text := standstill(record)) else " ".join(held)
        if why and why != self._said:
            note(why)
        self._said = why


def report_end(record: JobRecord) -> int:
    """Say how a job ended where its own last words do not; return the exit code that tells so."""
    from jobs.errors import ExitCode
    from jobs.state import State

    if record.state in (State.COMPLETED, State.EARLY_STOPPED):
        return ExitCode.OK
    note(f"{record.id} is {record.state}" + (f": {record.reason}" if record.reason else "."))
    return ExitCode.FAILED


def show(events: Iterable[Envelope], *, as_json: bool = False) -> None:
    """Print events as they come: JSON lines, a live view on a terminal, else plain lines."""
    from jobs.console import Console

    if as_json:
        for envelope in events:
            print_json_line(envelope.as_dict())
        return
    if sys.stdout.isatty():
        from cli.live import LiveView

        with LiveView() as view:
            for envelope in events:
                view.add(envelope)
        return
    console = Console()
    for envelope in events:
        for line in console.lines(envelope):
            click.echo(line)


def default_job(records: Sequence[JobRecord]) -> JobRecord | None:
    """Return the job meant where none is named: a running one, else the newest unfinished (one that
    waits for no other, if there is one), else the newest; None where there are none.

    Args:
        records: newest first.
    """
    from jobs.state import FINISHED, State

    running = [record for record in records if record.state is State.RUNNING]
    unfinished = [record for record in records if record.state not in FINISHED]
    first = [record for record in unfinished if record.state is not State.WAITING]
    return next(iter([*running, *first, *unfinished, *records]), None)


def warn_without_daemon(reader: Reader, record: JobRecord) -> None:
    """Warn where a job waits and no daemon works on its queue, here or on another machine."""
    from daemon.control import daemon_status
    from daemon.reader import QueueReader
    from daemon.settings import Settings
    from jobs.paths import Workspace
    from jobs.state import DEFAULT_QUEUE, FINISHED, State

    if record.state in FINISHED or record.state is State.RUNNING:
        return
    shared = Settings.from_environment().redis_url is not None
    if not shared and not daemon_status(Workspace.current()).running:
        warn("no daemon is running to do the work; start one: farense daemon")
    elif isinstance(reader, QueueReader):
        cards = reader.workers()
        if not any(card.alive and card.queue == record.queue for card in cards):
            option = "" if record.queue == DEFAULT_QUEUE else f" --queue {record.queue}"
            warn(f"no daemon works on the queue {record.queue}; start one: farense daemon{option}")
