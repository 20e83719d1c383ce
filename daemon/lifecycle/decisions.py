"""What becomes of a job, by what is known of it: the rules, all of them pure functions.

:mod:`daemon.lifecycle.transitions` carries out what they decide; what an attempt came to is judged
in :mod:`daemon.lifecycle.outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from daemon.lifecycle.failures import Failure, FailureClass
from daemon.lifecycle.outcome import PAUSED, Outcome, given_up_or_queued, outcome_of_lost, pruned
from daemon.runs.files import (
    state_without_record,
)
from daemon.runs.workspace_id import host_of
from daemon.store.records import JobRecord, state_from
from jobs.state import (
    FINISHED,
    FINISHED_BADLY,
    FINISHED_WELL,
    PENDING,
    TRANSITIONS,
    JobState,
    State,
    now,
)
from jobs.storage.formatting import local_exact

# What the user wants of a running job. A queued one keeps it: its next worker looks for it.
NO_WISHES: dict[str, bool | None] = {
    "cancel_requested": False,
    "pause_requested": False,
    "kill_requested": False,
    "prune_requested": None,
}
NO_WORKER = {"worker": None, "pid": None, "lease_until": None}


CANCELLED = "cancelled by the user"
UNSTARTED = PENDING | {State.QUEUED}


@dataclass(frozen=True)
class JobSnapshot:
    """What is known of a job with a run directory.

    Attributes:
        job: its id.
        state: what ``state.json`` says; None where it is ``damage``d.
        record: what Redis says; None where it knows nothing.
        alive: some process holds ``run.lock``.
        message: a message on the queue points to the job.
        summary, pruned_by: the state, and who ended the run early, in ``training_summary.json``.
        ended_at: when an attempt that is still called running wrote its summary, or spoke last.
        boot: the time since the machine was started (:func:`daemon.host.boot_id`).
        elsewhere: another workspace has taken the job over.
        damage: what is wrong with ``state.json``, where it cannot be read.
        order_damage: what is wrong with ``job.json``; looked for only where something is lost.
        last_attempt: that the job's log tells of; looked for only where ``state.json`` is damaged.
    """

    job: str
    state: JobState | None
    record: JobRecord | None
    alive: bool
    message: bool
    summary: str | None = None
    pruned_by: str | None = None
    ended_at: str | None = None
    boot: str | None = None
    elsewhere: bool = False
    damage: str | None = None
    spec_damage: str | None = None
    last_attempt: int = 0


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


@dataclass(frozen=True)
class Decision:
    """What to do with a job.

    Attributes:
        state: what ``state.json`` shall say; None to leave it.
        publish: the record shall be made to say what ``state.json`` says.
        push: a message shall be put on the queue.
        wait: a child still writes its last checkpoint; decide again when it is gone.
    """

    state: JobState | None = None
    publish: bool = False
    push: bool = False
    wait: bool = False


def decide(facts: JobSnapshot, max_attempts: int) -> Decision:
    """Return what to do with a job."""
    state, record = facts.state or _last_known(facts), facts.record
    if facts.elsewhere:
        return _decide_elsewhere(facts, state)
    if facts.alive and (state.state is State.RUNNING or facts.state is None):
        return Decision(wait=True, publish=record is None and facts.state is not None)
    if state.state is State.RUNNING:
        state = _without_worker(facts, state, max_attempts)
    elif record is not None:
        state = agreement(state, record)
    if facts.spec_damage is not None and not state.finished:
        state = state.to(State.FAILED, reason=facts.spec_damage)
    return Decision(
        state=state if state != facts.state else None,
        publish=record is None or not record.follows(state),
        push=state.state is State.QUEUED and not facts.message,
    )


def _last_known(facts: JobSnapshot) -> JobState:
    """Return how a job stood whose ``state.json`` is damaged, as far as anything tells."""
    if facts.record is not None:
        return state_from(facts.record)
    damage = facts.damage or facts.spec_damage or "state.json is missing"
    if facts.spec_damage is not None and facts.summary not in FINISHED_WELL:
        return JobState(
            State.FAILED, facts.last_attempt, reason=facts.spec_damage, updated_at=now()
        )
    return state_without_record(facts.job, damage, facts.summary, facts.last_attempt)


def _decide_elsewhere(facts: JobSnapshot, state: JobState) -> Decision:
    """Let the file here say what the record says of a job that another workspace has."""
    record = facts.record
    if record is None or facts.alive:
        # A child of ours that still runs has been told to stop.
        return Decision(publish=record is None, wait=facts.alive)
    copy = state_from(record, home=record.home)
    same = (copy.state, copy.attempt, copy.home) == (state.state, state.attempt, state.home)
    return Decision(state=None if same and facts.state is not None else copy)


def _without_worker(facts: JobSnapshot, state: JobState, max_attempts: int) -> JobState:
    record = facts.record
    if facts.summary in FINISHED_WELL:
        # The child came to its end; only nobody was there to write it down.
        return state.to(
            State(facts.summary), ended_at=facts.ended_at, reason=pruned(facts.pruned_by)
        )
    if record is not None and _ended_by_others(state, record):
        return state.to(
            record.state, ended_at=facts.ended_at, reason=record.reason, failure=record.failure
        )
    if record is not None and record.cancel_requested:
        return state.to(State.CANCELLED, ended_at=facts.ended_at, reason=CANCELLED)
    if record is not None and record.pause_requested:
        return state.to(State.PAUSED, ended_at=facts.ended_at, reason=PAUSED)
    outcome = outcome_of_lost(facts.job, state, facts.boot, max_attempts)
    return state.to(outcome.state, ended_at=facts.ended_at, **outcome.changes(state))


def _ended_by_others(state: JobState, record: JobRecord) -> bool:
    """Tell whether other machines, which took this one for lost, ended or paused its job."""
    stopped = record.state in FINISHED_BADLY or record.state is State.PAUSED
    return stopped and record.attempt == state.attempt


def after_expiry(record: JobRecord, max_attempts: int) -> Outcome:
    """Return what becomes of a job whose machine has not renewed its lease."""
    if record.cancel_requested:
        return Outcome(State.CANCELLED, CANCELLED)
    if record.pause_requested:
        return Outcome(State.PAUSED, PAUSED)
    host = host_of(record.home)
    if record.checkpoint_step is not None:
        # It belongs to its home, which counts the attempt itself when it is back.
        return Outcome(State.QUEUED, f"waiting for {host}: its checkpoint is there")
    gone = f"{host}, which ran attempt {record.attempt}, has not been heard of for a whole lease."
    failure = Failure(FailureClass.KILLED, record.attempt, gone, "with its machine")
    return given_up_or_queued(failure, state_from(record), max_attempts)


def begin(
    state: JobState, now: datetime, other: State | None, unlearned: str | None = None
) -> JobState:
    """Return the state of a job that is to start as soon as it may.

    Args:
        state: new, or paused before; with ``schedule`` and ``after``.
        other: the state of the job ``after``; None where there is none (any more).
        unlearned: by which losses that job, a training that has ended, has not learned; None of
            every other.
    """
    if state.after is not None and other not in FINISHED:
        if other is not None:
            return replace(state, state=State.WAITING, reason=f"starts after {state.after}")
        return replace(
            state, state=State.FAILED, reason=f"{state.after}, which it was to follow, is gone"
        )
    if state.after is not None and other in FINISHED_BADLY and not state.after_any:
        reason = f"{state.after}, which it was to follow, {other.verb}"
        return replace(state, state=State.FAILED, reason=reason)
    if state.after is not None and unlearned and not state.after_any:
        reason = f"{state.after}, which it was to follow, has not learned ({unlearned})"
        return replace(state, state=State.FAILED, reason=reason)
    if state.schedule is not None and datetime.fromisoformat(state.schedule) > now:
        # With the offset: it is read on other machines, too.
        reason = f"starts at {local_exact(state.schedule)}"
        return replace(state, state=State.SCHEDULED, reason=reason)
    return replace(state, state=State.QUEUED, reason=None)
