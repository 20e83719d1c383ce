"""A record as it is shown: with what its files tell whoever looks, and Redis is not told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daemon.runs.files import last_word
from daemon.runs.workspace_id import is_home
from daemon.standstill import as_it_is, standstill
from daemon.store.records import JobRecord
from jobs.kinds import kind_of
from jobs.paths import RunDirectory, Workspace
from jobs.state import State
from jobs.storage.files import read_json
from jobs.storage.values import finite

if TYPE_CHECKING:
    from jobs.past_run import PastRun


def as_shown(
    record: JobRecord, workspace: Workspace, now: Callable[[], float] | None = None
) -> JobRecord:
    """Return a record with whether it was interrupted and, of a training of this workspace, where
    its best adapter lies and what the newest evaluation of it found.

    Args:
        now: the clock of the queue's server, in seconds; None where it is away.
    """
    record = as_it_is(record, workspace, now)
    if record.interrupted:
        heard_at = last_word(workspace, record.id) if is_home(record.home, workspace) else None
        record = replace(
            record, reason=standstill(record), updated_at=heard_at or record.updated_at
        )
    if record.state is not State.RUNNING:  # what was said of the pace holds no more
        record = replace(record, steps_per_second=None, eta_seconds=None)
    if not kind_of(record).trains or not is_home(record.home, workspace):
        return record
    run = workspace.run(record.id)
    adapter = f"{record.run_dir}/{run.adapters.name}" if run.adapter_weights.is_file() else None
    # What was evaluated is the adapter of a run that had ended.
    return replace(record, adapter=adapter, **(_scores(run) if record.finished else {}))


def as_found(run: PastRun, record: JobRecord) -> PastRun:
    """Return what a run left, with what its record as shown says of an interruption."""
    heard_at = record.updated_at if record.interrupted else None
    return replace(run, interrupted=record.interrupted, heard_at=heard_at)


def _scores(run: RunDirectory) -> dict[str, Any]:
    try:
        report = read_json(run.evaluation_report)
    except (OSError, ValueError):
        return {}
    if not isinstance(report, dict):
        return {}
    return {name: finite(report.get(name)) for name in ("token_f1", "exact_match")}
