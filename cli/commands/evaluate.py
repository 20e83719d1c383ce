"""``farense evaluate``: queue an evaluation of a training job's best adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.commands.watch import watch_job
from cli.options import job_argument, json_option
from cli.output import print_json, warn
from cli.reading import job_named
from daemon.latest import EVALUATED

if TYPE_CHECKING:
    from daemon.store.records import JobRecord

MOST = 4096


@click.command(short_help="Score the answers of a job's best adapter.")
@job_argument
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1, MOST),
    metavar="N",
    help="Longest answer, in tokens (default: twice the longest reference).",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, MOST),
    metavar="N",
    help="Questions answered together (16).",
)
@click.option("--ignore-accents", is_flag=True, help="Accents make no difference to the scores.")
@click.option(
    "--after-any",
    is_flag=True,
    help="Where the job has not ended: however it ends, learned or not.",
)
@click.option(
    "--priority", type=int, default=0, help="Jobs of higher priority run first (default: 0)."
)
@click.option("--watch", "watching", is_flag=True, help="Watch the evaluation until it ends.")
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    job: str,
    max_new_tokens: int | None,
    batch_size: int | None,
    ignore_accents: bool,
    after_any: bool,
    priority: int,
    watching: bool,
    as_json: bool,
) -> None:
    """Queue an evaluation of a training job and print its id.

    JOB is an id, part of one, a name, or `latest`. Its best adapter answers every question of its
    validation set, and so does the base model; the answers are scored (token F1, exact match,
    ROUGE-L, chrF) and written to the job's folder `evaluation/`. Where the training has not ended,
    the evaluation starts after it, unless the model has learned nothing (SEM APRENDIZAGEM).

    \b
    Example: farense evaluate latest --watch
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    refuse_both(watching, as_json)
    with FarenseClient.connect() as client:
        record = client.evaluate(
            job_named(client, job, EVALUATED).id,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            ignore_accents=ignore_accents,
            priority=priority,
            after_any=after_any,
        )
        if as_json:
            print_json(record.as_dict())
        else:
            click.echo(queued(record))
        if watching:
            ctx.exit(watch_job(client, record.id))
        for line in client.without_daemon(record.queue):
            warn(line)


def refuse_both(watching: bool, as_json: bool, instead: str = "farense watch --json") -> None:
    """Refuse a live view in the place of one object.

    Args:
        instead: the command that prints it.

    Raises:
        UsageError: both are wanted.
    """
    if watching and as_json:
        raise click.UsageError(f"--watch and --json cannot be combined: use {instead}.")


def queued(record: JobRecord) -> str:
    """Return what became of a job that was enqueued: its state, its id, and why it waits."""
    when = f": {record.reason}" if record.reason else ""
    return f"{record.state.capitalize()} {record.id}{when}"
