"""``farense daemon``: run, stop and look at the daemon."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.output import note, print_json


@click.group(invoke_without_command=True, short_help="Run the daemon that works through the queue.")
@click.pass_context
def daemon(ctx: click.Context) -> None:
    """Run the daemon that works through the queue, in the foreground.

    Ctrl-C, or `farense daemon stop` elsewhere, ends it: a running job writes a checkpoint and goes
    back to the queue.

    \b
    Example: farense daemon
    """
    if ctx.invoked_subcommand is not None:
        return
    from daemon.control import run_daemon
    from jobs.paths import Workspace

    workspace = Workspace.current()
    note(f"Starting the daemon of {workspace.root}. Log: {workspace.daemon_log}. Ctrl-C stops it.")
    run_daemon(workspace)


@daemon.command()
@json_option
def stop(as_json: bool) -> None:
    """Stop the daemon and the workspace's own queue server.

    Waits until a running job has written its checkpoint; it resumes with the next daemon.

    \b
    Example: farense daemon stop
    """
    from daemon.control import stop_daemon
    from jobs.paths import Workspace

    stopped = stop_daemon(Workspace.current())
    if as_json:
        print_json({"stopped": stopped})
    else:
        note("Stopped." if stopped else "Nothing was running.")


@daemon.command()
@json_option
def status(as_json: bool) -> None:
    """Tell whether the daemon runs, what it does and how much waits.

    \b
    Example: farense daemon status --json
    """
    from dataclasses import asdict

    from daemon.control import daemon_status
    from jobs.paths import Workspace

    now = daemon_status(Workspace.current())
    if as_json:
        print_json(asdict(now))
        return
    rows = {
        "Daemon": f"running (pid {now.pid})" if now.running else "not running",
        "Queue server": f"{now.server} ({'running' if now.server_running else 'not running'})",
        "Queued": "unknown" if now.queued is None else str(now.queued),
        "Running job": now.running_job or "none",
    }
    for name, value in rows.items():
        click.echo(f"{name:<14}{value}")
