"""A night made by hand: run directories, job logs and the daemon's log, as they would be left."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from daemon.morning.daemon_log import LogEntry
from jobs.events import Envelope, Event, Finished
from jobs.paths import RunDirectory, Workspace
from jobs.spec import DataFile, JobSpec, SweepTrial
from jobs.state import JobState, State, write_state
from jobs.storage.files import write_json
from jobs.sweep.folder import write_sweep, write_sweep_state, write_trial
from jobs.sweep.paths import SweepFolder, sweeps_of
from jobs.verdict import verdict, word_of
from tests.helpers.made_up_sweep import SWEEP, made_up, trial
from tests.helpers.specs import write_spec


def said(time: datetime, event: str, **values: Any) -> LogEntry:
    """Return a line of the daemon's log."""
    return LogEntry(time, event, {"time": time.isoformat(), "event": event, **values})


def write_log(workspace: Workspace, *entries: LogEntry, name: str = "daemon.jsonl") -> Path:
    """Write the daemon's log, or an older file of it."""
    path = workspace.logs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(entry.values) + b"\n" for entry in entries))
    return path


def put(
    workspace: Workspace,
    job_id: str,
    state: State,
    at: datetime,
    *,
    ran: timedelta = timedelta(minutes=30),
    best: float | None = None,
    gap: float = 0.02,
    baseline: float = 3.0,
    data: str = "valid",
    name: str | None = None,
    sweep: SweepTrial | None = None,
    **changes: Any,
) -> RunDirectory:
    """Make the files of a job that came to a state at a moment.

    Args:
        ran: how long before that its attempt began.
        best: its best validation loss.
        data: what its validation set holds.
        changes: of its state.
    """
    run = workspace.run(job_id)
    train, valid = (_frozen(workspace, content) for content in ("train", data))
    config = {"num_epochs": 1, "model": "models/tiny"}
    preset = job_id.split("-")[2]
    began = _text(at - ran)
    write_spec(
        run,
        JobSpec(job_id, preset, began, config, train, valid, "", 8, name=name, sweep=sweep),
    )
    values: dict[str, Any] = {"attempt": 1, "updated_at": _text(at), "started_at": began}
    values |= {"attempt_started_at": began, "ran_seconds": ran.total_seconds()}
    write_state(run, JobState(state, **{**values, **changes}))
    if best is not None:
        found = verdict(baseline=baseline, best=best, gap=gap)
        end = Finished(
            state=str(state),
            step=8,
            best_epoch=1,
            best_step=4,
            best_val_loss=best,
            baseline_val_loss=baseline,
            gap_status=word_of(found),
            mean_gap=gap,
            max_gap=gap,
            min_gap=gap,
            elapsed_time_sec=ran.total_seconds(),
            adapters="adapters",
            run_dir=job_id,
            best_gap=gap,
        )
        say(workspace, job_id, at, end)
        write_json(run.summary, {"state": state, **vars(end)})
    for path in (run.state, workspace.job_log(job_id)):
        if path.exists():
            os.utime(path, (at.timestamp(), at.timestamp()))
    return run


def say(workspace: Workspace, job_id: str, at: datetime, event: Event) -> None:
    """Write a line of a job's log."""
    log = workspace.job_log(job_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(orjson.dumps(Envelope(event, job_id, 1, _text(at)).as_dict()) + b"\n")


def _frozen(workspace: Workspace, content: str) -> DataFile:
    digest = hashlib.sha256(content.encode()).hexdigest()
    path = workspace.imported / f"{digest}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return DataFile(f"data/imported/{digest}.jsonl", digest, 1, "train.jsonl")


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def put_sweep(workspace: Workspace, at: datetime) -> SweepFolder:
    """Make the files of a sweep of four trials, three of which ended at a moment."""
    folder = SweepFolder(sweeps_of(workspace) / SWEEP)
    ended: dict[str, Any] = {"ended_at": _text(at)}
    trials = [
        trial(0, 1.4, ended_at=_text(at - timedelta(days=2))),
        trial(1, 1.3, **ended),
        trial(2, 1.9, state=State.EARLY_STOPPED, pruned_by="median", **ended),
        trial(3, state=State.FAILED, reason="the loss became NaN at step 6", **ended),
    ]
    swept = made_up(trials, state=State.RUNNING)
    folder.trials.mkdir(parents=True)
    write_sweep(folder, swept.spec)
    write_sweep_state(folder, swept.state)
    for one in trials:
        write_trial(folder, one)
    return folder
