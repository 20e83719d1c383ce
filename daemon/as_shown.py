"""A record as it is shown: with what its files tell whoever looks, and Redis is not told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from daemon.interrupted import as_it_is
from daemon.machines.home import is_home
from daemon.records import JobRecord
from jobs.files import read_json
from jobs.numbers import finite
from jobs.order import TRAIN
from jobs.paths import RunDirectory, Workspace


def as_shown(
    record: JobRecord, workspace: Workspace, now: Callable[[], float] | None = None
) -> JobRecord:
    """Return a record with whether it was interrupted and, of a training of this workspace, where
    its best adapter lies and what the newest evaluation of it found.

    Args:
        now: the clock of the queue's server, in seconds; None where it is away.
    """
    record = as_it_is(record, workspace, now)
    if record.kind != TRAIN or not is_home(record.home, workspace):
        return record
    run = workspace.run(record.id)
    adapter = f"{record.run_dir}/{run.adapters.name}" if run.adapter_weights.is_file() else None
    # What was evaluated is the adapter of a run that had ended.
    return replace(record, adapter=adapter, **(_scores(run) if record.finished else {}))


def _scores(run: RunDirectory) -> dict[str, Any]:
    try:
        report = read_json(run.evaluation_report)
    except (OSError, ValueError):
        return {}
    if not isinstance(report, dict):
        return {}
    return {name: finite(report.get(name)) for name in ("token_f1", "exact_match")}
