"""``farense enqueue``: put a training job on the queue."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from cli.options import PRIORITY, json_option, preset_from, queue_option, set_option
from cli.output import print_json, warn


@click.command(short_help="Queue a training job.", context_settings={"allow_extra_args": True})
@click.argument("preset")
@set_option
@click.option("--name", help="What you want to call the job.")
@click.option("--priority", type=PRIORITY, default=0, help="Higher goes first; 0 where not given.")
@click.option("--at", "at", metavar="TIME", help="Not before: 23:00, or '2026-11-25 23:00'.")
@click.option("--in", "delay", metavar="TIME", help="Not before so long from now: 2h, 90m.")
@click.option("--after", metavar="JOB", help="Not before this job has ended well.")
@click.option("--after-any", is_flag=True, help="With --after: or has ended in any other way.")
@queue_option
@click.option("--watch", "watching", is_flag=True, help="Watch the job until it ends.")
@json_option
@click.pass_context
def enqueue(
    ctx: click.Context,
    preset: str,
    overrides: tuple[str, ...],
    name: str | None,
    priority: int,
    at: str | None,
    delay: str | None,
    after: str | None,
    after_any: bool,
    queue_name: str | None,
    watching: bool,
    as_json: bool,
) -> None:
    """Queue a training job and print its id.

    PRESET is a name (v1, v2, quickstart) or a YAML file. Configuration, model and data are checked
    first, and the data is copied: editing it later changes nothing for this job.

    \b
    Example: farense enqueue v2 --set learning_rate=1e-4 --at 23:00
    """
    from cli.config import plan_text
    from cli.watch import warn_without_daemon, watch_job
    from daemon.client import FarenseClient
    from daemon.ordering import check
    from jobs.paths import Workspace

    refuse_extra(ctx)
    if watching and as_json:
        raise click.UsageError("--watch and --json do not go together: use farense watch --json.")
    if after_any and not after:
        raise click.UsageError("--after-any needs a job: --after JOB --after-any.")
    schedule_at = start_time(at, delay)
    loaded = preset_from(preset, overrides)
    workspace = Workspace.current()
    schedule = check(loaded, workspace)
    patience = loaded.config.early_stopping_patience
    warning = schedule.warning(patience)
    with FarenseClient.connect(workspace, queue=queue_name) as client:
        record = client.enqueue(
            loaded,
            name=name,
            priority=priority,
            schedule=schedule_at,
            after=client.job(after).id if after else None,
            after_any=after_any,
        )
        if as_json:
            validations = len(schedule.validation_steps)
            print_json({**record.as_dict(), "validations": validations, "warning": warning})
        else:
            when = f": {record.reason}" if record.reason else ""
            click.echo(f"{record.state.capitalize()} {record.id}{when}")
            click.echo(f"  {plan_text(schedule, patience)}")
        if warning:
            warn(warning)
        warn_without_daemon(client, record)
        if watching:
            ctx.exit(watch_job(client, record.id))


def start_time(at: str | None, delay: str | None) -> datetime | None:
    """Return the moment before which a job is not to start; None for at once.

    Raises:
        UsageError: both are given.
        InvalidInput: what is given is no time, or not one ahead.
    """
    from daemon.times import parse_at, parse_in

    if at and delay:
        raise click.UsageError("--at and --in do not go together.")
    now = datetime.now(UTC)
    if at:
        return parse_at(at, now)
    return parse_in(delay, now) if delay else None


def refuse_extra(ctx: click.Context) -> None:
    """Refuse arguments after the preset; a setting among them shows how it is meant to be given.

    Raises:
        UsageError: there are some.
    """
    if not ctx.args:
        return
    extra = ctx.args[0]
    if "=" in extra and not extra.startswith("-"):
        raise click.UsageError(f"Settings are given with --set: --set {extra}", ctx)
    raise click.UsageError(f"Got unexpected extra argument ({extra}).", ctx)
