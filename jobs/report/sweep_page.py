"""The report of a sweep: one HTML file, as that of a job, with the best trial's evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.report import sweep_tables
from jobs.report.evaluation_plots import plots_of_report
from jobs.report.findings import Named
from jobs.report.page import MOST, Picture, evaluation_of, pictures_of, template
from jobs.report.sweep_data import Swept
from jobs.report.sweep_plots import importances_of, plots_of_sweep
from jobs.state import FINISHED_WELL
from jobs.sweep.trial import FEWEST_FOR_IMPORTANCES

TEMPLATE = "sweep.html.j2"
# Trials that the leaderboard shows at once.
SHOWN_TRIALS = 25


@dataclass(frozen=True)
class SweepReport:
    """A report of a sweep: the page, and the pictures in it that are the sweep's own."""

    html: bytes
    pictures: list[Picture]


def sweep_report_of(swept: Swept, made_at: str) -> SweepReport:
    """Return the report on a sweep as it stands.

    Args:
        made_at: when, ISO 8601.
    """
    pictures = pictures_of(plots_of_sweep(swept))
    run = swept.best_run
    html = template(TEMPLATE).render(
        swept=swept,
        best=[Named(run.run.name, run)] if run else [],
        evaluated=evaluation_of(run, MOST, plots_of_report) if run else None,
        ended_well=swept.state.state in FINISHED_WELL,
        pictures=pictures,
        without_importances=why_no_importances(swept),
        shown_trials=SHOWN_TRIALS,
        seconds=swept.seconds(made_at),
        made_at=made_at,
        missing=sweep_tables.missing(swept),
        sweep_tables=sweep_tables,
    )
    return SweepReport(html.encode(), pictures)


def why_no_importances(swept: Swept) -> str | None:
    """Return why it is not known what mattered; None where it is."""
    if importances_of(swept):
        return None
    complete = sum(trial.complete for trial in swept.trials)
    if complete < FEWEST_FOR_IMPORTANCES:
        return (
            f"What mattered cannot be told: it takes {FEWEST_FOR_IMPORTANCES} complete trials, "
            f"and there are too few ({complete})."
        )
    return "What mattered cannot be told: the trials are too much alike."
