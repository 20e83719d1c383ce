"""The jobs that ran or ended since a moment, from their files.

Of all run directories only those are opened whose ``state.json``, or whose job's log, was written
since: there may be ten thousand.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime

from daemon.as_shown import as_shown
from daemon.lifecycle.failures import label
from daemon.morning.facts import JobOfNight
from daemon.runs.files import record_shown
from daemon.store.records import JobRecord
from jobs.errors import FarenseError
from jobs.kinds import kind_of
from jobs.paths import JOB_ID, Workspace
from jobs.spec import read_spec
from jobs.state import State, seconds_between
from jobs.storage.values import printable


def jobs_since(workspace: Workspace, since: datetime) -> list[JobOfNight]:
    """Return the jobs that ran or ended since a moment: those under way, then the last ended first.

    A job of which nothing can be read is left out.
    """
    spoke = set(_logs_since(workspace, since.timestamp()))
    found = []
    for job_id in spoke | set(_states_since(workspace, since.timestamp())):
        with suppress(FarenseError, OSError):
            record = record_shown(workspace, job_id)
            if record is not None and _belongs(record, since, spoke):
                found.append(_told(workspace, as_shown(record, workspace), since))
    found.sort(key=lambda job: (job.finished_at or "9999", job.id), reverse=True)
    return found


def best_of(jobs: list[JobOfNight]) -> list[JobOfNight]:
    """Return the training with the lowest loss for each model and validation set, newest first.

    Only those that ended well and have learned count.
    """
    best: dict[tuple[str, str], JobOfNight] = {}
    for job in jobs:
        if not job.ended_well or not job.learned or job.measured_on is None:
            continue
        other = best.get(job.measured_on)
        if other is None or _loss(job) < _loss(other):
            best[job.measured_on] = job
    return list(best.values())


def _loss(job: JobOfNight) -> float:
    return float("inf") if job.best_val_loss is None else job.best_val_loss


def _states_since(workspace: Workspace, since: float) -> Iterator[str]:
    with suppress(OSError), os.scandir(workspace.runs) as entries:
        for entry in entries:
            if JOB_ID.fullmatch(entry.name) and _written(f"{entry.path}/state.json") >= since:
                yield entry.name


def _logs_since(workspace: Workspace, since: float) -> Iterator[str]:
    with suppress(OSError), os.scandir(workspace.logs / "jobs") as entries:
        for entry in entries:
            name, _, end = entry.name.partition(".")
            if end == "jsonl" and JOB_ID.fullmatch(name) and entry.stat().st_mtime >= since:
                yield name


def _written(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116 - a Path for each takes as long again
    except OSError:
        return 0.0


def _belongs(record: JobRecord, since: datetime, spoke: Collection[str]) -> bool:
    """Tell whether a job ran or ended since; one that was only queued or moved did not."""
    if record.finished:
        return seconds_between(since.isoformat(), record.finished_at or "") >= 0
    return record.state is State.RUNNING or (record.attempt > 0 and record.id in spoke)


def _told(workspace: Workspace, record: JobRecord, since: datetime) -> JobOfNight:
    trains = kind_of(record).trains
    verdict = record.verdict if trains else None
    lost = [e for e in record.history if seconds_between(since.isoformat(), str(e.get("at"))) > 0]
    return JobOfNight(
        id=record.id,
        preset=record.preset,
        kind=record.kind,
        state=record.state,
        name=record.name,
        evaluates=record.evaluates,
        sweep=record.sweep,
        interrupted=record.interrupted,
        attempt=record.attempt,
        step=record.step,
        total_steps=record.total_steps,
        best_val_loss=record.best_val_loss if trains else record.val_loss,
        overfitting_gap=record.overfitting_gap if trains else None,
        gap_status=verdict.word if verdict else None,
        token_f1=record.token_f1,
        exact_match=record.exact_match,
        duration_seconds=record.duration_seconds,
        finished_at=record.finished_at,
        reason=_one_line(record.reason),
        failure=_failure(record),
        lost=len(lost),
        measured_on=_measured_on(workspace, record.id) if trains else None,
    )


def _failure(record: JobRecord) -> str | None:
    if record.failure is None or record.state is not State.FAILED:
        return None
    last = record.history[-1] if record.history else {}
    return label(last if last.get("class") == record.failure else {"class": record.failure})


def _one_line(text: str | None) -> str | None:
    return printable(" ".join(text.split())) if text else None


def _measured_on(workspace: Workspace, job_id: str) -> tuple[str, str] | None:
    with suppress(FarenseError):
        spec = read_spec(workspace.run(job_id))
        if spec.valid is not None:
            return spec.model_fingerprint, spec.valid.sha256
    return None
