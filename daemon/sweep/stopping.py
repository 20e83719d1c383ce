"""Letting a sweep rest, and go on."""

from __future__ import annotations

from daemon.client import FarenseClient
from daemon.sweep.start import change_sweep
from jobs.errors import InvalidInput, UnknownJob
from jobs.state import FINISHED, State
from jobs.sweep.folder import SweepState, read_sweep_state, read_trials
from jobs.sweep.paths import SweepFolder

STOPPED = "stopped by the user; `farense sweep resume` resumes it"


def stop_sweep(folder: SweepFolder, client: FarenseClient) -> SweepState:
    """Let a sweep rest: no trial is started, and those under way write a checkpoint and wait.

    Raises:
        InvalidInput: it has ended.
        QueueUnreachable: the queue is away; no new trial is started all the same.
    """
    _refuse_ended(folder, "stopped")
    state = change_sweep(folder, client.workspace, state=State.PAUSED, reason=STOPPED)
    for job in open_jobs(folder):
        try:
            client.pause(job)
        except UnknownJob:
            continue
    return state


def resume_sweep(
    folder: SweepFolder, client: FarenseClient, until: str | None = None
) -> SweepState:
    """Let a sweep go on from where it was stopped.

    Args:
        until: when it is to have ended now, ISO 8601; None for what was said before.

    Raises:
        InvalidInput: it has ended.
        QueueUnreachable: the queue is away.
    """
    _refuse_ended(folder, "resumed")
    for job in open_jobs(folder):
        try:
            client.resume(job)
        except UnknownJob:
            continue
    changes = {} if until is None else {"until": until}
    return change_sweep(folder, client.workspace, state=State.RUNNING, reason=None, **changes)


def open_jobs(folder: SweepFolder) -> list[str]:
    """Return the newest job of each trial that has not ended."""
    trials = [trial for trial in read_trials(folder) if not trial.ended]
    return [job for trial in trials if (job := trial.newest_job) is not None]


def _refuse_ended(folder: SweepFolder, what: str) -> None:
    state = read_sweep_state(folder)
    if state.state in FINISHED:
        reason = f": {state.reason}" if state.reason else ""
        raise InvalidInput(f"{folder.id} cannot be {what}: it {state.state.verb}{reason}.")
