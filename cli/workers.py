"""``farense workers``: the daemons that share the queue."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.output import note, print_json
from jobs.storage.values import printable


@click.command(short_help="Show the daemons that share the queue.")
@json_option
def workers(as_json: bool) -> None:
    """Show the daemons that share the queue, on this machine and others, and what they do.

    \b
    Example: farense workers
    """
    from dataclasses import asdict

    from cli.render import aligned, column_widths
    from daemon.client import FarenseClient

    with FarenseClient.connect(start_server=False) as client:
        found = client.workers()
    if as_json:
        print_json([asdict(card) for card in found])
        return
    if not found:
        note("No daemon has worked on this queue lately. Start one: farense daemon")
        return
    rows = [("WORKER", "QUEUE", "SEEN", "DOES", "WORKSPACE")]
    for card in found:
        does = card.job or card.held_because or "waits for jobs"
        if not card.alive:
            does = "silent: stopped, asleep or cut off"
        # What another machine tells is shown as text that no terminal obeys.
        name, queue, does, place = map(printable, (card.name, card.queue, does, card.workspace))
        told = (name, queue, f"{card.seconds_ago:.0f} s ago", does, place)
        rows.append(told)
    widths = column_widths(rows)
    for row in rows:
        click.echo(aligned(row, widths))
