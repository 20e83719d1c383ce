"""Run directories of jobs that have ended, or wait, made by hand: no model, no queue."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.runs.files import record_from_files
from daemon.store.records import JobRecord
from jobs.paths import RunDirectory, Workspace
from jobs.spec import DataFile, JobSpec
from jobs.state import JobState, State, write_state
from tests.helpers.specs import write_spec

NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)


def job_id(number: int) -> str:
    """Return an id; higher numbers are newer."""
    return f"20261101-{number:06d}-v2-abcd"


def put_job(
    workspace: Workspace,
    number: int,
    state: State = State.COMPLETED,
    *,
    days_ago: int = 0,
    data: str = "shared",
    **fields: object,
) -> RunDirectory:
    """Make the run directory and logs of a job.

    Args:
        days_ago: how long before ``NOW`` it came to its state.
        data: the content of its training data.
    """
    run = workspace.run(job_id(number))
    changed = (NOW - timedelta(days=days_ago)).isoformat(timespec="milliseconds")
    digest = hashlib.sha256(data.encode()).hexdigest()
    frozen = workspace.imported / f"{digest}.jsonl"
    frozen.parent.mkdir(parents=True, exist_ok=True)
    frozen.write_text(data)
    train = DataFile(f"data/imported/{digest}.jsonl", digest, 1, "train.jsonl")
    config = {"num_epochs": 1, "data": {"train": train.path, "valid": None}}
    run.path.mkdir(parents=True)
    write_spec(run, JobSpec(run.job_id, "v2", changed, config, train, None, "", 8))
    values = JobState(state, attempt=1, updated_at=changed)
    write_state(run, JobState(**{**vars(values), **fields}))
    for log in (workspace.job_log(run.job_id), workspace.job_stderr(run.job_id)):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    return run


def put_adapter(run: RunDirectory, content: bytes = b"best" * 256) -> None:
    """Give a run a best adapter, and two checkpoints with links to it, as training leaves them."""
    run.adapters.mkdir()
    best = run.adapters / "adapters.safetensors"
    best.write_bytes(content)
    for step in (4, 8):
        folder = run.checkpoint(0, step)
        folder.mkdir()
        (folder / "state.safetensors").write_bytes(b"state" * 200)
        os.link(best, folder / "best.safetensors")


def point_latest(workspace: Workspace, number: int) -> None:
    """Let ``latest`` name a job."""
    (workspace.runs / "latest").symlink_to(job_id(number))


def record_of(workspace: Workspace, number: int, **fields: Any) -> JobRecord:
    """Return the record that the files of a job make, with other ``fields``."""
    record = record_from_files(workspace, job_id(number))
    assert record is not None
    return replace(record, **fields)


def left(workspace: Workspace) -> list[str]:
    """Return what there is below the run directories, logs and data."""
    folders = (workspace.runs, workspace.logs / "jobs", workspace.imported)
    return sorted(str(p.relative_to(workspace.root)) for f in folders for p in f.rglob("*"))
