"""One job on the page: what it is, what it was told, and what its answers are worth."""

from __future__ import annotations

from typing import Any

from daemon.as_shown import as_found
from daemon.lifecycle.failures import label
from daemon.page.rows import row
from daemon.page.source import Reader
from daemon.runs.workspace_id import shown
from daemon.standstill import why_still
from daemon.store.records import JobRecord
from jobs.past_run import PastRun, read_run
from jobs.paths import RunDirectory, Workspace
from jobs.state import State
from jobs.storage.values import printable

# Answers on a page: more would nobody read.
MOST_ANSWERS = 20


def job_view(reader: Reader, job_id: str, workspace: Workspace) -> dict[str, Any]:
    """Return what is shown of a job while it goes on.

    Raises:
        UnknownJob: there is none of this id.
    """
    record = reader.job(job_id)
    run = workspace.run(record.id)
    found = record.verdict
    still = None if record.state is State.PAUSED else why_still(reader, record)
    return {
        **row(record, workspace),
        "attempt": record.attempt,
        "baseline": record.baseline_val_loss,
        "val": record.val_loss,
        "verdict": None if found is None else found.short,
        "note": found.note if found is not None and record.finished else None,
        "still": None if still is None else printable(still),
        "started": record.started_at,
        "failure": _failure(record),
        "history": [_ending(entry) for entry in record.history],
        "worker": record.worker,
        "checkpoint": record.checkpoint_step,
        "adapter": record.adapter,
        "folder": record.run_dir,
        "home": shown(record.home),
        "metrics_bytes": _size(run.metrics),
        "evaluated_at": _changed(run),
    }


def settings_view(workspace: Workspace, job_id: str) -> list[dict[str, str]]:
    """Return the settings of a job, as ``farense report`` lists them.

    Raises:
        InvalidInput: its files are not in this workspace.
    """
    from jobs.report import tables  # noqa: PLC0415 - numpy comes with it
    from jobs.report.findings import Named  # noqa: PLC0415 - for the same reason
    from jobs.report.run_data import measured  # noqa: PLC0415 - for the same reason

    named = Named(job_id, measured(_run(workspace, job_id)))
    lines = tables.settings([named])
    return [{"name": line.name, "value": printable(line.cells[0])} for line in lines]


def evaluation_view(reader: Reader, workspace: Workspace, job_id: str) -> dict[str, Any] | None:
    """Return the scores of a job's adapter and its worst answers; None where there are none.

    Raises:
        InvalidInput: its files are not in this workspace.
    """
    from jobs.report.page import evaluation_of  # noqa: PLC0415 - numpy comes with it
    from jobs.report.run_data import measured  # noqa: PLC0415 - for the same reason
    from jobs.report.tables import cut_answers  # noqa: PLC0415 - for the same reason

    run = as_found(_run(workspace, job_id), reader.job(job_id))
    found = evaluation_of(measured(run), MOST_ANSWERS, None)
    if found is None:
        return None
    return {
        "questions": found.report.get("questions"),
        "scores": [_score(line) for line in found.scores],
        "categories": [
            {"name": printable(name), "scores": [_score(line) for line in lines]}
            for name, lines in found.categories
        ],
        "cut": cut_answers(found.report),
        "left_out": found.left_out,
        "answers": [
            {
                "question": answer.question,
                "reference": answer.reference,
                "answer": answer.answer,
                "base": answer.base_answer,
                "category": answer.category,
                "scores": [{"name": name, "value": value} for name, value in answer.scores],
                "cut": answer.cut,
            }
            for answer in found.worst
        ],
    }


def _score(line: Any) -> dict[str, str]:
    adapter, base, gain = line.cells
    return {"name": line.name, "adapter": adapter, "base": base, "gain": gain}


def _run(workspace: Workspace, job_id: str) -> PastRun:
    return read_run(workspace.run(job_id).path)


def _failure(record: JobRecord) -> str | None:
    return label({"class": record.failure}) if record.failure else None


def _ending(entry: dict[str, Any]) -> dict[str, Any]:
    return {"attempt": entry.get("attempt"), "how": label(entry), "at": entry.get("at"),
            "reason": printable(str(entry.get("reason") or ""))}  # fmt: skip


def _size(path: Any) -> int:
    try:
        return int(path.stat().st_size)
    except OSError:
        return 0


def _changed(run: RunDirectory) -> int | None:
    """Return when the evaluation was written, as a number that differs each time."""
    try:
        return run.evaluation_report.stat().st_mtime_ns
    except OSError:
        return None
