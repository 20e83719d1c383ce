"""``farense queue``: what waits, in the order in which it will run, and how to change that."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cli.options import PRIORITY, job_argument, json_option, queue_option
from cli.output import note, print_json, terminal_width
from cli.reading import job_named, reading
from cli.show.render import LEAST_REASON, preset_text, reason_text
from cli.show.table import aligned, column_widths, fitting, shortened
from daemon.latest import WAITS
from daemon.settings import Settings
from jobs.state import State
from jobs.storage.formatting import NONE, local, local_exact
from jobs.storage.values import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.queue.position import QueuedJob
    from daemon.store.records import JobRecord

HEADINGS = ("#", "JOB", "PRESET", "STATE", "PRIORITY", "STARTS", "REASON")
# The columns that give way on a narrow terminal, in that order; the reason is cut.
LEAST_NEEDED = tuple(map(HEADINGS.index, ("PRIORITY", "PRESET", "STARTS", "#")))
RIGHT = (True, False, False, False, True, False, False)


@click.group(short_help="Show what waits, and change its order.", invoke_without_command=True)
@queue_option
@json_option
@click.pass_context
def queue(ctx: click.Context, queue_name: str | None, as_json: bool) -> None:
    """Show the jobs that wait, in the order in which they will run.

    Higher priorities go first, then jobs that were under way before, then the one queued first. A
    job that is scheduled, waits for another or is paused has no number until it is queued.

    \b
    Examples:
      farense queue
      farense queue top latest
    """
    if ctx.invoked_subcommand is None:
        _show(queue_name, as_json)
    elif as_json:
        raise click.UsageError(f"Put --json after {ctx.invoked_subcommand}.")
    elif queue_name is not None:
        raise click.UsageError(f"--queue cannot be combined with {ctx.invoked_subcommand}.")


@queue.command(short_help="Give a waiting job another priority.")
@job_argument
@click.option("--priority", type=PRIORITY, required=True, help="Jobs of higher priority run first.")
@json_option
def move(job: str, priority: int, as_json: bool) -> None:
    """Give a job that waits another priority.

    JOB is an id, part of one, a name, or `latest`. Among jobs of one priority it keeps its turn:
    the one queued first goes first.

    \b
    Example: farense queue move latest --priority 5
    """
    _move(job, priority, as_json)


@queue.command(short_help="Let a waiting job go before all others.")
@job_argument
@json_option
def top(job: str, as_json: bool) -> None:
    """Give a job that waits a priority above those of all queued jobs.

    JOB is an id, part of one, a name, or `latest`.

    \b
    Example: farense queue top latest
    """
    _move(job, None, as_json)


@queue.command(short_help="Show what could not be read, and was set aside.")
@click.option("--clear", is_flag=True, help="Forget it all after showing it.")
@json_option
def dead(clear: bool, as_json: bool) -> None:
    """Show messages, records and events that could not be read: the newest 100.

    They were set aside; nothing in them was executed. A killed process may leave half an event;
    anything else means that another program writes to this Redis.

    \b
    Example: farense queue dead --clear
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    with FarenseClient.connect(start_server=False) as client:
        found = client.dead_letters(clear=clear)
    if as_json:
        print_json([asdict(letter) for letter in found])
        return
    for letter in found:
        what = f"{letter.what}, {letter.size} bytes: {letter.reason}"
        click.echo(printable(f"{local_exact(letter.at)}  {what}"))
        click.echo(printable(f"  {letter.beginning}"))
    if not found:
        note("Nothing was set aside.")
    elif clear:
        note(f"Cleared: {len(found)}.")


def _show(queue_name: str | None, as_json: bool) -> None:

    from daemon.queue.position import places  # noqa: PLC0415 - a Tab would wait for redis
    from daemon.reader import QueueReader  # noqa: PLC0415 - a Tab would wait for redis

    with reading(queue=queue_name) as reader:
        found = reader.queue() if isinstance(reader, QueueReader) else places(reader.jobs())
        held = reader.why_nothing_starts(queue_name or Settings.from_environment().queue)
    if as_json:
        print_json([place.as_dict() for place in found])
    elif found:
        _print_table(found)
        for line in held:
            note(line)
    else:
        note("Nothing waits. Queue a job: farense enqueue v2")


def _move(job: str, priority: int | None, as_json: bool) -> None:

    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    with FarenseClient.connect() as client:
        record = client.move(job_named(client, job, WAITS).id, priority)
        waiting = client.queue()
    place = next((place for place in waiting if place.record.id == record.id), None)
    position = place.position if place else None
    if as_json:
        print_json({**record.as_dict(), "position": position})
        return
    queued = sum(place.position is not None for place in waiting)
    where = f"number {position} of {queued} in the queue" if position else str(record.state)
    click.echo(f"{record.id} has priority {record.priority} now and is {where}.")


def _print_table(found: Sequence[QueuedJob]) -> None:

    width = terminal_width()
    rows = [HEADINGS, *(_row(place) for place in found)]
    widths = column_widths(rows)
    kept = fitting([*widths[:-1], LEAST_REASON], LEAST_NEEDED, width)
    right = [RIGHT[column] for column in kept]
    for row in rows:
        line = aligned([row[column] for column in kept], [widths[column] for column in kept], right)
        click.echo(shortened(line, width) if width else line)


def _row(place: QueuedJob) -> tuple[str, ...]:

    record = place.record
    return (
        str(place.position or NONE),
        record.id,
        preset_text(record),
        str(record.state),
        str(record.priority),
        _starts(record),
        printable(" ".join((reason_text(record) or NONE).split())),
    )


def _starts(record: JobRecord) -> str:
    """Return what a job that is not queued yet starts after: a moment, or another job."""
    if record.state is State.WAITING and record.after:
        return printable(f"after {record.after}")
    if record.state is State.SCHEDULED and record.schedule:
        return printable(local(record.schedule))
    return NONE
