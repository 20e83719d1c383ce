"""Plots as files: those of a training in ``plots/``, those of an evaluation in ``evaluation/``.

What a job draws at its end is an extra: whatever goes wrong there is told as a warning, and the job
has ended as it has. ``FARENSE_PLOTS=off`` leaves it to ``farense report``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from jobs.errors import WorkspaceError
from jobs.events import Evaluated, Event, Failed, Finished, Warned
from jobs.paths import RunDirectory, Workspace
from jobs.spec import JobSpec
from jobs.storage.files import write_atomic

ENDING = ".png"
Emit = Callable[[Event], None]
SWITCH, OFF = "FARENSE_PLOTS", "off"


def plot_training(workspace: Workspace, run: RunDirectory, emit: Emit) -> None:
    """Write the plots of a training that has ended; what goes wrong is only told."""
    _told(lambda: _training(workspace, run), emit)


def plot_evaluation(workspace: Workspace, run: RunDirectory, emit: Emit) -> None:
    """Write the plots of an evaluation of ``run``; what goes wrong is only told."""
    _told(lambda: _evaluation(workspace, run), emit)


def drawing_first(emit: Emit, workspace: Workspace, spec: JobSpec) -> Emit:
    """Return ``emit`` that draws a job's plots before it says that the job has ended."""
    run = workspace.run(spec.id)

    def emitted(event: Event) -> None:
        match event:
            case Finished():
                plot_training(workspace, run, emit)
            case Failed() if spec.evaluation is None:
                plot_training(workspace, run, emit)
            case Evaluated():
                plot_evaluation(workspace, workspace.run(event.evaluates), emit)
        emit(event)

    return emitted


def replace_pictures(folder: Path, names: Iterable[str], pictures: dict[str, bytes]) -> list[Path]:
    """Write pictures into a folder, each atomically; return their paths.

    Args:
        names: of all that may be there: those of which there is none now are removed.

    Raises:
        WorkspaceError: they cannot be written.
    """
    written = []
    for name, content in pictures.items():
        path = folder / f"{name}{ENDING}"
        write_atomic(path, content)
        written.append(path)
    for name in set(names) - set(pictures):
        (folder / f"{name}{ENDING}").unlink(missing_ok=True)
    return written


def _training(workspace: Workspace, directory: RunDirectory) -> None:
    from jobs.past_run import read_run  # noqa: PLC0415 - nothing of this may slow a job's start
    from jobs.report.run_data import measured  # noqa: PLC0415
    from jobs.report.theme import LIGHT, use_private_cache  # noqa: PLC0415
    from jobs.report.training_plots import NAMES, plots_of_one  # noqa: PLC0415

    use_private_cache(workspace)
    plots = plots_of_one(measured(read_run(directory.path)))
    pictures = {plot.name: plot.draw(LIGHT) for plot in plots}
    replace_pictures(directory.plots, NAMES, pictures)


def _evaluation(workspace: Workspace, directory: RunDirectory) -> None:
    from jobs.past_run import read_run  # noqa: PLC0415 - nothing of this may slow a job's start
    from jobs.report.evaluation_plots import NAMES, plots_of_report  # noqa: PLC0415
    from jobs.report.theme import LIGHT, use_private_cache  # noqa: PLC0415

    use_private_cache(workspace)
    plots = plots_of_report(read_run(directory.path).report or {})
    pictures = {plot.name: plot.draw(LIGHT) for plot in plots}
    replace_pictures(directory.evaluation, NAMES, pictures)


def _told(draw: Callable[[], None], emit: Emit) -> None:
    if os.environ.get(SWITCH) == OFF:
        return
    try:
        draw()
    except Exception as error:
        # On a full disk not even this can be said.
        with suppress(WorkspaceError):
            emit(Warned(f"The plots could not be drawn: {' '.join(str(error).split())}"))
