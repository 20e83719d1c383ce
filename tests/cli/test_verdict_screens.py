"""What a person is told of a training, on every screen: one table, a state of a run a row.

The losses are made up, and told by the functions that tell of a training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cli.show.comparison_lines import comparison_lines
from cli.show.render import job_details, status_table
from daemon.joblog import LogReader
from daemon.runs.files import record_from_files
from jobs.compare.comparison import compare
from jobs.compare.curve import curve_of
from jobs.compare.side import side_of
from jobs.console import Console
from jobs.events import Envelope
from jobs.export.card import training_lines
from jobs.past_run import read_run
from jobs.paths import RunDirectory, Workspace
from jobs.report import tables
from jobs.report.findings import Named, gap_finding
from jobs.report.run_data import measured
from jobs.state import State
from jobs.storage.files import read_json
from jobs.verdict import NOT_LEARNED
from tests.helpers.evaluations import make_evaluation
from tests.helpers.told_runs import Course, told_run

NAN = float("nan")
WORDS = ("EXCELENTE", "BOM", "MODERADO", "CRÍTICO", NOT_LEARNED)


@dataclass(frozen=True)
class Told:
    """What is to be told.

    Attributes:
        word: the verdict on every screen; None where none may be given on any.
        listed: the cell of the list.
        marked: whether a check mark may stand anywhere.
        says: words that have to stand on the console and in ``status JOB`` at the end.
    """

    word: str | None
    listed: str
    marked: bool
    says: str | None = None


CASES: dict[str, tuple[Course, Told]] = {
    "learned": (
        Course((3.6, 3.4), [(1.0, 0.9), (0.5, 0.41)]),
        Told("BOM", "0.090 BOM", marked=True),
    ),
    "ruined, the gap 0": (
        Course((5.38, 5.3), [(84.68, 84.68), (90.0, 84.0)]),
        Told(NOT_LEARNED, NOT_LEARNED, marked=False, says="no better than before training"),
    ),
    "ruined, the gap far below 0": (
        Course((5.38, 5.3), [(10.84, 11.795)]),
        Told(NOT_LEARNED, NOT_LEARNED, marked=False, says="no better than before training"),
    ),
    "as before to the bit": (
        Course((5.38, 4.709), [(5.38, 4.709)]),
        Told(NOT_LEARNED, NOT_LEARNED, marked=False, says="no better than before training"),
    ),
    "learned, the gap far below 0": (
        Course((3.6, 3.4), [(0.5, 0.9)]),
        Told(
            "EXCELENTE",
            "-0.400 EXCELENTE, val below train",
            marked=True,
            says="validation below training: that is not overfitting",
        ),
    ),
    "learned, the gap a little below 0": (
        Course((3.6, 3.4), [(0.5, 0.55)]),
        Told("EXCELENTE", "-0.050 EXCELENTE", marked=True),
    ),
    "one validation": (
        Course((3.6, 3.4), [(1.0, 0.2)]),
        Told("CRÍTICO", "0.800 CRÍTICO", marked=True),
    ),
    "learned, then ruined: the best counts": (
        Course((3.6, 3.4), [(1.0, 0.8), (9.0, 9.0)], State.EARLY_STOPPED),
        Told("MODERADO", "0.200 MODERADO", marked=True),
    ),
    "no validation": (Course(None), Told(None, "-", marked=False)),
    "before the first step": (
        Course((5.38, 4.709), state=State.RUNNING),
        Told(None, "-", marked=False),
    ),
    "diverged before a finite validation": (
        Course((5.38, 4.709), [(NAN, NAN)], State.FAILED),
        Told(None, "-", marked=False),
    ),
    "no loss before training is known": (
        Course((5.38, 4.709), [(1.0, 0.9)], old=True),
        Told("BOM", "0.100 BOM", marked=True, says="Judged by the gap alone"),
    ),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[Course, Told]:
    return CASES[request.param]


@pytest.fixture
def run(workspace: Workspace, tiny_model: Path, case: tuple[Course, Told]) -> RunDirectory:
    return told_run(workspace, tiny_model, "aaaa", case[0])


def said(workspace: Workspace, run: RunDirectory) -> list[Envelope]:
    lines = LogReader(workspace.job_log(run.job_id)).read()
    return lines.events if lines else []


def check(text: str, told: Told) -> None:
    """Check that a screen gives the verdict, and no other."""
    found = {word for word in WORDS if word in text}
    assert found == ({told.word} if told.word else set()), text


def test_console_watch_and_notebook(
    workspace: Workspace, run: RunDirectory, case: tuple[Course, Told]
) -> None:
    course, told = case
    console = Console()
    lines = [console.lines(envelope) for envelope in said(workspace, run)]
    text = "\n".join(line for event in lines for line in event)
    assert ("✅" in text) is (told.marked and bool(course.validations))
    if course.state in (State.COMPLETED, State.EARLY_STOPPED):
        check("\n".join(lines[-1]), told)
        assert (told.says or "") in " ".join(lines[-1])
    elif told.word is None:
        check(text, told)
    if told.word == NOT_LEARNED:
        assert "best so far" not in text
        assert "not below the" in text


def test_list_and_status_from_the_files(
    workspace: Workspace, run: RunDirectory, case: tuple[Course, Told]
) -> None:
    told = case[1]
    record = record_from_files(workspace, run.job_id)
    assert record is not None
    heading, row = status_table([record])
    column = heading.find("GAP")
    cell = row[column:].split("  ")[0].strip() if column >= 0 else "-"
    assert cell == told.listed
    details = "\n".join(job_details(record))
    check(details, told)
    assert (told.says or "") in details
    assert record.gap_status == told.word


def test_summary(run: RunDirectory, case: tuple[Course, Told]) -> None:
    told = case[1]
    if not run.summary.exists():
        assert told.word is None
        return
    summary = read_json(run.summary)
    assert summary.get("gap_status") == told.word
    if not case[0].old:
        assert (told.says or "") in (summary.get("gap_note") or "")


def test_report(run: RunDirectory, case: tuple[Course, Told]) -> None:
    told = case[1]
    found = measured(read_run(run.path))
    shown = tables.status_text(found.best)
    check(shown, told)
    check(gap_finding([Named("", found)]), told)
    notes = tables.verdict_notes([Named("", found)])
    assert (told.says or "") in " ".join(notes)
    rows = {line.name: line.cells[0] for line in tables.outcome([Named("", found)])}
    check(rows.get("Status of the gap", ""), told)


def test_export_card(run: RunDirectory, case: tuple[Course, Told]) -> None:
    told = case[1]
    text = "\n".join(training_lines(read_run(run.path).summary))
    check(text, told)
    assert (told.says or "") in text


def test_compare(
    workspace: Workspace, tiny_model: Path, run: RunDirectory, case: tuple[Course, Told]
) -> None:
    told = case[1]
    good = told_run(workspace, tiny_model, "bbbb", Course((5.38, 5.3), [(0.4, 0.2)]))
    found = compare(read_run(good.path), read_run(run.path))
    check(found.b.curve.gap_status or "", told)
    text = "\n".join(comparison_lines(found, None))
    if told.word == NOT_LEARNED:
        assert f"not met: {NOT_LEARNED}" in text
        assert found.decision.action == "keep A"
        assert found.advice[0].rule == "not learned"
        assert not {"overfitting", "underfitting"} & {finding.rule for finding in found.advice}
        both = compare(read_run(run.path), replace(read_run(run.path), directory=good))
        assert both.decision.action == "no decision"
        assert "Neither has learned" in both.decision.reasons[-1]
    if told.says:
        assert told.says.split(":")[0] in " ".join(text.split())


def test_an_evaluation_has_no_verdict(workspace: Workspace, tiny_model: Path) -> None:
    trained = told_run(workspace, tiny_model, "aaaa", CASES["ruined, the gap 0"][0])
    record = record_from_files(workspace, make_evaluation(workspace, trained, "cccc").job_id)
    assert record is not None
    assert (record.gap_status, record.overfitting_gap) == (None, None)
    check("\n".join(job_details(record)), Told(None, "-", marked=False))


def test_a_log_that_called_a_ruined_run_excellent_is_told_rightly(
    workspace: Workspace, tiny_model: Path
) -> None:
    """Of an older farense, which knew the losses and looked at the gap alone."""
    run = told_run(workspace, tiny_model, "aaaa", CASES["ruined, the gap 0"][0])
    log = workspace.job_log(run.job_id)
    old = log.read_text().replace(NOT_LEARNED, "EXCELENTE")
    log.write_text(old)
    summary = run.summary.read_text().replace(NOT_LEARNED, "EXCELENTE")
    run.summary.write_text(summary)
    record = record_from_files(workspace, run.job_id)
    assert record is not None
    assert record.gap_status == NOT_LEARNED
    console = Console()
    text = "\n".join(line for e in said(workspace, run) for line in console.lines(e))
    assert "EXCELENTE" not in text
    assert side_of(read_run(run.path)).curve.gap_status == NOT_LEARNED
    assert curve_of(read_run(run.path).rows).learned is False
