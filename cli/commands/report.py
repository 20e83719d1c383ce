"""``farense report``: a page to look at, of runs or of a sweep."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.completion import jobs_in
from cli.options import json_option, open_option, output_option, sweep_argument
from cli.output import print_json, warn
from cli.past import past_run
from cli.reading import reading
from jobs.errors import InvalidInput
from jobs.paths import Workspace

if TYPE_CHECKING:
    from jobs.past_run import PastRun
    from jobs.report.publish import Published, PublishedSweep

# More would be a picture of nothing.
MOST = 12


@click.command(short_help="Make a page about runs, with plots.")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=jobs_in())
@output_option
@open_option
@json_option
def report(jobs: tuple[str, ...], output: Path | None, opening: bool, as_json: bool) -> None:
    """Make one HTML file about a run, or about several side by side, and print its path.

    It holds everything it shows: curves, settings, scores, the worst answers first. It opens from
    disk, without a network, in light and dark. Each JOB is an id, a unique part of one, `latest`,
    or the folder of a run, also of an older one; it may still run. Needs no Redis.

    The page of one job goes to its folder, `report.html`, and the plots to `plots/` there; any
    other to `output/`.

    \b
    Examples: farense report latest --open
              farense report 0931 quickstart-kblp --output both.html
              farense report old_runs/v1 latest
    """
    from jobs.report.publish import publish  # noqa: PLC0415 - loads what draws

    if len(jobs) > MOST:
        raise InvalidInput(
            f"{len(jobs)} jobs are too many for one report.", f"Give {MOST} at most."
        )
    with reading() as reader:
        runs = [past_run(job, reader) for job in jobs]
    _refuse_twice(runs)
    present(publish(reader.workspace, runs, output), as_json=as_json, opening=opening)


@click.command("report", short_help="Make a page about a sweep, with plots.")
@sweep_argument
@output_option
@open_option
@json_option
def sweep_report(name: str, output: Path | None, opening: bool, as_json: bool) -> None:
    """Make one HTML file about a sweep, and print its path.

    It holds everything it shows: the leaderboard, all learning curves, which settings led where
    and which mattered, and the evaluation of the best trial. It opens from disk, without a network,
    in light and dark. The sweep may still run. Needs no Redis.

    SWEEP is an id, a unique part of one, or `latest`. The page goes to the sweep's folder,
    `report.html`, and the plots to `plots/` there.

    \b
    Examples: farense sweep report --open
              farense sweep report 1125 --output night.html
    """
    from daemon.sweep.view import view_sweep  # noqa: PLC0415 - loads pydantic
    from jobs.report.publish import publish_sweep  # noqa: PLC0415 - loads what draws
    from jobs.report.sweep_data import swept  # noqa: PLC0415 - loads what draws
    from jobs.sweep.folder import find_sweep  # noqa: PLC0415 - loads pydantic

    workspace = Workspace.current()
    folder = find_sweep(workspace, name)
    view = view_sweep(folder)
    found = swept(
        workspace, view.spec, view.state, view.trials, view.seconds_left, view.interrupted
    )
    present(publish_sweep(workspace, folder, found, output), as_json=as_json, opening=opening)


def _refuse_twice(runs: Sequence[PastRun]) -> None:
    """Refuse runs of which one was named twice: it would lie over itself."""
    folders = [run.directory.path.resolve() for run in runs]
    for number, run in enumerate(runs):
        if folders.index(folders[number]) < number:
            raise InvalidInput(f"{run.name} is named twice.", "Name each run once.")


def present(published: Published | PublishedSweep, *, as_json: bool, opening: bool) -> None:
    """Say where a page was written, and open it where that is wanted."""
    if as_json:
        print_json(published.as_dict())
    else:
        click.echo(str(published.page))
    if opening:
        open_page(published.page)


def open_page(page: Path) -> None:
    """Open a page in the browser; warn where there is none."""
    if not webbrowser.open(page.resolve().as_uri()):
        warn(f"No browser could be opened: open {page} yourself.")
