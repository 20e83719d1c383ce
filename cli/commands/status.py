"""``farense status``: the jobs at a glance, or one of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.options import json_option, optional_job_argument
from cli.output import note, print_json, terminal_width, wants_colour
from cli.reading import job_named, reading
from cli.show.render import job_details, status_table
from daemon.latest import RAN
from daemon.standstill import held_lines
from daemon.store.progress import phase_lines
from jobs.state import State

if TYPE_CHECKING:
    from daemon.file_client import FileClient
    from daemon.reader import QueueReader
    from daemon.store.records import JobRecord


@click.command(short_help="Show the jobs, or one of them.")
@optional_job_argument
@click.option("--all", "show_all", is_flag=True, help="Every job, not just the newest 20.")
@json_option
def status(job: str | None, show_all: bool, as_json: bool) -> None:
    """Show the 20 newest jobs and all unfinished ones, those that run first; or one in full.

    Of more than a hundred that wait the oldest hundred are shown; --all and --json leave none out.

    JOB is an id, part of one, a name, or `latest`. Starts nothing: without Redis the answer comes
    from the files of the workspace.

    \b
    Example: farense status latest
    """
    held: list[str] = []
    with reading() as reader:
        if job is not None:
            record = job_named(reader, job, RAN)
            if as_json:
                print_json(record.as_dict())
                return
            click.echo("\n".join(job_details(record)))
            # Why it is interrupted stands in its details.
            still = [] if record.interrupted else held_lines(reader, [record])
            for line in [*still, *_power_lines(reader, [record])]:
                note(line)
            return
        if as_json or show_all:
            records, more = reader.jobs(all=show_all), 0
        else:
            seen = reader.overview()
            records, more = seen.records, seen.more_waiting
        if not as_json:
            held = [*phase_lines(records), *held_lines(reader, records)]
            held += _power_lines(reader, records)
    if as_json:
        print_json([record.as_dict() for record in records])
    elif records:
        shown = sorted(records, key=lambda record: record.state is not State.RUNNING)
        click.echo("\n".join(status_table(shown, terminal_width(), wants_colour())))
        if more:
            note(f"{more:,} more wait: farense queue")
        for line in held:
            note(line)
    else:
        note("There are no jobs yet. Queue one: farense enqueue v2")


def _power_lines(reader: QueueReader | FileClient, records: Sequence[JobRecord]) -> list[str]:
    """Return what is to be known of the machines' power while something runs or may start."""
    waits = any(record.state in (State.RUNNING, State.QUEUED) for record in records)
    return reader.power_lines() if waits else []
