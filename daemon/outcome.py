"""The end of an attempt, translated into the state of the job: here and nowhere else."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import ExitCode
from jobs.memory import advice, next_splits, tells_of_memory, what_next
from jobs.state import JobState, State


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        returncode: of the child; minus the number of the signal that ended it.
        summary_state: ``state`` in ``training_summary.json``, where there is one.
        failure: what the child said went wrong: its ``failed`` event, else its last words.
        stderr: where its raw output is, relative to the workspace.
        stop_requested: the daemon is stopping, and has asked the child to stop.
        cancel_requested: the user wants the job to end.
        killed: it did not stop in time and was killed.
        out_of_memory: memory ran out, as far as can be told (:func:`memory_ran_out`).
        config: of the job.
        splits: how often the attempt halved each micro-batch.
    """

    returncode: int
    attempt: int
    stderr: str
    summary_state: str | None = None
    failure: str = ""
    stop_requested: bool = False
    cancel_requested: bool = False
    killed: bool = False
    out_of_memory: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    splits: int = 0


@dataclass(frozen=True)
class Outcome:
    """The state a job comes to, and why.

    Attributes:
        lost: the attempt ended in a way that nobody asked for; only so many of these are allowed.
        splits: how often the next attempt halves each micro-batch; None leaves that as it was.
    """

    state: State
    reason: str | None = None
    lost: bool = False
    splits: int | None = None

    def changes(self, old: JobState) -> dict[str, Any]:
        """Return what changes in ``state.json`` beside the state."""
        splits = old.splits if self.splits is None else self.splits
        lost_attempts = old.lost_attempts + self.lost
        return {"reason": self.reason, "lost_attempts": lost_attempts, "splits": splits}


FAILURES = (ExitCode.FAILED, ExitCode.INVALID, ExitCode.DIVERGED)
GOOD = (State.COMPLETED, State.EARLY_STOPPED)
# Signals of a process that perhaps got no memory. MLX does not check what malloc returns on Linux.
PERHAPS_MEMORY = {
    -signal.SIGKILL: "It was killed from outside, perhaps by the kernel for lack of memory",
    -signal.SIGSEGV: "On Linux, MLX ends so when it asks for more memory than there is",
}


def memory_ran_out(returncode: int, said: str, killed_for_memory: bool) -> bool:
    """Tell whether an attempt ended because memory ran out, as far as can be told.

    Args:
        returncode: of the child; minus the number of the signal that ended it.
        said: the end of its raw output.
        killed_for_memory: the kernel killed it, and says that it killed something for this.
    """
    if returncode >= 0:
        return returncode == ExitCode.OUT_OF_MEMORY
    return killed_for_memory or (returncode == -signal.SIGABRT and tells_of_memory(said))


def outcome_of(ending: Ending, lost_before: int, max_attempts: int) -> Outcome:
    """Return what becomes of a job.

    Args:
        ending: how the attempt ended.
        lost_before: attempts lost before this one.
        max_attempts: attempts that may be lost before the job is given up.
    """
    if ending.returncode == ExitCode.OK:
        return _finished(ending)
    if ending.returncode in FAILURES:
        reason = ending.failure or f"The training process failed and said nothing: {ending.stderr}"
        return Outcome(State.FAILED, reason)
    if ending.cancel_requested:
        return Outcome(State.CANCELLED, _cancelled(ending))
    if ending.returncode == ExitCode.STOPPED or ending.stop_requested:
        return Outcome(State.QUEUED, _stopped(ending))
    if ending.out_of_memory:
        return _out_of_memory(ending)
    return given_up_or_queued(_lost(ending), lost_before, max_attempts)


def given_up_or_queued(reason: str, lost_before: int, max_attempts: int) -> Outcome:
    """Return what becomes of a job that lost an attempt for ``reason``."""
    lost = lost_before + 1
    if lost >= max_attempts:
        return Outcome(State.FAILED, f"{reason} Given up after {lost} lost attempts.", lost=True)
    return Outcome(State.QUEUED, reason, lost=True)


def _finished(ending: Ending) -> Outcome:
    if ending.summary_state in GOOD:
        return Outcome(State(ending.summary_state))
    return Outcome(
        State.FAILED,
        "The training process reported success, but left no training_summary.json that says so: "
        f"{ending.stderr}",
    )


def _out_of_memory(ending: Ending) -> Outcome:
    """Trying the same again would end the same, so it is tried smaller or not at all."""
    splits = next_splits(ending.config, ending.splits)
    state = State.QUEUED if splits is not None else State.FAILED
    if ending.returncode == ExitCode.OUT_OF_MEMORY and ending.failure:
        return Outcome(state, ending.failure, splits=splits)
    words = f": {ending.failure.rstrip('.')}" if ending.failure else ""
    what = f"Attempt {ending.attempt} ran out of memory and {_how(ending)}{words}."
    return Outcome(state, f"{what} {what_next(ending.config, ending.splits)}", splits=splits)


def _cancelled(ending: Ending) -> str:
    if ending.killed:
        return "cancelled by the user; it did not stop in time and was killed"
    return "cancelled by the user"


def _stopped(ending: Ending) -> str:
    if ending.killed:
        return "the daemon was stopped; the job did not stop in time and was killed"
    return "the daemon was stopped; the job goes on from its last checkpoint"


def _lost(ending: Ending) -> str:
    code = ending.returncode
    if code == ExitCode.LOCKED:
        return "Another process is running this job (it holds run.lock)."
    if code == ExitCode.SUPERSEDED:
        return f"Attempt {ending.attempt} found a newer attempt of itself."
    words = f": {ending.failure}" if ending.failure else "."
    lost = f"Attempt {ending.attempt} {_how(ending)}{words}"
    if code not in PERHAPS_MEMORY or ending.killed:
        return lost
    return (
        f"{lost.rstrip('.')}. {PERHAPS_MEMORY[code]}. If so: {advice(ending.config, ending.splits)}"
    )


def _how(ending: Ending) -> str:
    code = ending.returncode
    how = f"ended with code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"
    return f"{how} (see {ending.stderr})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
