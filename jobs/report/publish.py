"""Where a report goes: the page, and the plots that it shows as files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import InvalidInput
from jobs.past_run import PastRun
from jobs.paths import Workspace
from jobs.report import evaluation_plots, sweep_plots, training_plots
from jobs.report.page import Picture, Report, report_of
from jobs.report.sweep_data import Swept
from jobs.report.sweep_page import sweep_report_of
from jobs.report.sweep_tables import missing
from jobs.report.theme import use_private_cache
from jobs.report.write import replace_pictures
from jobs.state import now
from jobs.storage.files import open_to_others, write_atomic
from jobs.sweep.paths import SweepFolder

# Of the names of runs in that of a file.
LONGEST = 60


@dataclass(frozen=True)
class Published:
    """A report that was written."""

    page: Path
    bytes: int
    plots: list[Path]
    runs: list[PastRun]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "report": str(self.page),
            "bytes": self.bytes,
            "runs": [run.name for run in self.runs],
            "plots": [str(path) for path in self.plots],
            "missing": {run.name: list(run.missing) for run in self.runs},
        }


def publish(workspace: Workspace, runs: Sequence[PastRun], output: Path | None) -> Published:
    """Make a report and write it.

    Args:
        output: the page's file; where it is None the page of a job of this workspace goes to its
            run directory and any other to ``output/``.

    Raises:
        InvalidInput: ``output`` is a folder.
        WorkspaceError: a file cannot be written.
    """
    use_private_cache(workspace)
    _refuse_a_folder(output)
    report = report_of(runs, now())
    ours = len(runs) == 1 and _is_ours(workspace, runs[0])
    page = output or (runs[0].directory.report if ours else _among_outputs(workspace, runs))
    plots = _plots_of_a_job(runs[0], report) if ours else _plots_beside(page, report)
    write_atomic(page, report.html)
    if not ours or output:
        open_to_others(page, *([] if ours else plots))
    return Published(page, len(report.html), plots, list(runs))


@dataclass(frozen=True)
class PublishedSweep:
    """A report of a sweep that was written."""

    page: Path
    bytes: int
    plots: list[Path]
    swept: Swept

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        best = self.swept.best
        return {
            "report": str(self.page),
            "bytes": self.bytes,
            "sweep": self.swept.spec.id,
            "best": None if best is None else best.number,
            "best_job": self.swept.best_job,
            "plots": [str(path) for path in self.plots],
            "missing": missing(self.swept),
        }


def publish_sweep(
    workspace: Workspace, folder: SweepFolder, swept: Swept, output: Path | None
) -> PublishedSweep:
    """Make the report of a sweep and write it.

    Args:
        output: the page's file; where it is None the page goes to the sweep's folder.

    Raises:
        InvalidInput: ``output`` is a folder.
        WorkspaceError: a file cannot be written.
    """
    use_private_cache(workspace)
    _refuse_a_folder(output)
    report = sweep_report_of(swept, now())
    page = output or folder.report
    plots = folder.plots if output is None else page.with_name(f"{page.stem}_plots")
    written = replace_pictures(plots, sweep_plots.NAMES, _light(report.pictures))
    write_atomic(page, report.html)
    if output:
        open_to_others(page, *written)
    return PublishedSweep(page, len(report.html), written, swept)


def _refuse_a_folder(output: Path | None) -> None:
    if output is not None and output.is_dir():
        raise InvalidInput(f"{output} is a folder.", f"Name a file: --output {output}/report.html")


def _is_ours(workspace: Workspace, run: PastRun) -> bool:
    """Tell whether a run is a job of this workspace: the folder of another is left as it is."""
    return run.spec is not None and run.directory.path.parent == workspace.runs


def _plots_of_a_job(run: PastRun, report: Report) -> list[Path]:
    directory = run.directory
    return [
        *replace_pictures(directory.plots, training_plots.NAMES, _light(report.training)),
        *replace_pictures(directory.evaluation, evaluation_plots.NAMES, _light(report.evaluation)),
    ]


def _plots_beside(page: Path, report: Report) -> list[Path]:
    folder = page.with_name(f"{page.stem}_plots")
    return replace_pictures(folder, (), _light([*report.training, *report.evaluation]))


def _light(pictures: Sequence[Picture]) -> dict[str, bytes]:
    return {picture.name: picture.light for picture in pictures}


def _among_outputs(workspace: Workspace, runs: Sequence[PastRun]) -> Path:
    names = "-".join(run.spec.id[-4:] if run.spec else run.name for run in runs)
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in names)[:LONGEST]
    return workspace.output / f"report-{safe}.html"
