"""``farense enqueue``: put a training job on the queue."""

from __future__ import annotations

import click

from cli.options import json_option, preset_from, set_option
from cli.output import print_json, warn


@click.command(short_help="Queue a training job.", context_settings={"allow_extra_args": True})
@click.argument("preset")
@set_option
@click.option("--name", help="What you want to call the job.")
@click.option("--priority", type=int, default=0, help="Higher goes first; 0 where not given.")
@click.option("--watch", "watching", is_flag=True, help="Watch the job until it ends.")
@json_option
@click.pass_context
def enqueue(
    ctx: click.Context,
    preset: str,
    overrides: tuple[str, ...],
    name: str | None,
    priority: int,
    watching: bool,
    as_json: bool,
) -> None:
    """Queue a training job and print its id.

    PRESET is a name (v1, v2, quickstart) or a YAML file. Configuration, model and data are checked
    first, and the data is copied: editing it later changes nothing for this job.

    \b
    Example: farense enqueue v2 --set learning_rate=1e-4 --set lora.rank=4
    """
    from cli.config import plan_text
    from cli.watch import warn_without_daemon, watch_job
    from daemon.client import FarenseClient
    from daemon.ordering import check
    from jobs.paths import Workspace

    refuse_extra(ctx)
    if watching and as_json:
        raise click.UsageError("--watch and --json do not go together: use farense watch --json.")
    loaded = preset_from(preset, overrides)
    workspace = Workspace.current()
    schedule = check(loaded, workspace)
    patience = loaded.config.early_stopping_patience
    warning = schedule.warning(patience)
    with FarenseClient.connect(workspace) as client:
        record = client.enqueue(loaded, name=name, priority=priority)
        if as_json:
            validations = len(schedule.validation_steps)
            print_json({**record.as_dict(), "validations": validations, "warning": warning})
        else:
            click.echo(f"Queued {record.id}")
            click.echo(f"  {plan_text(schedule, patience)}")
        if warning:
            warn(warning)
        warn_without_daemon(record)
        if watching:
            ctx.exit(watch_job(client, record.id))


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
