"""``farense mcp``: the workspace as tools for agents, by the Model Context Protocol."""

from __future__ import annotations

import signal
import sys

import click

from cli.output import note
from jobs.paths import Workspace


@click.command(name="mcp", short_help="Let an agent look at jobs, and queue some.")
@click.option(
    "--allow-enqueue", is_flag=True, help="Let the agent queue jobs. [default: only look]"
)
@click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="The most jobs that it may queue while this server runs.",
)
@click.option(
    "--max-hours",
    type=click.FloatRange(min=0, min_open=True),
    default=12.0,
    show_default=True,
    help="The most hours that these may train, all together.",
)
def mcp(allow_enqueue: bool, max_jobs: int, max_hours: float) -> None:
    """Serve an agent on standard input and output: the Model Context Protocol.

    The agent's program starts this command; a person does not type it. It offers presets and what
    their settings mean, a check of data, the jobs with their metrics, comparisons with decision and
    intervals, sweeps, and waiting for the end of a job. Nothing outside the workspace is read.

    With --allow-enqueue it queues trainings, too, after the checks of `farense enqueue`. A job
    counts by its max_hours until it has ended, then by what it ran; what is beyond the budget is
    refused.

    \b
    Example: farense mcp --allow-enqueue --max-jobs 3 --max-hours 6
    """
    from daemon.agents.budget import Limits  # noqa: PLC0415 - a Tab would wait for all of it
    from daemon.agents.server import serve  # noqa: PLC0415 - as above

    # The thread that reads standard input would not hear of a KeyboardInterrupt, and there is
    # nothing to be saved: what was queued stands.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stdin.isatty():
        note("This speaks with the program of an agent, which starts it by itself. Ctrl-C ends it.")
    serve(Workspace.current(), Limits(max_jobs, max_hours) if allow_enqueue else None)
