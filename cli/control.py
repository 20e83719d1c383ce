"""``farense cancel``, ``pause``, ``resume``, ``retry``: commands that change a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.options import job_argument, json_option
from cli.output import print_json
from cli.reading import job_named
from jobs.text import printable

if TYPE_CHECKING:
    from daemon.records import JobRecord


@click.command(short_help="Cancel a job.")
@job_argument
@click.option("--force", is_flag=True, help="Kill a running job: no last checkpoint.")
@json_option
def cancel(job: str, force: bool, as_json: bool) -> None:
    """Cancel a job: at once while it waits; a running one writes a checkpoint and stops.

    JOB is an id, part of one, a name, or `latest`. The run directory stays, with the best adapter
    so far.

    \b
    Example: farense cancel latest
    """
    from daemon.client import FarenseClient
    from daemon.latest import UNFINISHED
    from jobs.state import State

    with FarenseClient.connect() as client:
        before = job_named(client, job, UNFINISHED)
        record = client.cancel(before.id, force=force)
    if as_json:
        print_json(record.as_dict())
    elif before.finished:
        click.echo(f"{record.id} is {record.state} already.")
    elif record.state is State.CANCELLED:
        click.echo(f"Cancelled {record.id}.")
    else:
        how = "killed" if force else "told to stop"
        click.echo(f"Cancelling {record.id}: its process is {how}{_by_whom(record)}.")


@click.command(short_help="Pause a job until it is resumed.")
@job_argument
@json_option
def pause(job: str, as_json: bool) -> None:
    """Pause a job: a running one writes a checkpoint and makes room for the next.

    JOB is an id, part of one, a name, or `latest`. It goes on with `farense resume`.

    \b
    Example: farense pause latest
    """
    from daemon.client import FarenseClient
    from daemon.latest import TO_PAUSE
    from jobs.order import TRAIN
    from jobs.state import State

    with FarenseClient.connect() as client:
        before = job_named(client, job, TO_PAUSE)
        _refuse_to_pause(before)
        record = client.pause(before.id)
    if as_json:
        print_json(record.as_dict())
    elif before.state is State.PAUSED:
        click.echo(f"{record.id} is paused already.")
    elif record.state is State.PAUSED:
        click.echo(f"Paused {record.id}.")
    else:
        first = "writes a checkpoint first" if record.kind == TRAIN else "keeps its answers so far"
        click.echo(f"Pausing {record.id}: it {first}.")


@click.command(short_help="Let a paused job go on.")
@job_argument
@json_option
def resume(job: str, as_json: bool) -> None:
    """Let a paused job go on from its last checkpoint.

    JOB is an id, part of one, a name, or `latest`. A job with a start time, or one that waits for
    another, goes back to waiting for that.

    \b
    Example: farense resume latest
    """
    from daemon.client import FarenseClient
    from daemon.latest import PAUSED
    from jobs.errors import InvalidInput
    from jobs.state import State

    with FarenseClient.connect() as client:
        before = job_named(client, job, PAUSED)
        if before.state is not State.PAUSED and not before.pause_requested:
            raise InvalidInput(f"{before.id} is {before.state}, not paused.", _instead(before))
        record = client.resume(before.id)
    if as_json:
        print_json(record.as_dict())
    else:
        click.echo(f"{record.id} is {record.state}{_why(record)}.")


@click.command(short_help="Queue a job that has ended once more.")
@job_argument
@click.option(
    "--from-checkpoint", is_flag=True, help="Go on from its last checkpoint, not from step 1."
)
@click.option(
    "--anywhere",
    is_flag=True,
    help="Of a job that waits for the machine with its checkpoint: run it on any, from step 1.",
)
@json_option
def retry(job: str, from_checkpoint: bool, anywhere: bool, as_json: bool) -> None:
    """Queue a new job with the configuration and the data of one that has ended.

    JOB is an id, part of one, a name, or `latest`; it stays as it is. With --anywhere no new job
    is made: the one that waits may then start anew on another machine.

    \b
    Example: farense retry latest --from-checkpoint
    """
    from daemon.client import FarenseClient
    from daemon.latest import CHECKPOINT, FINISHED, WAITS

    if anywhere and from_checkpoint:
        raise click.UsageError("--anywhere and --from-checkpoint do not go together.")
    use = WAITS if anywhere else CHECKPOINT if from_checkpoint else FINISHED
    with FarenseClient.connect() as client:
        found = job_named(client, job, use).id
        if anywhere:
            record = client.release(found)
        else:
            record = client.retry(found, from_checkpoint=from_checkpoint)
    if as_json:
        print_json(record.as_dict())
    elif anywhere:
        click.echo(f"{record.id} may run on any machine now.")
    else:
        click.echo(f"Queued {record.id}")


def _refuse_to_pause(record: JobRecord) -> None:
    """Refuse to pause a job that will not go on.

    Raises:
        InvalidInput: it has ended, or is being cancelled.
    """
    from jobs.errors import InvalidInput

    if record.finished:
        raise InvalidInput(f"{record.id} is {record.state} already.", _instead(record))
    if record.cancel_requested:
        raise InvalidInput(
            f"{record.id} is being cancelled.",
            f"To do it later, once it has ended: farense retry {record.id}",
        )


def _by_whom(record: JobRecord) -> str:
    """Return who carries out a wish, where that is not the daemon that runs here."""
    from daemon.control import daemon_status
    from daemon.machines.home import is_home
    from jobs.paths import Workspace

    here = Workspace.current()
    if not is_home(record.home, here) or daemon_status(here).running:
        return ""
    return " once a daemon runs again (farense daemon)"


def _instead(record: JobRecord) -> str | None:
    return f"Queue it once more: farense retry {record.id}" if record.finished else None


def _why(record: JobRecord) -> str:
    return f": {printable(record.reason)}" if record.reason else ""
