"""``farense enqueue``: put a training job on the queue."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from cli.commands.config import foreseen_of, plan_text
from cli.commands.evaluate import queued, refuse_both
from cli.commands.watch import watch_job
from cli.completion import jobs_in
from cli.options import (
    PRIORITY,
    json_option,
    preset_argument,
    preset_from,
    queue_option,
    set_option,
)
from cli.output import print_json, warn
from cli.reading import job_named
from daemon.latest import FOLLOWED, NEWEST
from daemon.submit.checks import SubmitChecks, Wanted
from daemon.times import parse_at, parse_in
from jobs.paths import Workspace


@click.command(short_help="Queue a training job.", context_settings={"allow_extra_args": True})
@preset_argument
@set_option
@click.option("--name", help="A name for the job.")
@click.option("--priority", type=PRIORITY, default=0, help="Higher runs first (default: 0).")
@click.option("--at", "at", metavar="TIME", help="Start no earlier than: 23:00, 'tomorrow 6am' ...")
@click.option("--in", "delay", metavar="TIME", help="Start no earlier than in: 2h, 90m.")
@click.option(
    "--after",
    metavar="JOB",
    shell_complete=jobs_in("queued", "scheduled", "waiting", "running", "paused"),
    help="Start once this job has succeeded, and learned.",
)
@click.option(
    "--after-any", is_flag=True, help="With --after: however that job ends, learned or not."
)
@click.option(
    "--evaluate", "evaluated", is_flag=True, help="Evaluate it once it has succeeded, and learned."
)
@click.option("--evaluate-any", is_flag=True, help="Evaluate it however it ends, learned or not.")
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
    evaluated: bool,
    evaluate_any: bool,
    queue_name: str | None,
    watching: bool,
    as_json: bool,
) -> None:
    """Queue a training job and print its id.

    PRESET is a name (v1, v2, chat, quickstart) or a YAML file. Configuration, model and data are
    checked first, and the data is copied: editing it later changes nothing for this job.

    \b
    Example: farense enqueue v2 --set learning_rate=1e-4 --at 23:00
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    refuse_extra(ctx)
    refuse_both(watching, as_json)
    if after_any and after is None:
        raise click.UsageError("--after-any goes with --after: --after latest --after-any.")
    schedule_at = start_time(at, delay)
    follows = NEWEST if after_any else FOLLOWED
    loaded = preset_from(preset, overrides)
    workspace, config = Workspace.current(), loaded.config
    evaluated, patience = evaluated or evaluate_any, config.early_stopping_patience
    checks = SubmitChecks.of(workspace)
    schedule = config.schedule(checks.look(config, evaluated=evaluated))
    with FarenseClient.connect(workspace, queue=queue_name) as client:
        after = None if after is None else job_named(client, after, follows).id
        # It may take minutes: not before there is a queue for the job.
        [said] = checks.check([Wanted(config, evaluated=evaluated)])
        warning = foreseen_of(config, schedule)
        remarks = [*filter(None, [warning]), *said]
        record = client.enqueue(
            loaded,
            name=name,
            priority=priority,
            schedule=schedule_at,
            after=after,
            after_any=after_any,
            checks=checks,
        )
        jobs = [record]
        if evaluated:
            evaluation = client.evaluate(
                record.id, priority=priority, after_any=evaluate_any, checks=checks
            )
            jobs.append(evaluation)
        if as_json:
            plan = {
                "validations": len(schedule.validation_steps),
                "warning": warning,
                "warnings": remarks,
            }
            following = jobs[1].id if evaluated else None
            print_json({**record.as_dict(), **plan, "evaluation": following})
        else:
            click.echo(queued(record))
            click.echo(f"  {plan_text(schedule, patience)}")
            for job in jobs[1:]:
                click.echo(queued(job))
        for remark in remarks:
            warn(remark)
        if watching:
            ctx.exit(next(filter(None, (watch_job(client, job.id) for job in jobs)), 0))
        for line in client.without_daemon(record.queue):
            warn(line)


def start_time(at: str | None, delay: str | None) -> datetime | None:
    """Return the moment before which a job is not to start; None for at once.

    Raises:
        UsageError: both are given.
        InvalidInput: what is given is no time, or not one ahead.
    """
    if at is not None and delay is not None:
        raise click.UsageError("--at and --in cannot be combined.")
    now = datetime.now(UTC)
    if at is not None:
        return parse_at(at, now)
    return None if delay is None else parse_in(delay, now)


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
