"""What becomes of a job, by what is known of it: the rules, which look at nothing but the clock.

:mod:`daemon.lifecycle.transitions` carries out what they decide; what an attempt came to is judged
in :mod:`daemon.lifecycle.outcome`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from daemon.lifecycle.failures import Failure, FailureClass
from daemon.lifecycle.outcome import (
    CANCELLED,
    PAUSED,
    Outcome,
    given_up_or_queued,
    outcome_of_lost,
    pruned,
)
from daemon.runs.snapshot import JobSnapshot, Where, state_here, state_without_record
from daemon.runs.workspace_id import host_of
from daemon.store.records import JobRecord, state_from
from jobs.errors import InvalidInput
from jobs.state import (
    FINISHED,
    FINISHED_BADLY,
    FINISHED_WELL,
    IDLE,
    PENDING,
    TRANSITIONS,
    UNSTARTED,
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
    """What is to change of a job.

    Attributes:
        state: what ``state.json`` shall say; None to leave it.
        record: what the record shall say of a job whose files are not here; None to leave it.
        wish: what its worker shall find on the record.
        publish: the record shall be made to say what ``state.json`` says.
        push: a message shall be put on the queue; ``first`` before fresh ones of its priority.
        wait: a child still writes its last checkpoint; decide again when it is gone.
    """

    state: JobState | None = None
    record: JobState | None = None
    wish: Mapping[str, bool | None] | None = None
    publish: bool = False
    push: bool = False
    first: bool = False
    wait: bool = False


NOTHING = Decision()


def come_to(state: JobState) -> Decision:
    """Return that a job is to come to a state, here and in its record."""
    return Decision(state=state, publish=True, push=state.state is State.QUEUED)


def cancelled(seen: JobSnapshot, *, force: bool = False) -> Decision:
    """Return how a job is cancelled: at once where nothing runs it, else by its worker.

    Args:
        force: the child is killed rather than asked to stop.
    """
    wish = {"cancel_requested": True, "kill_requested": force}
    return _as_the_user_wants(seen, State.CANCELLED, CANCELLED, wish)


def paused(seen: JobSnapshot) -> Decision:
    """Return how a job is paused: at once where nothing runs it, else by its worker."""
    return _as_the_user_wants(seen, State.PAUSED, PAUSED, {"pause_requested": True})


def _as_the_user_wants(
    seen: JobSnapshot, state: State, reason: str, wish: Mapping[str, bool | None]
) -> Decision:
    old = seen.own
    if old is not None:
        if old.state is State.RUNNING and seen.attended:
            return Decision(wish=wish)
        if state in TRANSITIONS[old.state]:
            # If nothing runs the job any more, the time since its last sign of life does not count.
            return come_to(old.to(state, ended_at=seen.ended_at, reason=reason))
    elif seen.record is not None:
        if seen.record.state is State.RUNNING:
            return Decision(wish=wish)
        if state in TRANSITIONS[seen.record.state]:
            return Decision(record=state_from(seen.record).to(state, reason=reason))
    return NOTHING


def resumed(seen: JobSnapshot, begin: Callable[[JobState], JobState]) -> Decision:
    """Return how a paused job goes on, and how the wish to pause one that runs is taken back.

    Args:
        begin: returns the state of a job that is to start as soon as it may.

    Raises:
        JobFailed: the files of the job are on another machine.
    """
    old = state_here(seen, "Resume")
    if old.state is State.RUNNING:
        return Decision(wish={"pause_requested": False})
    if old.state is not State.PAUSED:
        return NOTHING
    new = begin(old)
    # The daemon must hear of it even if it is not due yet.
    decision = come_to(old.to(new.state, reason=new.reason))
    return replace(decision, push=new.state in UNSTARTED, first=True)


def started(seen: JobSnapshot) -> Decision:
    """Return how a job that is scheduled, waits for another or is paused starts without waiting.

    Raises:
        JobFailed: the files of the job are on another machine.
    """
    old = state_here(seen, "Start")
    if old.state is not State.PAUSED and old.state not in PENDING:
        return NOTHING
    now_due = replace(old, schedule=None, after=None, after_any=False)
    return come_to(now_due.to(State.QUEUED, reason=None))


def reprioritized(seen: JobSnapshot, priority: int) -> JobState:
    """Return the state of a job that waits, with another priority.

    Raises:
        InvalidInput: the job runs or has ended.
        JobFailed: its files are on another machine.
    """
    old = state_here(seen, "Move")
    if old.state not in IDLE:
        word = "has ended" if old.finished else "is under way"
        raise InvalidInput(
            f"{seen.job} {word} ({old.state}): it has no place in the queue.",
            "What waits: farense queue",
        )
    return replace(old, priority=priority)


def concluded(seen: JobSnapshot, attempt: int, outcome: Outcome) -> Decision:
    """Return how an attempt ends; nothing where another has taken the job over, or it is gone."""
    old = seen.own
    if old is None or (old.state, old.attempt) != (State.RUNNING, attempt):
        return NOTHING
    # Redis may be away: it is told later.
    new = old.to(outcome.state, ended_at=seen.ended_at, **outcome.changes(old))
    return Decision(state=new)


def withdrawn(seen: JobSnapshot, reason: str) -> Decision:
    """Return how a job ends that the queue was never told of, unless it has already started."""
    old = seen.own
    if old is None or old.attempt > 0 or old.finished:
        return NOTHING
    return Decision(state=old.to(State.CANCELLED, reason=reason))


def decide(seen: JobSnapshot, max_attempts: int) -> Decision:
    """Return what to do with a job after a crash, by what is on disk and what Redis says."""
    state, record = seen.state or _last_known(seen), seen.record
    if seen.where is Where.ELSEWHERE:
        return _decide_elsewhere(seen, state)
    if seen.alive and (state.state is State.RUNNING or seen.state is None):
        return Decision(wait=True, publish=record is None and seen.state is not None)
    if state.state is State.RUNNING:
        state = _without_worker(seen, state, max_attempts)
    elif record is not None:
        state = agreement(state, record)
    if seen.spec_damage is not None and not state.finished:
        state = state.to(State.FAILED, reason=seen.spec_damage)
    return Decision(
        state=state if state != seen.state else None,
        publish=record is None or not record.follows(state),
        push=state.state is State.QUEUED and not seen.message,
    )


def _last_known(seen: JobSnapshot) -> JobState:
    """Return how a job stood whose ``state.json`` is damaged, as far as anything tells."""
    if seen.record is not None:
        return state_from(seen.record)
    damage = seen.damage or seen.spec_damage or "state.json is missing"
    if seen.spec_damage is not None and seen.summary not in FINISHED_WELL:
        return JobState(State.FAILED, seen.last_attempt, reason=seen.spec_damage, updated_at=now())
    return state_without_record(seen.job, damage, seen.summary, seen.last_attempt)


def _decide_elsewhere(seen: JobSnapshot, state: JobState) -> Decision:
    """Let the file here say what the record says of a job that another workspace has."""
    record = seen.record
    if record is None or seen.alive:
        # A child of ours that still runs has been told to stop.
        return Decision(publish=record is None, wait=seen.alive)
    copy = state_from(record, home=record.home)
    same = (copy.state, copy.attempt, copy.home) == (state.state, state.attempt, state.home)
    return Decision(state=None if same and seen.state is not None else copy)


def _without_worker(seen: JobSnapshot, state: JobState, max_attempts: int) -> JobState:
    record = seen.record
    if seen.summary in FINISHED_WELL:
        # The child came to its end; only nobody was there to write it down.
        return state.to(State(seen.summary), ended_at=seen.ended_at, reason=pruned(seen.pruned_by))
    if record is not None and _ended_by_others(state, record):
        return state.to(
            record.state, ended_at=seen.ended_at, reason=record.reason, failure=record.failure
        )
    if record is not None and record.cancel_requested:
        return state.to(State.CANCELLED, ended_at=seen.ended_at, reason=CANCELLED)
    if record is not None and record.pause_requested:
        return state.to(State.PAUSED, ended_at=seen.ended_at, reason=PAUSED)
    outcome = outcome_of_lost(seen.job, state, seen.boot, max_attempts)
    return state.to(outcome.state, ended_at=seen.ended_at, **outcome.changes(state))


def _ended_by_others(state: JobState, record: JobRecord) -> bool:
    """Tell whether other machines, which took this one for lost, ended or paused its job."""
    stopped = record.state in FINISHED_BADLY or record.state is State.PAUSED
    return stopped and record.attempt == state.attempt


def after_expiry(record: JobRecord, max_attempts: int) -> JobState:
    """Return what becomes of a job whose machine has not renewed its lease."""
    outcome, old = _after_expiry(record, max_attempts), state_from(record)
    # Nothing more was heard of it than what stands in its record.
    return old.to(outcome.state, ended_at=record.updated_at, **outcome.changes(old))


def _after_expiry(record: JobRecord, max_attempts: int) -> Outcome:
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
