"""A record as the page shows it: plain values, and what can be done with the job. Pure."""

from __future__ import annotations

from typing import Any

from daemon.queue.position import QueuedJob
from daemon.runs.workspace_id import is_home, shown
from daemon.standstill import standstill
from daemon.store.progress import phase_text
from daemon.store.records import JobRecord
from jobs.kinds import kind_of
from jobs.paths import Workspace, end_of_id
from jobs.state import FINISHED, PENDING, UNSTARTED, State
from jobs.storage.values import printable

NEWLINE = "\n"


def row(record: JobRecord, workspace: Workspace) -> dict[str, Any]:
    """Return what a table shows of a job; moments are ISO 8601 in UTC, lengths are seconds."""
    seconds = record.duration_seconds
    return {
        "id": record.id,
        "short": end_of_id(record.id),
        "preset": record.preset,
        "name": record.name and printable(record.name),
        "kind": record.kind,
        "evaluates": record.evaluates,
        "state": "interrupted" if record.interrupted else str(record.state),
        "wish": wish(record),
        "step": record.step,
        "total": record.total_steps,
        "epoch": record.epoch,
        "epochs": record.num_epochs,
        "loss": record.loss,
        "best": record.val_loss if record.evaluates else record.best_val_loss,
        "gap": record.overfitting_gap,
        "word": record.gap_status,
        "f1": record.token_f1,
        "exact": record.exact_match,
        "speed": record.steps_per_second,
        "eta": None if record.eta_seconds is None else round(record.eta_seconds),
        "phase": phase_text(record),
        "reason": reason(record),
        "priority": record.priority,
        "schedule": record.schedule if record.state is State.SCHEDULED else None,
        "after": record.after if record.state is State.WAITING else None,
        "created": record.created_at,
        "finished": record.finished_at,
        "seconds": None if seconds is None else round(seconds),
        "sweep": record.sweep,
        "trial": record.trial,
        "queue": record.queue,
        "where": None if is_home(record.home, workspace) else shown(record.home),
        "actions": actions(record),
    }


def place(job: QueuedJob, workspace: Workspace) -> dict[str, Any]:
    """Return what a table shows of a job that waits: its place, too."""
    return {"place": job.position, **row(job.record, workspace)}


def reason(record: JobRecord) -> str | None:
    """Return why a job is where it is; its start time is shown by itself."""
    if record.state is State.SCHEDULED and record.schedule:
        return None
    if record.state is State.PAUSED:  # a button stands beside it, no command is to be typed
        return f"at step {record.step}"
    found = standstill(record) or record.reason
    return None if found is None else printable(found, keep=NEWLINE)


def wish(record: JobRecord) -> str | None:
    """Return what was asked of a job that has not come to it yet."""
    if record.state in FINISHED or record.state is State.PAUSED:
        return None
    if record.cancel_requested:
        return "being killed" if record.kill_requested else "being cancelled"
    if record.prune_requested:
        return "ending early"
    return "being paused" if record.pause_requested else None


def actions(record: JobRecord) -> list[str]:
    """Return what a person may have done with a job, by the names of the commands."""
    if record.finished:
        again = ["retry"]
        if record.checkpoint_step and record.state is not State.COMPLETED:
            again.append("continue")
        if kind_of(record).trains and record.adapter and record.token_f1 is None:
            again.append("evaluate")
        return again
    if record.cancel_requested:
        return [] if record.kill_requested else ["kill"]
    if record.state is State.PAUSED:
        return ["resume", "cancel"]
    if record.state in UNSTARTED:
        now = ["start"] if record.state in PENDING and record.evaluates is None else []
        return [*now, "top", "pause", "cancel"]
    return ["cancel"] if record.pause_requested else ["pause", "cancel"]
