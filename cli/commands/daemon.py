"""``farense daemon``: run, stop and look at the daemon."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import asdict, replace

import click

from cli.options import json_option, queue_option
from cli.output import note, print_json
from cli.show.table import table
from daemon.notify.addresses import VARIABLE, redacted_address
from daemon.runs.workspace_locks import daemon_lock
from daemon.service.service import service_of
from daemon.settings import Settings, check_queue_name, redacted
from daemon.times import Window
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.storage.formatting import NONE
from jobs.storage.locks import held_by
from jobs.storage.values import printable


@click.group(invoke_without_command=True, short_help="Run the daemon that works through the queue.")
@click.option("--window", help="Run jobs in this part of the day only, as 22:00-07:00.")
@click.option("--on-mains-only", is_flag=True, help="Run jobs only on mains power.")
@click.option("--ui", "with_page", is_flag=True, help="Serve the page to watch, too: farense ui.")
@click.option("--ui-host", metavar="ADDRESS", help="With --ui: as farense ui --host.")
@click.option("--ui-port", type=click.IntRange(1, 65535), help="With --ui: its port.")
@queue_option
@click.pass_context
def daemon(
    ctx: click.Context,
    window: str | None,
    on_mains_only: bool,
    with_page: bool,
    ui_host: str | None,
    ui_port: int | None,
    queue_name: str | None,
) -> None:
    """Run the daemon that works through the queue, in the foreground.

    Ctrl-C, or `farense daemon stop` elsewhere, ends it: a running job writes a checkpoint and goes
    back to the queue. So it does where a window ends; it goes on in the next one.
    With --ui a page to watch it is served for as long; `farense ui --link` prints its link.

    configs/daemon/night.yaml says what else this machine does: rests, a battery's floor, the
    display, Metal's watchdog, other programs on the GPU.

    \b
    Example: farense daemon --window 22:00-07:00
    """
    if ctx.invoked_subcommand is not None:
        if any((window, on_mains_only, with_page, ui_host, ui_port, queue_name)):
            raise click.UsageError(f"Options do not precede {ctx.invoked_subcommand}.")
        return
    if not with_page and (ui_host or ui_port):
        raise click.UsageError("--ui-host and --ui-port go with --ui.")

    from daemon.night.night import Night  # noqa: PLC0415 - loads pydantic
    from daemon.night.settings import NightSettings  # noqa: PLC0415
    from daemon.worker.consumer import run_daemon  # noqa: PLC0415 - loads Huey

    workspace = Workspace.current()
    settings, night = Settings.from_environment(), Night(NightSettings.of(workspace))
    if window is not None:
        settings = replace(settings, window=Window.parse(window))
    if queue_name is not None:
        settings = replace(settings, queue=check_queue_name(queue_name))
    settings = replace(settings, on_mains_only=on_mains_only or settings.on_mains_only)
    note(f"Starting the daemon of {workspace.root}. Log: {workspace.daemon_log}. Ctrl-C stops it.")
    with _page_beside(workspace, ui_host, ui_port, wanted=with_page):
        run_daemon(workspace, settings, night)


def _page_beside(
    workspace: Workspace, host: str | None, port: int | None, *, wanted: bool
) -> AbstractContextManager[object]:
    """Return what serves the page while the daemon runs, and say where its link is."""
    from daemon.page.address import LOOPBACK  # noqa: PLC0415 - only this serves a page
    from daemon.page.beside import PageBeside, page_of_environment  # noqa: PLC0415 - as above

    if not wanted:
        return page_of_environment(workspace, note)
    # Not the link itself: under launchd this goes into a log, and the link holds the token.
    note("The page to watch is served beside it; its link: farense ui --link")
    return PageBeside(workspace, host or LOOPBACK, port, note)


@daemon.command()
@json_option
def stop(as_json: bool) -> None:
    """Stop the daemon and the workspace's own queue server.

    Waits until a running job has written its checkpoint; it resumes with the next daemon.

    \b
    Example: farense daemon stop
    """
    from daemon.process import stop_daemon  # noqa: PLC0415 - a Tab would wait for redis

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
    from daemon.process import daemon_status  # noqa: PLC0415 - a Tab would wait for redis

    now = daemon_status(Workspace.current())
    if as_json:
        print_json(asdict(now))
        return
    # Of a Redis elsewhere nothing is known but that.
    silent = "does not answer" if "://" in now.server else "not running"
    answer = "running" if now.server_running else silent
    rows: dict[str, str | None] = {
        "Daemon": f"running (pid {now.pid})" if now.running else "not running",
        "Queue server": f"{now.server} ({answer})",
        "Queued": "unknown" if now.queued is None else str(now.queued),
        "Running job": now.running_job or "none",
        "Doing": now.doing,
        "Starts none": now.held_because,
        "Power": now.power,
    }
    for name, value in rows.items():
        if value is not None:
            click.echo(f"{name:<14}{printable(value)}")


@daemon.command()
@click.option(
    "--window",
    metavar="FROM-TO",
    help="The hours in which jobs may run, e.g. 22:00-07:00 (default: FARENSE_WINDOW, else all).",
)
@click.option("--print", "only_print", is_flag=True, help="Print the file; install nothing.")
def install(window: str | None, only_print: bool) -> None:
    """Let the system run the daemon: now, at every login, and again after a crash.

    Writes a launchd agent (macOS) or a systemd unit of the user (Linux) for this workspace and
    starts it. It keeps the FARENSE_* settings of this shell. Installing again replaces it, and
    starts it again after a `farense daemon stop`.

    \b
    Example: farense daemon install --window 22:00-07:00
    """
    workspace = Workspace.current()
    service = service_of(workspace)
    environment = dict(os.environ)
    if window is not None:
        environment["FARENSE_WINDOW"] = str(Window.parse(window))
    if only_print:
        service.content(environment)  # complains of what an installation would complain of
        click.echo(service.content(_for_a_screen(environment)), nl=False)
        return
    other = None if service.path.exists() else held_by(daemon_lock(workspace))
    outcome = service.install(environment)
    click.echo(f"{'Replaced' if outcome.replaced else 'Installed'} {service.path}")
    if outcome.failure:
        raise WorkspaceError(
            f"The file is there, but the service was not started: {outcome.failure}.",
            f"To start it: {service.load_line}",
        )
    note(f"Started by: {service.load_line}")
    if other is not None:
        note(f"A daemon runs already (pid {other}); the service takes over once that one ends.")
    if service.advice:
        note(service.advice)


def _for_a_screen(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment without what is secret in it: of a shared Redis, and of addresses."""
    shown = dict(environment)
    url = environment.get("FARENSE_REDIS_URL", "").strip()
    if url and redacted(url) != url:
        shown["FARENSE_REDIS_URL"] = redacted(url)
        note(
            "Not shown: user, password and options of FARENSE_REDIS_URL. The installed file has "
            "them."
        )
    if addresses := environment.get(VARIABLE, "").split():
        shown[VARIABLE] = " ".join(map(redacted_address, addresses))
        note(f"Not shown: what is secret in {VARIABLE}. The installed file has it.")
    return shown


@daemon.command()
def uninstall() -> None:
    """Stop the daemon that `farense daemon install` installed, and remove its file.

    Waits until a running job has written its checkpoint; it resumes with the next daemon.

    \b
    Example: farense daemon uninstall
    """
    workspace = Workspace.current()
    service = service_of(workspace)
    outcome = service.uninstall()
    if not outcome.replaced:
        note(f"No service is installed for {workspace.root}: there is no {service.path}.")
        return
    click.echo(f"Removed {service.path}")
    if outcome.failure:
        raise WorkspaceError(
            f"The file is gone, but the service may still run: {outcome.failure}.",
            "To end its daemon: farense daemon stop",
        )


@click.command(short_help="Show the daemons that share the queue.")
@json_option
def workers(as_json: bool) -> None:
    """Show the daemons that share the queue, on this machine and others, and what they do.

    \b
    Example: farense workers
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    with FarenseClient.connect(start_server=False) as client:
        found = client.workers()
    if as_json:
        print_json([asdict(card) for card in found])
        return
    if not found:
        note("No daemon has worked on this queue lately. Start one: farense daemon")
        return
    power = any(card.power and card.alive for card in found)
    rows = [("WORKER", "QUEUE", "SEEN", "DOES", *(["POWER"] if power else []), "WORKSPACE")]
    for card in found:
        does = card.job or card.held_because or "waits for jobs"
        if not card.alive:
            does = "silent: stopped, asleep or cut off"
        # What another machine tells is shown as text that no terminal obeys.
        name, queue, does, place = map(printable, (card.name, card.queue, does, card.workspace))
        fed = [printable(card.power or NONE) if card.alive else NONE] if power else []
        rows.append((name, queue, f"{card.seconds_ago:.0f} s ago", does, *fed, place))
    click.echo("\n".join(table(rows)))
