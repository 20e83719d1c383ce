"""What a job that waits becomes where ``state.json`` and its record do not say the same."""

from __future__ import annotations

from dataclasses import replace

from daemon.lifecycle.outcome import PAUSED
from daemon.store.records import JobRecord
from jobs.state import PENDING, TRANSITIONS, JobState, State, now

CANCELLED = "cancelled by the user"
UNSTARTED = PENDING | {State.QUEUED}


def agreement(state: JobState, record: JobRecord) -> JobState:
    """Return the state a job has when ``state.json`` and the record are brought together.

    The file is the truth, with two exceptions, both of a job that waits: its record was ended or
    paused by a machine that has no run directory of it, or the user asked a worker that died to
    cancel or pause it.
    """
    if state.state not in UNSTARTED or state.attempt != record.attempt:
        return state
    by_others = record.finished or record.state is State.PAUSED
    if by_others and record.state in TRANSITIONS[state.state]:
        return replace(state, state=record.state, reason=record.reason, updated_at=now())
    if record.cancel_requested:
        return state.to(State.CANCELLED, reason=CANCELLED)
    if record.pause_requested:
        return state.to(State.PAUSED, reason=PAUSED)
    return state
