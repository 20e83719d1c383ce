"""Exit codes, signals and wishes, translated into the state of the job."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.outcome import Ending, given_up_or_queued, memory_ran_out, outcome_of
from daemon.supervisor import oom_kills
from jobs.errors import ExitCode
from jobs.state import TRANSITIONS, JobState, State
from tests.children.child import METAL_OOM

END = Ending(returncode=0, attempt=1, stderr="logs/jobs/x.stderr", failure="said so")
CANCEL, STOP, SHOT = {"cancel_requested": True}, {"stop_requested": True}, {"killed": True}
KILLED, ABORTED = -signal.SIGKILL, -signal.SIGABRT


@pytest.mark.parametrize(
    ("changes", "state", "lost", "words"),
    [
        ({"summary_state": "completed"}, State.COMPLETED, False, ""),
        ({"summary_state": "early_stopped"}, State.EARLY_STOPPED, False, ""),
        ({"summary_state": "completed", **CANCEL}, State.COMPLETED, False, ""),
        ({"summary_state": "running"}, State.FAILED, False, "training_summary.json"),
        ({}, State.FAILED, False, "training_summary.json"),
        ({"returncode": ExitCode.FAILED}, State.FAILED, False, "said so"),
        ({"returncode": ExitCode.INVALID}, State.FAILED, False, "said so"),
        ({"returncode": ExitCode.DIVERGED}, State.FAILED, False, "said so"),
        ({"returncode": ExitCode.FAILED, "failure": ""}, State.FAILED, False, "x.stderr"),
        ({"returncode": ExitCode.FAILED, **CANCEL}, State.FAILED, False, "said"),
        ({"returncode": ExitCode.STOPPED, **CANCEL}, State.CANCELLED, False, "user"),
        ({"returncode": ExitCode.STOPPED, **STOP}, State.QUEUED, False, "daemon"),
        ({"returncode": ExitCode.STOPPED}, State.QUEUED, False, "stopped"),
        ({"returncode": ExitCode.LOCKED}, State.QUEUED, True, "run.lock"),
        ({"returncode": ExitCode.SUPERSEDED}, State.QUEUED, True, "newer attempt"),
        ({"returncode": KILLED}, State.QUEUED, True, "SIGKILL"),
        ({"returncode": ABORTED}, State.QUEUED, True, "SIGABRT (see logs/jobs/x.stderr): said so"),
        ({"returncode": -200}, State.QUEUED, True, "signal 200"),
        ({"returncode": 99}, State.QUEUED, True, "code 99"),
        ({"returncode": KILLED, **CANCEL}, State.CANCELLED, False, "user"),
        ({"returncode": KILLED, **CANCEL, **SHOT}, State.CANCELLED, False, "killed"),
        ({"returncode": -signal.SIGTERM, **STOP}, State.QUEUED, False, "daemon"),
        ({"returncode": KILLED, **STOP, **SHOT}, State.QUEUED, False, "killed"),
    ],
)  # fmt: skip
def test_the_state_of_the_job(
    changes: dict[str, object], state: State, lost: bool, words: str
) -> None:
    ending = replace(END, **changes)  # type: ignore[arg-type]  # any field
    outcome = outcome_of(ending, lost_before=0, max_attempts=3)
    assert (outcome.state, outcome.lost) == (state, lost)
    assert words in (outcome.reason or "")
    assert outcome.state in TRANSITIONS[State.RUNNING]


CONFIG = {"batch_size": 4, "on_oom": "stop", "grad_checkpoint": False}
SMALLER = {**CONFIG, "on_oom": "retry_smaller"}
MEMORY = replace(END, returncode=ABORTED, out_of_memory=True, config=CONFIG)


def test_an_attempt_without_memory_is_not_tried_again_the_same() -> None:
    outcome = outcome_of(MEMORY, lost_before=0, max_attempts=3)
    assert (outcome.state, outcome.splits) == (State.FAILED, None)
    assert outcome.reason == (
        "Attempt 1 ran out of memory and was ended by SIGABRT (see logs/jobs/x.stderr): said so. "
        "Lower batch_size, max_seq_length or lora.num_layers, set grad_checkpoint to true, or "
        "close other programs. With on_oom: retry_smaller farense splits micro-batches."
    )


@pytest.mark.parametrize(
    ("splits", "state", "after", "words"),
    [
        (0, State.QUEUED, 1, "in 2 pieces"),
        (1, State.QUEUED, 2, "in 4 pieces"),
        (2, State.FAILED, 2, "Lower max_seq_length"),
    ],
)
def test_it_is_tried_smaller_down_to_one_row(
    splits: int, state: State, after: int, words: str
) -> None:
    outcome = outcome_of(replace(MEMORY, config=SMALLER, splits=splits), 2, 3)
    old = JobState(State.RUNNING, attempt=1, lost_attempts=2, splits=splits)
    new = old.to(outcome.state, **outcome.changes(old))
    assert (new.state, new.splits, new.lost_attempts) == (state, after, 2)
    assert words in (new.reason or "")
    assert "retry_smaller" not in (new.reason or "")


@pytest.mark.parametrize(("changes", "state"), [(CANCEL, State.CANCELLED), (STOP, State.QUEUED)])
def test_a_wish_comes_before_a_smaller_attempt(changes: dict[str, object], state: State) -> None:
    outcome = outcome_of(replace(MEMORY, config=SMALLER, **changes), 0, 3)  # type: ignore[arg-type]
    assert (outcome.state, outcome.splits) == (state, None)


@pytest.mark.parametrize(
    ("returncode", "said", "by_kernel", "expected"),
    [
        (ExitCode.OUT_OF_MEMORY, "", False, True),
        (ExitCode.FAILED, "MemoryError", False, False),
        (ABORTED, METAL_OOM, False, True),
        (ABORTED, "what():  std::bad_alloc", False, True),
        (ABORTED, "[METAL] Command buffer execution failed: Internal Error", False, False),
        (ABORTED, "", False, False),
        (KILLED, "", False, False),
        (KILLED, "", True, True),
    ],
)
def test_whether_memory_ran_out(
    returncode: int, said: str, by_kernel: bool, expected: bool
) -> None:
    assert memory_ran_out(returncode, said, by_kernel) is expected


@pytest.mark.parametrize(
    ("returncode", "words"),
    [(KILLED, "perhaps by the kernel for lack of memory"), (-signal.SIGSEGV, "more memory than")],
)
def test_where_one_cannot_be_sure_it_says_perhaps(returncode: int, words: str) -> None:
    outcome = outcome_of(replace(END, returncode=returncode, config=SMALLER), 0, 3)
    assert (outcome.state, outcome.lost, outcome.splits) == (State.QUEUED, True, None)
    assert words in (outcome.reason or "")
    assert "batch_size" in (outcome.reason or "")


def test_the_kernels_count_of_kills_for_memory(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    assert oom_kills(counters) == 0
    counters.write_text("pgfault 12\noom_kill 3\noom_kill_other 9\n")
    assert oom_kills(counters) == 3


def test_a_job_is_given_up_after_the_last_lost_attempt() -> None:
    assert given_up_or_queued("Gone.", 1, 3).state is State.QUEUED
    last = given_up_or_queued("Gone.", 2, 3)
    assert (last.state, last.reason) == (State.FAILED, "Gone. Given up after 3 lost attempts.")


def test_stops_do_not_count_as_lost_attempts() -> None:
    stopped = outcome_of(replace(END, returncode=ExitCode.STOPPED), 2, 3)
    state = JobState(State.RUNNING, attempt=9, lost_attempts=2)
    after = state.to(stopped.state, **stopped.changes(state))
    assert (after.state, after.attempt, after.lost_attempts) == (State.QUEUED, 9, 2)
