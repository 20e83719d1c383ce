"""What ended an attempt: the class of every failure, found here and nowhere else.

Exit code, signal, last words and what the daemon itself saw go in as an :class:`Ending`; what
becomes of the job is decided from the class in :mod:`daemon.lifecycle.outcome`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobs.backend.kernel_cache import KERNEL_SIGNS
from jobs.errors import ExitCode
from jobs.events import CheckpointSaved, Envelope, EvaluationStarted, Progress, Started
from jobs.kinds import TRAINING, JobKind
from jobs.resources.out_of_memory import tells_of_memory
from jobs.state import FINISHED_WELL, now


class FailureClass(StrEnum):
    """The ways in which an attempt fails."""

    KILLED = "killed"
    """From outside: by a person, by the kernel, or together with the daemon."""
    REBOOTED = "rebooted"
    """The machine went down."""
    OUT_OF_MEMORY = "out_of_memory"
    GPU_TIMEOUT = "gpu_timeout"
    """macOS ended GPU work that took too long."""
    RESOURCE_LIMIT = "resource_limit"
    """The process used up buffers, files or threads; a fresh one has them again."""
    HANG = "hang"
    TIME_LIMIT = "time_limit"
    DIVERGED = "diverged"
    DISK_FULL = "disk_full"
    BAD_INPUT = "bad_input"
    ERROR = "error"
    """The child said what went wrong, and would say it again."""
    CRASHED = "crashed"
    """Anything else."""
    LOCKED = "locked"
    """Another process was running the job."""
    SUPERSEDED = "superseded"
    """A newer attempt of the job existed."""


@dataclass(frozen=True)
class StopReason:
    """Why the daemon stopped a child that nobody asked it to stop."""

    kind: FailureClass
    reason: str


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        job: its id.
        returncode: of the child; minus the number of the signal that ended it.
        summary_state: ``state`` in ``training_summary.json``, where there is one.
        pruned_by: likewise, who had the run end early.
        failure: what the child said went wrong: its ``failed`` event, else its last words.
        stderr: where its raw output is, relative to the workspace.
        said: the end of its raw output.
        stop_requested: the daemon is stopping, and has asked the child to stop.
        cancel_requested: the user wants the job to end.
        kill_requested: the user did not want to wait for that.
        pause_requested: the user wants the job to rest.
        queue_away: Redis did not answer at the end.
        held_because: why the daemon itself has asked the child to stop, to go on later.
        killed: it did not stop in time and was killed.
        killed_for_memory: the kernel killed it, and says that it killed something for this.
        stopped_because: why the daemon stopped it: it hung, or its time was up.
        progressed: the next attempt begins later than it did (:func:`made_progress`).
        disk_free: bytes left on the workspace's disk when it had ended.
        kind: of the job.
        config: of the job.
        splits: how often the attempt halved each micro-batch.
    """

    job: str
    returncode: int
    attempt: int
    stderr: str
    summary_state: str | None = None
    pruned_by: str | None = None
    failure: str = ""
    said: str = ""
    stop_requested: bool = False
    cancel_requested: bool = False
    kill_requested: bool = False
    pause_requested: bool = False
    held_because: str | None = None
    queue_away: bool = False
    killed: bool = False
    killed_for_memory: bool = False
    stopped_because: StopReason | None = None
    progressed: bool = False
    disk_free: int | None = None
    kind: JobKind = TRAINING
    config: Mapping[str, Any] = field(default_factory=dict)
    splits: int = 0


@dataclass(frozen=True)
class Failure:
    """A failed attempt, as the history of its job tells it.

    Attributes:
        reason: for a person, without what became of the job.
        how: the signal or exit code, where it says more than the class.
    """

    kind: FailureClass
    attempt: int
    reason: str
    how: str | None = None

    def entry(self) -> dict[str, Any]:
        """Return what stands under ``history`` in ``state.json``."""
        return {
            "attempt": self.attempt,
            "class": self.kind.value,
            "how": self.how,
            "reason": self.reason,
            "at": now(),
        }


BY_CODE: dict[int, FailureClass] = {
    ExitCode.INVALID: FailureClass.BAD_INPUT,
    ExitCode.DIVERGED: FailureClass.DIVERGED,
    ExitCode.LOCKED: FailureClass.LOCKED,
    ExitCode.SUPERSEDED: FailureClass.SUPERSEDED,
    ExitCode.OUT_OF_MEMORY: FailureClass.OUT_OF_MEMORY,
    ExitCode.DISK_FULL: FailureClass.DISK_FULL,
}
# What is so whatever else was wanted of the job.
FINAL = (FailureClass.BAD_INPUT, FailureClass.DIVERGED, FailureClass.ERROR)
KILLING = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
# Metal's watchdog, as MLX passes its words on, and what it says of the work queued behind.
GPU_SIGNS = (
    "kIOGPUCommandBufferCallbackErrorTimeout",
    "Caused GPU Timeout Error",
    "kIOGPUCommandBufferCallbackErrorImpactingInteractivity",
    "Command buffer execution failed: Impacting Interactivity",
    "kIOGPUCommandBufferCallbackErrorHang",
    "Caused GPU Hang Error",
    "kIOGPUCommandBufferCallbackErrorSubmissionsIgnored",
)
RESOURCE_SIGNS = (
    "[metal::malloc] Resource limit",
    "Too many open files",
    "Resource temporarily unavailable",
    "can't start new thread",
)
DISK_SIGNS = (
    "The disk is full",
    "No space left on device",
    "Disk quota exceeded",
    "Disc quota exceeded",
)
SIGNS = {
    # Its child has removed the library, so that the next one compiles it again.
    FailureClass.CRASHED: KERNEL_SIGNS,
    FailureClass.GPU_TIMEOUT: GPU_SIGNS,
    FailureClass.RESOURCE_LIMIT: RESOURCE_SIGNS,
    FailureClass.DISK_FULL: DISK_SIGNS,
}
# What the check before training says. A job too large for the disk is told so and fails; one that
# goes on, or finds the disk full, waits for space like one that met the end of the disk itself.
TOO_LITTLE_SPACE = "Not enough disk space"
# With less room than this a child could not write down why it failed.
FULL_BYTES = 16 << 20


def classify(ending: Ending) -> FailureClass | None:
    """Return the class of a failure; None for an attempt that ended well, or as it was asked to."""
    if ending.returncode == ExitCode.OK:
        return None if ending.summary_state in FINISHED_WELL else FailureClass.ERROR
    kind = _evident(ending)
    if kind in FINAL:
        return kind
    if _as_wanted(ending):
        return None
    said_so = ending.returncode == ExitCode.FAILED
    return ending.stopped_because.kind if ending.stopped_because and not said_so else kind


def made_progress(events: Iterable[Envelope], attempt: int) -> bool:
    """Tell whether the next attempt begins later than ``attempt`` did.

    Steps that were only logged do not count: they would be taken again, and lost again, for ever.
    An evaluation keeps each of its answers.
    """
    begun = 0
    kept: tuple[type[CheckpointSaved | Progress], ...] = (CheckpointSaved,)
    for envelope in events:
        event = envelope.event
        if envelope.attempt != attempt:
            continue
        if isinstance(event, Started):
            begun = event.resumed_step
        elif isinstance(event, EvaluationStarted):
            begun, kept = event.answered, (CheckpointSaved, Progress)
        elif isinstance(event, kept) and event.step > begun:
            return True
    return False


def label(entry: Mapping[str, Any]) -> str:
    """Return an entry of a job's history in a few words: ``killed (SIGKILL)``."""
    kind = str(entry.get("class"))
    words = "GPU timeout" if kind == FailureClass.GPU_TIMEOUT else kind.replace("_", " ")
    return f"{words} ({entry['how']})" if entry.get("how") else words


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def how(ending: Ending, kind: FailureClass) -> str | None:
    """Return the signal or exit code of an ending whose class does not tell it."""
    if kind not in (FailureClass.KILLED, FailureClass.CRASHED):
        return None
    code = ending.returncode
    return f"code {code}" if code >= 0 else signal_name(-code)


def _evident(ending: Ending) -> FailureClass:
    """Return the class that the child itself shows, whatever the daemon wanted of it."""
    code = ending.returncode
    if code == ExitCode.FAILED:
        full = ending.disk_free is not None and ending.disk_free < FULL_BYTES
        if TOO_LITTLE_SPACE in ending.failure and (full or ending.attempt > 1):
            return FailureClass.DISK_FULL
        unsaid = FailureClass.DISK_FULL if full and not ending.failure else FailureClass.ERROR
        return _of_words(ending.failure, unsaid)
    if code >= 0:
        return BY_CODE.get(code, FailureClass.CRASHED)
    aborted = code == -signal.SIGABRT
    if ending.killed_for_memory or (aborted and tells_of_memory(ending.said)):
        return FailureClass.OUT_OF_MEMORY
    if -code in KILLING:
        return FailureClass.KILLED
    return _of_words(ending.said, FailureClass.CRASHED)


def _of_words(text: str, otherwise: FailureClass) -> FailureClass:
    for kind, signs in SIGNS.items():
        if any(sign in text for sign in signs):
            return kind
    return otherwise


def _as_wanted(ending: Ending) -> bool:
    if ending.cancel_requested or ending.pause_requested:
        return True
    if ending.stopped_because or ending.returncode == ExitCode.FAILED:
        return False
    held = ending.held_because is not None
    return held or ending.stop_requested or ending.returncode == ExitCode.STOPPED
