"""``farense prune``: remove jobs that have ended, and what only they needed."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.output import note, print_json, warn
from cli.show.table import shortened, table
from daemon.prune.plan import Selection, freed, plan_prune
from daemon.times import parse_duration
from jobs.errors import InvalidInput, QueueUnreachable
from jobs.paths import Workspace
from jobs.state import FINISHED, State
from jobs.storage.formatting import counted, local, size_text

if TYPE_CHECKING:
    from daemon.prune.plan import Plan, Selection
    from daemon.prune.removal import Removed

ENDS = tuple(str(state) for state in State if state in FINISHED)

DIGEST_WIDTH = 24


@click.command(short_help="Remove jobs that have ended.")
@click.option(
    "--older-than", metavar="TIME", help="Jobs that ended at least this long ago: 30d, 12h."
)
@click.option("--keep", type=click.IntRange(min=0), help="Keep this many of the newest.")
@click.option(
    "--state",
    "states",
    type=click.Choice(ENDS),
    multiple=True,
    help="Jobs that ended in this state; repeatable.",
)
@click.option("--checkpoints-only", is_flag=True, help="Remove their checkpoints only.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def prune(
    older_than: str | None,
    keep: int | None,
    states: tuple[str, ...],
    checkpoints_only: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove jobs that have ended: run directory, logs, record, and data that no other job names.

    Options that select jobs are combined: all of them must hold. A job that has not ended stays,
    and so does one that it needs, and whatever was exported. With --checkpoints-only every job
    stays, with its best adapter and metrics: only what it would resume from goes.

    \b
    Examples:
      farense prune --older-than 30d --dry-run
      farense prune --state failed --state cancelled
      farense prune --keep 10 --checkpoints-only --yes
    """
    from daemon.reader import open_reader  # noqa: PLC0415 - a Tab would wait for redis

    selection = _selection(older_than, keep, states, checkpoints_only)
    workspace = Workspace.current()
    reader, _ = open_reader(workspace)  # without Redis the files tell all that is needed
    with reader:
        plan = plan_prune(workspace, selection, reader.jobs())
    for job_id, reason in plan.kept.items():
        note(f"{job_id} is kept: {reason}.")
    if plan.empty:
        if as_json:
            print_json(_as_json(plan, dry_run=dry_run))
        else:
            note("There is nothing to remove.")
        return
    if dry_run:
        if as_json:
            print_json(_as_json(plan, dry_run=True))
        else:
            click.echo("\n".join([*_lines(plan), f"Would remove {_what(plan)}."]))
        return
    note("\n".join(_lines(plan)))
    if not yes:
        _confirm(plan)
    _report(plan, _carry_out(plan), as_json)


def _selection(
    older_than: str | None, keep: int | None, states: tuple[str, ...], checkpoints_only: bool
) -> Selection:

    if older_than is None and keep is None and not states and not checkpoints_only:
        raise InvalidInput(
            "Which jobs should be removed?",
            "Select them with --older-than 30d, --keep 10, --state failed or --checkpoints-only; "
            "add --dry-run to see first.",
        )
    return Selection(
        older_than=parse_duration(older_than) if older_than is not None else None,
        keep=keep,
        states=frozenset(map(State, states)) or FINISHED,
        checkpoints_only=checkpoints_only,
    )


def _confirm(plan: Plan) -> None:
    """Ask whether to remove; end the command where the answer is no."""
    if not sys.stdin.isatty():
        command = shlex.join(["farense", *sys.argv[1:], "--yes"])
        raise InvalidInput(
            f"There is no terminal to confirm the removal of {_what(plan)}.",
            f"Type: {command}",
        )
    click.confirm(f"Remove {_what(plan)}?", abort=True, err=True)


def _carry_out(plan: Plan) -> Removed:

    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis
    from daemon.prune.removal import carry_out  # noqa: PLC0415 - a Tab would wait for redis

    try:
        client = FarenseClient.connect()
    except QueueUnreachable as error:
        warn(error.message)
        return carry_out(Workspace.current(), plan, None)
    with client:
        return client.prune(plan)


def _report(plan: Plan, removed: Removed, as_json: bool) -> None:

    for job_id, reason in removed.kept.items():
        note(f"{job_id} is kept: {reason}.")
    if removed.records_left:
        warn(
            f"Redis is away and still lists {counted(removed.records_left, 'removed job')}: "
            "the next `farense prune` takes them off its list."
        )
    if as_json:
        print_json(_as_json(plan, removed))
    else:
        what = _things(len(removed.jobs), len(removed.data), plan)
        click.echo(f"Removed {what}, {size_text(removed.bytes)}.")


def _lines(plan: Plan) -> list[str]:
    """Return what a plan would remove, a line each."""
    rows = [(job.id, str(job.state), local(job.ended), size_text(job.bytes)) for job in plan.jobs]
    rows += [(_short(path.stem), "data", "", size_text(size)) for path, size in plan.data.items()]
    rows += [(path.name, "left over", "", size_text(freed([path]))) for path in plan.leftovers]
    return table(rows, (False, False, False, True))


def _short(digest: str) -> str:

    return shortened(digest, DIGEST_WIDTH)


def _what(plan: Plan) -> str:

    return f"{_things(len(plan.jobs), len(plan.data), plan)}, {size_text(plan.bytes)}"


def _things(jobs: int, data: int, plan: Plan) -> str:
    what = f"the checkpoints of {counted(jobs, 'job')}" if plan.checkpoints_only else ""
    things = [what or counted(jobs, "job")]
    if data:
        things.append(counted(data, "data file"))
    if plan.leftovers:
        things.append("what an earlier prune left over")
    return " and ".join(filter(None, (", ".join(things[:-1]), things[-1])))


def _as_json(
    plan: Plan, removed: Removed | None = None, *, dry_run: bool = False
) -> dict[str, Any]:
    """Return what a plan would remove, or what was removed."""
    jobs = [job for job in plan.jobs if removed is None or job.id in removed.jobs]
    data = list(plan.data) if removed is None else removed.data
    return {
        "dry_run": dry_run,
        "checkpoints_only": plan.checkpoints_only,
        "jobs": [
            {
                "id": job.id,
                "state": job.state,
                "ended": job.ended.isoformat(timespec="milliseconds"),
                "bytes": job.bytes,
            }
            for job in jobs
        ],
        "data": [{"path": f"data/imported/{path.name}", "bytes": plan.data[path]} for path in data],
        "leftovers": [path.name for path in plan.leftovers],
        "kept": {**plan.kept, **(removed.kept if removed else {})},
        "bytes": removed.bytes if removed else plan.bytes,
        "records_left": removed.records_left if removed else 0,
    }
