"""``farense track``: a job's curves, sent to where a team looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.options import job_argument, json_option
from cli.output import note, print_json
from cli.reading import job_named, reading
from daemon.latest import LEFT
from daemon.runs.training import training_of
from jobs.errors import InvalidInput, JobFailed

if TYPE_CHECKING:
    from daemon.track.send import Sent

NAMES = ("tensorboard", "trackio", "wandb", "mlflow")


@click.command(short_help="Send a job's curves to TensorBoard, trackio, wandb or MLflow.")
@job_argument
@click.option(
    "--to",
    "trackers",
    multiple=True,
    type=click.Choice(NAMES),
    help="Which tracker; may be repeated. Left out: those that the job's config names.",
)
@json_option
def track(job: str, trackers: tuple[str, ...], as_json: bool) -> None:
    """Send a training job's curves, settings, summary, plots and evaluation to trackers.

    JOB is an id, a unique part of one, a name, or `latest`. What a tracker has already is not sent
    again, and a run that was begun there is continued. Of a job that has not ended go the rows that
    a checkpoint covers. No daemon is needed; `make trackers` installs the libraries.

    Everything stays below logs/ in the workspace, unless the tracker's own variables lead
    elsewhere: MLFLOW_TRACKING_URI, WANDB_API_KEY or WANDB_MODE, TRACKIO_SERVER_URL.

    \b
    Examples: farense track latest --to tensorboard
              farense track 0931 --to wandb --to mlflow
    """
    from daemon.track.kinds import check_trackers  # noqa: PLC0415 - who presses Tab needs none
    from daemon.track.send import send  # noqa: PLC0415 - for that reason

    with reading() as reader:
        workspace = reader.workspace
        record = job_named(reader, job, LEFT)
        spec, run, state = training_of(record, workspace, "Track")
    wanted = tuple(dict.fromkeys(trackers or spec.config.get("trackers") or ()))
    if not wanted:
        raise InvalidInput(
            f"The config of {run.job_id} names no tracker.",
            f"Name one: farense track {run.job_id} --to tensorboard",
        )
    check_trackers(wanted)
    if not state.finished:
        note(f"{run.job_id} {state.state.verb}: what a checkpoint covers is sent.")
    sent = []
    for found in send(workspace, run, wanted):
        sent.append(found)
        if not as_json:
            _say(found)
    if as_json:
        print_json([found.as_dict() for found in sent])
    if failed := [found.tracker for found in sent if found.why]:
        raise JobFailed(f"Not everything could be sent to {', '.join(failed)}.")


def _say(found: Sent) -> None:
    if found.why:
        note(f"{found.tracker}: {found.why}\n  What its library said: {found.said}")
        return
    click.echo(f"{found.tracker}: {found.rows} rows, {found.place}")
    if found.shows:
        click.echo(f"  {found.shows}")
