"""``farense sweep report``: a page to look at, of a sweep and its best trial."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import json_option, open_option, output_option, sweep_argument


@click.command(short_help="Make a page about a sweep, with plots.")
@sweep_argument
@output_option
@open_option
@json_option
def report(name: str, output: Path | None, opening: bool, as_json: bool) -> None:
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
    from cli.report import present
    from daemon.sweep.view import view_sweep
    from jobs.paths import Workspace
    from jobs.report.publish import publish_sweep
    from jobs.report.sweep_data import swept
    from jobs.sweep.folder import find_sweep

    workspace = Workspace.current()
    folder = find_sweep(workspace, name)
    view = view_sweep(folder)
    found = swept(
        workspace, view.order, view.state, view.trials, view.seconds_left, view.interrupted
    )
    present(publish_sweep(workspace, folder, found, output), as_json=as_json, opening=opening)
