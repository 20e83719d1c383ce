"""``farense watch``: one job, live, until it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from cli.options import json_option, optional_job_argument
from cli.output import note, print_json_line
from cli.reading import job_named, reading
from daemon.latest import LATEST, SPEAKS
from daemon.standstill import StandstillWatch
from jobs.console import Console
from jobs.errors import ExitCode
from jobs.events import StoodStill
from jobs.state import State

if TYPE_CHECKING:
    from daemon.store.records import JobRecord
    from jobs.events import Envelope

INTERRUPTED = 130

Add = Callable[["Envelope"], None]


class JobFollower(Protocol):
    """What watching needs of a client."""

    def job(self, argument: str) -> JobRecord:
        """Return a job."""

    def follow(
        self, job_id: str, *, follow: bool = True, idle: Callable[[], object] = ...
    ) -> Iterator[Envelope]:
        """Yield the events of a job until it ends; call ``idle`` while nothing happens."""

    def why_nothing_starts(self, queue: str) -> list[str]:
        """Return why none of the queued jobs of a queue starts; nothing where some may."""

    def without_daemon(self, queue: str) -> list[str]:
        """Return that no daemon works on a queue; nothing where one does."""


@click.command(short_help="Watch a job live until it ends.")
@optional_job_argument
@json_option
@click.pass_context
def watch(ctx: click.Context, job: str | None, as_json: bool) -> None:
    """Watch a job until it ends: what it says, and below it a progress bar.

    JOB is an id, part of one, a name, or `latest`; without it the running job, else the newest
    queued one, else the newest unfinished one, else the newest. Where the job does not move, watch
    says why, and goes on. Ctrl-C stops watching; the job goes on. Exits with 0 where the job came
    to a good end and with 1 where it failed or was cancelled.

    With --json each event is a line of its own; that the job does not move is the event
    `standstill`, whose `message` says why.

    \b
    Example: farense watch latest
    """
    with reading() as reader:
        record = default_job(reader.jobs()) if job is None else None
        record = record or job_named(reader, job or LATEST, SPEAKS)
        ctx.exit(watch_job(reader, record.id, as_json=as_json))


def watch_job(reader: JobFollower, job_id: str, *, as_json: bool = False) -> int:
    """Show a job until it ends, or until Ctrl-C; return the exit code that tells how."""
    try:
        show(reader, job_id, as_json=as_json)
    except KeyboardInterrupt:
        note(f"Stopped watching; {job_id} goes on. Watch again: farense watch {job_id}")
        return INTERRUPTED
    return report_end(reader.job(job_id))


def report_end(record: JobRecord) -> int:
    """Say how a job ended where its own last words do not; return the exit code that tells so."""
    if record.state in (State.COMPLETED, State.EARLY_STOPPED):
        return ExitCode.OK
    note(f"{record.id} {record.state.verb}" + (f": {record.reason}" if record.reason else "."))
    return ExitCode.FAILED


def show(reader: JobFollower, job_id: str, *, as_json: bool = False) -> None:
    """Print what a job says as it says it, and why it does not move, until it has ended.

    Args:
        as_json: as JSON lines; else live on a terminal, and plain lines elsewhere.
    """
    with (json_lines if as_json else live if sys.stdout.isatty() else plain_lines)() as add:
        still = StandstillWatch(reader, job_id, add)
        for envelope in reader.follow(job_id, idle=still.look):
            add(envelope)


@contextmanager
def json_lines() -> Iterator[Add]:
    """Provide what prints an event as a line of JSON."""
    yield lambda envelope: print_json_line(envelope.as_dict())


@contextmanager
def live() -> Iterator[Add]:
    """Provide what adds an event to a live view on the terminal."""
    from cli.show.live import LiveView  # noqa: PLC0415 - loads rich

    with LiveView() as view:
        yield view.add


@contextmanager
def plain_lines() -> Iterator[Add]:
    """Provide what prints an event as lines; what the job does not say itself goes to stderr."""
    console = Console()

    def add(envelope: Envelope) -> None:
        for line in console.lines(envelope):
            click.echo(line, err=isinstance(envelope.event, StoodStill))

    yield add


def default_job(records: Sequence[JobRecord]) -> JobRecord | None:
    """Return the job meant where none is named: a running one, else the newest queued, else the
    newest unfinished (one that waits for no other, if there is one), else the newest; None where
    there are none.

    Args:
        records: newest first.
    """

    def rank(record: JobRecord) -> int:
        if record.finished:
            return 4
        if record.state is State.RUNNING and not record.interrupted:
            return 0
        return {State.QUEUED: 1, State.WAITING: 3}.get(record.state, 2)

    return min(records, key=rank, default=None)
