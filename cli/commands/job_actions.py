"""``farense cancel``, ``pause``, ``resume``, ``start``, ``retry``: commands that change jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.completion import jobs_in
from cli.main import report
from cli.options import json_option, set_option
from cli.output import note, print_json, warn
from cli.reading import job_named
from daemon.latest import CHECKPOINT, DELAYED, FINISHED, PAUSED, TO_PAUSE, UNFINISHED, WAITS
from daemon.runs.workspace_id import is_home
from daemon.submit.checks import SubmitChecks, Wanted
from jobs.errors import FarenseError, InvalidInput
from jobs.kinds import kind_of
from jobs.paths import Workspace
from jobs.state import PENDING, State
from jobs.storage.values import printable

if TYPE_CHECKING:
    from daemon.client import FarenseClient
    from daemon.latest import Use
    from daemon.store.records import JobRecord

Function = TypeVar("Function", bound=Callable[..., Any])
# Changes a job, which it gets as it was before; returns its record, and what to say of it.
Change = Callable[["FarenseClient", "JobRecord"], tuple["JobRecord", str]]

ENDED = ("completed", "early_stopped", "failed", "cancelled")
WAITING = ("queued", "scheduled", "waiting")


def jobs_argument(*states: str) -> Callable[[Function], Function]:
    """Return the argument of a command that changes jobs, mostly those in some states."""
    return click.argument(
        "jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=jobs_in(*states)
    )


@click.command(short_help="Cancel jobs.")
@jobs_argument(*WAITING, "running", "paused")
@click.option("--force", is_flag=True, help="Kill a running job: no last checkpoint.")
@json_option
@click.pass_context
def cancel(ctx: click.Context, jobs: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Cancel jobs: at once while they wait; a running one writes a checkpoint and stops.

    JOB is an id, part of one, a name, or `latest`. The run directory stays, with the best adapter
    so far.

    \b
    Example: farense cancel latest
    """

    def change(client: FarenseClient, before: JobRecord) -> tuple[JobRecord, str]:
        record = client.cancel(before.id, force=force)
        if before.finished:
            return record, f"{record.id} is {record.state} already."
        if record.state is State.CANCELLED:
            return record, f"Cancelled {record.id}."
        how = "killed" if force else "told to stop"
        return record, f"Cancelling {record.id}: its process is {how}{_by_whom(record)}."

    ctx.exit(change_each(jobs, UNFINISHED, as_json, change))


@click.command(short_help="Pause jobs until they are resumed.")
@jobs_argument(*WAITING, "running")
@json_option
@click.pass_context
def pause(ctx: click.Context, jobs: tuple[str, ...], as_json: bool) -> None:
    """Pause jobs: a running one writes a checkpoint and makes room for the next.

    JOB is an id, part of one, a name, or `latest`. It goes on with `farense resume`.

    \b
    Example: farense pause latest
    """

    def change(client: FarenseClient, before: JobRecord) -> tuple[JobRecord, str]:
        _refuse_to_pause(before)
        record = client.pause(before.id)
        if before.state is State.PAUSED:
            return record, f"{record.id} is paused already."
        if record.state is State.PAUSED:
            return record, f"Paused {record.id}."
        return record, f"Pausing {record.id}: it {kind_of(record).when_stopped}."

    ctx.exit(change_each(jobs, TO_PAUSE, as_json, change))


@click.command(short_help="Let paused jobs go on.")
@jobs_argument("paused")
@json_option
@click.pass_context
def resume(ctx: click.Context, jobs: tuple[str, ...], as_json: bool) -> None:
    """Let paused jobs go on from their last checkpoints.

    JOB is an id, part of one, a name, or `latest`. A job with a start time, or one that waits for
    another, goes back to waiting for that; `farense start` does not wait.

    \b
    Example: farense resume latest
    """

    def change(client: FarenseClient, before: JobRecord) -> tuple[JobRecord, str]:
        if before.state is not State.PAUSED and not before.pause_requested:
            hint = f"To start it now: farense start {before.id}"
            raise InvalidInput(
                f"{before.id} is {before.state}, not paused.",
                hint if before.state in PENDING else _instead(before),
            )
        record = client.resume(before.id)
        return record, f"{record.id} is {record.state}{_why(record)}."

    ctx.exit(change_each(jobs, PAUSED, as_json, change))


@click.command(short_help="Start waiting jobs now, not at their time.")
@jobs_argument("scheduled", "waiting", "paused")
@json_option
@click.pass_context
def start(ctx: click.Context, jobs: tuple[str, ...], as_json: bool) -> None:
    """Start jobs now that are scheduled, wait for another job, or are paused.

    JOB is an id, part of one, a name, or `latest`. Its start time, and the job that it was to
    follow, are forgotten: it is queued, and runs when the daemon comes to it. `farense queue top`
    lets it go before all others.

    \b
    Example: farense start latest
    """
    held: set[str] = set()

    def change(client: FarenseClient, before: JobRecord) -> tuple[JobRecord, str]:
        record = client.start(before.id)
        if record.state == before.state:
            return record, f"{record.id} is {record.state} already{_place(client, record)}."
        held.update(client.why_nothing_starts(record.queue))
        return record, f"{record.id} is {record.state} now{_place(client, record)}."

    code = change_each(jobs, DELAYED, as_json, change)
    for line in sorted(held):
        note(line)
    ctx.exit(code)


@click.command(short_help="Queue jobs that have ended once more.")
@jobs_argument(*ENDED)
@set_option
@click.option(
    "--from-checkpoint", is_flag=True, help="Continue from its last checkpoint instead of step 1."
)
@click.option(
    "--anywhere",
    is_flag=True,
    help="Of a job that waits for the machine with its checkpoint: run it on any, from step 1.",
)
@json_option
@click.pass_context
def retry(
    ctx: click.Context,
    jobs: tuple[str, ...],
    overrides: tuple[str, ...],
    from_checkpoint: bool,
    anywhere: bool,
    as_json: bool,
) -> None:
    """Queue a new job with the configuration and the data of one that has ended.

    JOB is an id, part of one, a name, or `latest`; it stays as it is. With --set the new job has
    other settings, and everything else of the old one: its data as they were frozen then, too. With
    --anywhere no new job is made: the one that waits may then start anew on another machine.

    \b
    Examples:
      farense retry latest --from-checkpoint
      farense retry latest --set learning_rate=1e-4
    """
    given = {
        "--set": bool(overrides), "--from-checkpoint": from_checkpoint, "--anywhere": anywhere
    }  # fmt: skip
    if len(both := [option for option, is_given in given.items() if is_given]) > 1:
        raise click.UsageError(f"{both[0]} and {both[1]} cannot be combined.")
    use = WAITS if anywhere else CHECKPOINT if from_checkpoint else FINISHED

    def change(client: FarenseClient, before: JobRecord) -> tuple[JobRecord, str]:
        if anywhere:
            record = client.release(before.id)
            return record, f"{record.id} may run on any machine now."
        if overrides:
            request = client.changed(before.id, *overrides)
            checks = SubmitChecks.of(client.workspace)
            [remarks] = checks.check([Wanted(request.preset.config, names=request.names)])
            record = client.retry(before.id, overrides=overrides, checks=checks)
            for remark in remarks:
                warn(remark)
            changed = ", ".join(overrides)
            return record, f"Queued {record.id}: {before.id} with {printable(changed)}"
        record = client.retry(before.id, from_checkpoint=from_checkpoint)
        return record, f"Queued {record.id}"

    ctx.exit(change_each(jobs, use, as_json, change))


@dataclass
class _Answer:
    """What became of one of the jobs that a command named."""

    argument: str
    before: JobRecord | None = None
    record: JobRecord | None = None
    error: FarenseError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record; where there is none, the error."""
        if self.record is not None:
            return self.record.as_dict()
        error = self.error
        return {
            "job": self.argument,
            "error": error and error.message,
            "hint": error and error.hint,
        }


def change_each(arguments: tuple[str, ...], use: Use, as_json: bool, change: Change) -> int:
    """Change the jobs that a command names, each once, and answer for each on a line of its own.

    Where one of several cannot be changed, the others are. As JSON one job is an object, several
    are a list.

    Args:
        use: what `latest` has to be good for.

    Returns:
        The exit code: that of the error, of several errors the highest.

    Raises:
        FarenseError: there is one job, and it cannot be changed.
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    code = 0
    with FarenseClient.connect() as client:
        answers = _found(client, arguments, use)
        for answer in answers:
            if answer.before is not None:
                try:
                    answer.record, said = change(client, answer.before)
                except FarenseError as error:
                    answer.error = error
                else:
                    if not as_json:
                        click.echo(said)
            if answer.error is not None and len(arguments) > 1:
                code = max(code, report(answer.error))
    if len(arguments) == 1 and answers[0].error is not None:
        raise answers[0].error
    if as_json:
        found = [answer.as_dict() for answer in answers]
        print_json(found[0] if len(arguments) == 1 else found)
    return code


def _found(client: FarenseClient, arguments: tuple[str, ...], use: Use) -> list[_Answer]:
    """Look for all jobs before any is changed: `latest` may mean another one afterwards."""
    answers: list[_Answer] = []
    for argument in arguments:
        answer = _Answer(argument)
        try:
            answer.before = job_named(client, argument, use)
        except FarenseError as error:
            answer.error = error
        known = [a.before.id for a in answers if a.before is not None]
        if answer.before is None or answer.before.id not in known:
            answers.append(answer)
    return answers


def _place(client: FarenseClient, record: JobRecord) -> str:
    """Return where a queued job stands in the queue; nothing of any other."""
    waiting = client.queue()
    places = [place.position for place in waiting if place.record.id == record.id]
    queued = sum(place.position is not None for place in waiting)
    return f", number {places[0]} of {queued}" if places and places[0] else ""


def _refuse_to_pause(record: JobRecord) -> None:
    """Refuse to pause a job that will not go on.

    Raises:
        InvalidInput: it has ended, or is being cancelled.
    """
    if record.finished:
        raise InvalidInput(f"{record.id} is {record.state} already.", _instead(record))
    if record.cancel_requested:
        raise InvalidInput(
            f"{record.id} is being cancelled.",
            f"To do it later, once it has ended: farense retry {record.id}",
        )


def _by_whom(record: JobRecord) -> str:
    """Return who carries out a wish, where that is not the daemon that runs here."""
    from daemon.process import daemon_status  # noqa: PLC0415 - a Tab would wait for redis

    here = Workspace.current()
    if not is_home(record.home, here) or daemon_status(here).running:
        return ""
    return " once a daemon runs again (farense daemon)"


def _instead(record: JobRecord) -> str | None:
    return f"Queue it once more: farense retry {record.id}" if record.finished else None


def _why(record: JobRecord) -> str:
    return f": {printable(record.reason)}" if record.reason else ""
