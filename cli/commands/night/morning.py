"""``farense morning``: what became of the jobs since the evening, on one screen."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from cli.options import json_option
from cli.output import note, print_json
from cli.show.morning_screen import screen
from daemon.morning.summary import default_since
from daemon.morning.summary import morning as look
from daemon.times import parse_since
from jobs.paths import Workspace


@click.command(short_help="Show what became of the jobs overnight.")
@click.option(
    "--since",
    metavar="TIME",
    help="From when on: 22:00, 8h, 'yesterday 6am'. Default: where the last window of the daemon "
    "began; without one, 12 hours ago.",
)
@json_option
def morning(since: str | None, as_json: bool) -> None:
    """Show what ran overnight, how each job ended, the best, what failed, and what still waits.

    Also how much of the disk is free, and how long nothing ran, and why. All of it comes from the
    files of the workspace; only what waits is asked of Redis, where it answers.

    \b
    Example: farense morning --since 22:00
    """
    workspace, now = Workspace.current(), datetime.now(UTC)
    began = parse_since(since, now) if since else default_since(workspace, now)
    found = look(workspace, began, now)
    if as_json:
        print_json(found.as_dict())
        return
    click.echo("\n".join(screen(found)))
    if not found.queue_answers:
        note("The queue does not answer: what waits was read from the files of this workspace.")
