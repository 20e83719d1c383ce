"""``farense cancel``: commands that change a job."""

from __future__ import annotations

import click

from cli.options import job_argument, json_option
from cli.output import print_json


@click.command(short_help="Cancel a job.")
@job_argument
@json_option
def cancel(job: str, as_json: bool) -> None:
    """Cancel a job: at once while it is queued; a running one stops within seconds.

    JOB is an id, a unique part of one, or `latest`. The run directory stays, with the best adapter
    so far.

    \b
    Example: farense cancel latest
    """
    from daemon.client import FarenseClient
    from jobs.state import State

    with FarenseClient.connect() as client:
        record = client.cancel(client.job(job).id)
    if as_json:
        print_json(record.as_dict())
    elif record.state is State.CANCELLED:
        click.echo(f"Cancelled {record.id}.")
    elif record.finished:
        click.echo(f"{record.id} is {record.state} already.")
    else:
        click.echo(f"Cancelling {record.id}: its process is told to stop.")
