"""The class of a failure, from exit code, signal and last words."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from daemon.lifecycle.failures import (
    FULL_BYTES,
    Ending,
    FailureClass,
    StopReason,
    classify,
    label,
    made_progress,
)
from jobs.errors import ExitCode
from jobs.events import CheckpointSaved, Envelope, EvaluationStarted, Event, Progress, Started
from jobs.paths import REPOSITORY
from jobs.storage.files import explain
from tests.children.child import GPU_TIMEOUT, METAL_OOM, RESOURCE_LIMIT

END = Ending("x", returncode=0, attempt=1, stderr="logs/jobs/x.stderr")
ABORT = -signal.SIGABRT
METAL = "libc++abi: terminating: [METAL] Command buffer execution failed: "
INTERACTIVITY = f"{METAL}Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorI)"
HANG = f"{METAL}Caused GPU Hang Error (00000003:kIOGPUCommandBufferCallbackErrorHang)"
IGNORED = f"{METAL}Ignored (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
FAULT = (
    f"{METAL}Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)"
)
NO_FORK = "BlockingIOError: [Errno 11] Resource temporarily unavailable"
HUNG = StopReason(FailureClass.HANG, "silent")


def no_space() -> str:
    return explain(OSError(28, "No space left on device"), REPOSITORY / "x").message


@pytest.mark.parametrize(
    ("returncode", "said", "expected"),
    [
        (-signal.SIGKILL, "", "killed"),
        (-signal.SIGTERM, "", "killed"),
        (-signal.SIGKILL, METAL_OOM, "killed"),
        (-signal.SIGSEGV, "", "crashed"),
        (-200, "", "crashed"),
        (99, "", "crashed"),
        (ExitCode.UNREACHABLE, "", "crashed"),
        (ABORT, "", "crashed"),
        (ABORT, FAULT, "crashed"),
        (ABORT, METAL_OOM, "out_of_memory"),
        (ABORT, "what():  std::bad_alloc", "out_of_memory"),
        (ABORT, GPU_TIMEOUT, "gpu_timeout"),
        (ABORT, INTERACTIVITY, "gpu_timeout"),
        (ABORT, HANG, "gpu_timeout"),
        (ABORT, IGNORED, "gpu_timeout"),
        (ABORT, RESOURCE_LIMIT, "resource_limit"),
        (ABORT, "terminate: No space left on device", "disk_full"),
        (ExitCode.OUT_OF_MEMORY, "", "out_of_memory"),
        (ExitCode.LOCKED, "", "locked"),
        (ExitCode.SUPERSEDED, "", "superseded"),
        (ExitCode.DISK_FULL, "", "disk_full"),
        (ExitCode.OK, "", "error"),
    ],
)
def test_the_class_from_exit_code_signal_and_raw_output(
    returncode: int, said: str, expected: str
) -> None:
    assert classify(replace(END, returncode=returncode, said=said)) == expected


@pytest.mark.parametrize(
    ("code", "failure", "expected"),
    [
        (ExitCode.FAILED, "No checkpoint could be read.", "error"),
        (ExitCode.FAILED, "", "error"),
        (ExitCode.FAILED, RESOURCE_LIMIT, "resource_limit"),
        (ExitCode.FAILED, "x could not be written: Too many open files.", "resource_limit"),
        (ExitCode.FAILED, NO_FORK, "resource_limit"),
        (ExitCode.FAILED, "can't start new thread", "resource_limit"),
        (ExitCode.FAILED, GPU_TIMEOUT, "gpu_timeout"),
        (ExitCode.FAILED, no_space(), "disk_full"),
        (ExitCode.FAILED, "[Errno 122] Disk quota exceeded", "disk_full"),
        (ExitCode.INVALID, "train.jsonl, line 3: Too many open files", "bad_input"),
        (ExitCode.DIVERGED, "The loss became NaN.", "diverged"),
    ],
)
def test_the_class_from_what_the_child_said(code: int, failure: str, expected: str) -> None:
    assert classify(replace(END, returncode=code, failure=failure)) == expected


def test_a_child_that_says_nothing_where_nothing_can_be_written() -> None:
    unsaid = replace(END, returncode=ExitCode.FAILED)
    assert classify(replace(unsaid, disk_free=0)) == "disk_full"
    assert classify(replace(unsaid, disk_free=FULL_BYTES)) == "error"
    assert classify(replace(unsaid, disk_free=0, failure="No permission.")) == "error"


def test_a_job_waits_for_space_unless_it_is_new_and_too_large() -> None:
    short = replace(
        END, returncode=ExitCode.FAILED, failure="Not enough disk space: it needs 9 GB."
    )
    assert classify(short) == "error"
    assert classify(replace(short, disk_free=FULL_BYTES)) == "error"
    assert classify(replace(short, disk_free=0)) == "disk_full"
    assert classify(replace(short, attempt=2)) == "disk_full"


def test_the_kernel_says_that_it_killed_for_memory() -> None:
    killed = replace(END, returncode=-signal.SIGKILL, killed_for_memory=True)
    assert classify(killed) == "out_of_memory"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"summary_state": "completed", "stopped_because": HUNG}, None),
        ({"summary_state": "early_stopped"}, None),
        ({"summary_state": "running"}, "error"),
        ({"returncode": ExitCode.STOPPED}, None),
        ({"returncode": -9, "stop_requested": True}, None),
        ({"returncode": -9, "held_because": "outside the window"}, None),
        ({"returncode": -9, "cancel_requested": True}, None),
        ({"returncode": -9, "pause_requested": True}, None),
        ({"returncode": 1, "failure": RESOURCE_LIMIT, "cancel_requested": True}, None),
        ({"returncode": 1, "failure": "no", "cancel_requested": True}, "error"),
        ({"returncode": ExitCode.DIVERGED, "pause_requested": True}, "diverged"),
        ({"returncode": ExitCode.STOPPED, "stopped_because": HUNG}, "hang"),
        ({"returncode": -9, "stopped_because": HUNG}, "hang"),
        ({"returncode": -9, "stopped_because": HUNG, "stop_requested": True}, "hang"),
        ({"returncode": -9, "stopped_because": HUNG, "cancel_requested": True}, None),
        ({"returncode": -9, "stopped_because": HUNG, "pause_requested": True}, None),
        ({"returncode": 1, "failure": "no", "stopped_because": HUNG}, "error"),
    ],
)
def test_what_was_wanted_is_no_failure(changes: dict[str, Any], expected: str | None) -> None:
    assert classify(replace(END, **changes)) == expected


def log(*events: Event, attempt: int = 2) -> list[Envelope]:
    return [Envelope(event, "job", attempt, "") for event in events]


def started(step: int) -> Started:
    return Started(1, "v2", "tiny", "none", 20, 20, 1, 1, 8, 4, 100, {}, resumed_step=step)


def test_progress_is_a_checkpoint_later_than_the_one_it_began_from() -> None:
    first = log(started(0), CheckpointSaved(1, 10, "x"), attempt=1)
    again = log(started(10), Progress(14, 20, 1, 1.0, 1.0))
    assert made_progress(first, 1)
    assert not made_progress(first + again, 2)
    # Asked to stop before its first step.
    assert not made_progress(first + again + log(CheckpointSaved(1, 10, "x")), 2)
    assert made_progress(first + again + log(CheckpointSaved(1, 15, "x")), 2)
    assert not made_progress([], 2)


def test_an_evaluation_makes_progress_by_its_answers() -> None:
    def began(answered: int) -> EvaluationStarted:
        return EvaluationStarted(1, "p", "x", "m", "none", 10, 20, answered, 100, 4)

    first = log(began(0), Progress(8, 20, 0, 1.0, 1.0), attempt=1)
    assert made_progress(first, 1)
    assert not made_progress(first + log(began(8), Progress(8, 20, 0, 1.0, 1.0)), 2)
    assert made_progress(first + log(began(8), Progress(9, 20, 0, 1.0, 1.0)), 2)


def test_a_failure_in_a_few_words() -> None:
    assert label({"class": "killed", "how": "SIGKILL"}) == "killed (SIGKILL)"
    assert label({"class": "out_of_memory", "how": None}) == "out of memory"
    assert label({"class": "gpu_timeout"}) == "GPU timeout"
    assert label({"class": "of a later farense"}) == "of a later farense"
