"""The live view of a sweep: what ended scrolls above; on a terminal the standing is shown below."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.text import Text

from cli.show.sweep_view import status_lines
from jobs.storage.formatting import figure

if TYPE_CHECKING:
    from rich.live import Live

    from daemon.sweep.view import SweepView
    from jobs.sweep.paths import SweepFolder
    from jobs.sweep.trial import Trial

LOOK_SECONDS = 1.0


def show_until_end(folder: SweepFolder, why_still: Callable[[], list[str]]) -> SweepView:
    """Show a sweep until it has ended or rests; return how it stands then.

    Args:
        why_still: returns in lines why nothing of it goes on; each is said when it is new.
    """
    from daemon.sweep.view import view_sweep  # noqa: PLC0415 - loads pydantic

    said: set[int] = set()
    told: list[str] = []
    with _live() as live:
        while True:
            view = view_sweep(folder)
            for trial in view.trials:
                if trial.ended and trial.number not in said:
                    said.add(trial.number)
                    _say(live, ended_line(trial))
            before, told = told, why_still() if view.state.active else []
            for line in told:
                if line not in before:
                    _say(live, line)
            if live is not None:
                _update(live, view)
            if not view.state.active:
                return view
            time.sleep(LOOK_SECONDS)


def ended_line(trial: Trial) -> str:
    """Return in one line what came of a trial."""
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    how = f"{trial.state}, pruned by {trial.pruned_by}" if trial.pruned else str(trial.state)
    reason = f": {trial.reason}" if trial.reason and trial.value is None else ""
    return f"trial {trial.number}: {figure(trial.value)}, {how}{reason} ({settings})"


def _live() -> AbstractContextManager[Live | None]:
    if not sys.stdout.isatty():
        return nullcontext()

    return Live(auto_refresh=False, transient=True)


def _say(live: Live | None, line: str) -> None:
    if live is None:
        click.echo(line)
    else:
        live.console.print(Text(line))


def _update(live: Live, view: SweepView) -> None:

    lines = status_lines(view, live.console.width)
    live.update(Text("\n".join(lines[: max(1, live.console.height - 2)])), refresh=True)
