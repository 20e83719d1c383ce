"""``farense logs``: what a job has said."""

from __future__ import annotations

import sys

import click

from cli.options import json_option, optional_job_argument
from cli.output import print_json_line
from cli.reading import job_named, reading
from daemon.latest import LATEST, RAN, SPEAKS
from jobs.console import Console
from jobs.errors import InvalidInput
from jobs.paths import Workspace


@click.command(short_help="Print what a job has said so far.")
@optional_job_argument
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the job ends.")
@click.option("--stderr", "raw", is_flag=True, help="Print the raw output of its process instead.")
@json_option
def logs(job: str | None, follow: bool, raw: bool, as_json: bool) -> None:
    """Print what a job has said so far; with -f go on until it ends.

    JOB is an id, part of one, a name, or `latest`, which is also meant where it is left out. With
    --json every line is one event.

    \b
    Example: farense logs latest -f
    """
    if raw and (follow or as_json):
        raise click.UsageError("--stderr cannot be combined with --follow or --json.")
    with reading() as reader:
        job_id = job_named(reader, job or LATEST, SPEAKS if follow else RAN).id
        if raw:
            print_stderr_of(job_id)
            return
        console = Console()
        for envelope in reader.follow(job_id, follow=follow):
            if as_json:
                print_json_line(envelope.as_dict())
                continue
            for line in console.lines(envelope):
                click.echo(line)


def print_stderr_of(job_id: str) -> None:
    """Copy the raw output of a job's processes to stdout.

    Raises:
        InvalidInput: this machine has none.
    """
    path = Workspace.current().job_stderr(job_id)
    try:
        sys.stdout.buffer.write(path.read_bytes())
    except FileNotFoundError:
        raise InvalidInput(f"No process of {job_id} has run on this machine.") from None
