"""The end of an attempt that was looked after, translated into the state of the job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from daemon.lifecycle.failures import (
    FINAL,
    Ending,
    Failure,
    FailureClass,
    classify,
    how,
    label,
    signal_name,
)
from jobs.errors import ExitCode
from jobs.resources.out_of_memory import next_splits
from jobs.state import HISTORY_LENGTH, JobState, State


@dataclass(frozen=True)
class Outcome:
    """The state a job comes to, and why.

    Attributes:
        lost: the attempt ended in a way that nobody asked for; only so many of these are allowed.
        splits: how often the next attempt halves each micro-batch; None leaves that as it was.
        failure: how the attempt failed; None where it did not.
        hold: why no job of this workspace should be started for now.
    """

    state: State
    reason: str | None = None
    lost: bool = False
    splits: int | None = None
    failure: Failure | None = None
    hold: str | None = None

    def changes(self, old: JobState) -> dict[str, Any]:
        """Return what changes in ``state.json`` beside the state."""
        splits = old.splits if self.splits is None else self.splits
        return {
            "reason": self.reason,
            "lost_attempts": old.lost_attempts + self.lost,
            "splits": splits,
            "failure": self.failure.kind.value if self.failure else None,
            "history": _history(old, self.failure),
        }


# So many endings of one kind in a row are told one by one.
TOLD_APART = 3
# Trying again would end the same.
HOPELESS = (*FINAL, FailureClass.TIME_LIMIT)
# What has to do with the process or with the machine at the time, not with the job: it costs no
# attempt where the next one begins later, however often that happens.
PASSING = (FailureClass.GPU_TIMEOUT, FailureClass.HANG, FailureClass.RESOURCE_LIMIT)
ADVICE = {
    FailureClass.GPU_TIMEOUT: "macOS ends GPU work that keeps the screen waiting: let the display "
    "sleep (`display: sleep` in configs/daemon/night.yaml), and close programs that use the GPU.",
    FailureClass.RESOURCE_LIMIT: "A new process starts with fresh buffers, files and threads.",
    FailureClass.TIME_LIMIT: "What was saved until then is kept; where that is a checkpoint, "
    "`farense retry {job} --from-checkpoint` goes on from it.",
}
CANCELLED = "cancelled by the user"
PAUSED = "paused by the user; `farense resume` resumes it"
WENT_DOWN_TWICE = (
    "The machine went down twice while this job was running, so it may be what brings the machine "
    "down (a kernel panic, say). `farense resume {job}` starts it again."
)
# Signals of a process that perhaps got no memory. MLX does not check what malloc returns on Linux.
PERHAPS_MEMORY = {
    -signal.SIGKILL: "It was killed from outside, perhaps by the kernel for lack of memory",
    -signal.SIGSEGV: "On Linux, MLX ends so when it asks for more memory than there is",
}


def outcome_of(ending: Ending, old: JobState, max_attempts: int) -> Outcome:
    """Return what becomes of a job.

    Args:
        ending: how the attempt ended.
        old: the state of the job until then.
        max_attempts: attempts that may be lost before the job is given up.
    """
    kind = classify(ending)
    if kind is None:
        return _as_wanted(ending)
    if kind is FailureClass.OUT_OF_MEMORY:
        return _out_of_memory(ending)
    failure = Failure(kind, ending.attempt, _reason(ending, kind), how(ending, kind))
    if kind in HOPELESS:
        return Outcome(State.FAILED, failure.reason, failure=failure)
    if kind is FailureClass.DISK_FULL:
        return Outcome(State.QUEUED, failure.reason, failure=failure, hold=failure.reason)
    if kind in PASSING and ending.progressed:
        return Outcome(State.QUEUED, failure.reason, failure=failure)
    return given_up_or_queued(failure, old, max_attempts)


def pruned(by: str | None) -> str | None:
    """Return why a trial ended early; None where it did not.

    Args:
        by: the pruner, or ``time``.
    """
    if by is None:
        return None
    return "pruned: the sweep's time was up" if by == "time" else f"pruned by {by}"


def outcome_of_error(job: str, code: int, reason: str, old: JobState, max_attempts: int) -> Outcome:
    """Return what becomes of a job whose child could not be started, or not be looked after."""
    ending = Ending(job, code, old.attempt, "logs/daemon.jsonl", failure=reason)
    return outcome_of(ending, old, max_attempts)


def outcome_of_lost(job: str, old: JobState, boot: str | None, max_attempts: int) -> Outcome:
    """Return what becomes of a job that was running, and has neither a worker nor a process.

    Args:
        job: its id.
        old: the state of the job.
        boot: the time since the machine was started (:func:`daemon.host.boot_id`).
        max_attempts: attempts that may be lost before the job is given up.
    """
    number = old.attempt
    if boot is None or old.boot in (None, boot):
        gone = f"The daemon that ran attempt {number} is gone."
        failure = Failure(FailureClass.KILLED, number, gone, "with the daemon")
        return given_up_or_queued(failure, old, max_attempts)
    down = f"The machine went down while attempt {number} was running."
    failure = Failure(FailureClass.REBOOTED, number, down)
    if not _went_down_before(old):
        return given_up_or_queued(failure, old, max_attempts)
    return Outcome(State.PAUSED, WENT_DOWN_TWICE.format(job=job), lost=True, failure=failure)


def given_up_or_queued(failure: Failure, old: JobState, max_attempts: int) -> Outcome:
    """Return what becomes of a job that lost an attempt."""
    lost = old.lost_attempts + 1
    if lost >= max_attempts:
        return _given_up(failure, old, f"{lost} lost attempt{'s' if lost > 1 else ''}")
    return Outcome(State.QUEUED, failure.reason, lost=True, failure=failure)


def _given_up(failure: Failure, old: JobState, after: str) -> Outcome:
    each = ", ".join(_told(_history(old, failure)))
    reason = f"{failure.reason} Given up after {after}: {each}."
    return Outcome(State.FAILED, reason, lost=True, failure=failure)


def _told(history: list[dict[str, Any]]) -> Iterator[str]:
    """Yield how attempts ended; many of a kind in a row, as a night on a busy GPU has, as one."""
    for words, alike in groupby(history, label):
        numbers = [entry.get("attempt") for entry in alike]
        if len(numbers) > TOLD_APART:
            yield f"{numbers[0]} to {numbers[-1]} {words}"
        else:
            yield from (f"{number} {words}" for number in numbers)


def _went_down_before(old: JobState) -> bool:
    """Tell whether the machine went down in the attempt before this one, too."""
    last = old.history[-1] if old.history else {}
    before = (last.get("class"), last.get("attempt"))
    return before == (FailureClass.REBOOTED, old.attempt - 1)


def _history(old: JobState, failure: Failure | None) -> list[dict[str, Any]]:
    """Return how the attempts failed, the last one included."""
    return [*old.history, *([failure.entry()] if failure else [])][-HISTORY_LENGTH:]


def _as_wanted(ending: Ending) -> Outcome:
    """Return what becomes of a job whose attempt ended well, or as it was asked to."""
    if ending.returncode == ExitCode.OK:
        return Outcome(State(str(ending.summary_state)), pruned(ending.pruned_by))
    if ending.cancel_requested:
        return Outcome(State.CANCELLED, _cancelled(ending))
    if ending.pause_requested:
        return Outcome(State.PAUSED, PAUSED)
    if ending.held_because:
        return Outcome(State.QUEUED, f"{ending.held_because}; goes on {ending.kind.goes_on}")
    return Outcome(State.QUEUED, _stopped(ending))


def _out_of_memory(ending: Ending) -> Outcome:
    """Trying the same again would end the same, so it is tried smaller or not at all."""
    splits = next_splits(ending.config, ending.splits)
    state = State.QUEUED if splits is not None else State.FAILED
    reason = ending.failure
    if ending.returncode != ExitCode.OUT_OF_MEMORY or not reason:
        what = f"Attempt {ending.attempt} ran out of memory and {_end(ending)}."
        again = splits is not None
        next_time = ending.kind.after_out_of_memory(ending.config, ending.splits, again)
        reason = f"{what} {next_time}"
    failure = Failure(FailureClass.OUT_OF_MEMORY, ending.attempt, reason)
    return Outcome(state, reason, splits=splits, failure=failure)


def _cancelled(ending: Ending) -> str:
    if ending.killed and ending.kill_requested:
        return "cancelled by the user; its process was killed, as asked"
    if ending.killed:
        return "cancelled by the user; it did not stop in time and was killed"
    return CANCELLED


def _stopped(ending: Ending) -> str:
    if ending.killed:
        return "the daemon was stopped; the job did not stop in time and was killed"
    if ending.stop_requested:
        why = "the daemon was stopped"
    elif ending.queue_away:
        why = "the queue could not be reached"
    else:  # by a signal from outside, or a wish that was taken back
        why = "its process was told to stop"
    return f"{why}; the job goes on {ending.kind.goes_on}"


def _reason(ending: Ending, kind: FailureClass) -> str:
    """Return for a person why an attempt failed."""
    if ending.returncode == ExitCode.OK:
        return (
            "The job's process reported success, but left no training_summary.json that says so: "
            f"{ending.stderr}"
        )
    if kind in FINAL or kind is FailureClass.DISK_FULL:
        return ending.failure or _unsaid(ending, kind)
    if kind is FailureClass.LOCKED:
        return "Another process is running this job (it holds run.lock)."
    if kind is FailureClass.SUPERSEDED:
        return f"Attempt {ending.attempt} found a newer attempt of itself."
    stopped = f"was stopped: {ending.stopped_because.reason}" if ending.stopped_because else None
    reason = f"Attempt {ending.attempt} {stopped or _end(ending)}."
    perhaps = PERHAPS_MEMORY.get(ending.returncode)
    if perhaps and not (ending.killed or stopped):
        lower = ending.kind.less_memory(ending.config, ending.splits)
        return f"{reason} {perhaps}. If so: {lower}"
    advised = kind in ADVICE and (ending.kind.trains or kind is not FailureClass.TIME_LIMIT)
    return f"{reason} {ADVICE[kind].format(job=ending.job)}" if advised else reason


def _unsaid(ending: Ending, kind: FailureClass) -> str:
    """Return what can be said of a child that said nothing itself."""
    if kind is FailureClass.DISK_FULL:
        return "The disk is full: the job's process could not even write down why it failed."
    return f"The job's process failed and said nothing: {ending.stderr}"


def _end(ending: Ending) -> str:
    """Return how the child ended, and its words."""
    code = ending.returncode
    end = f"ended with code {code}" if code >= 0 else f"was ended by {signal_name(-code)}"
    words = f": {ending.failure.rstrip('.')}" if ending.failure else ""
    return f"{end} (see {ending.stderr}){words}"
