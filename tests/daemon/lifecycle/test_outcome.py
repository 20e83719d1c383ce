"""Exit codes, signals and wishes, translated into the state of the job."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.lifecycle.failures import Ending, Failure, FailureClass, StopReason
from daemon.lifecycle.outcome import (
    Outcome,
    given_up_or_queued,
    outcome_of,
    outcome_of_error,
    outcome_of_lost,
)
from daemon.worker.child import oom_kills
from jobs.errors import ExitCode
from jobs.kinds import EVALUATION, TRAINING
from jobs.state import HISTORY_LENGTH, TRANSITIONS, JobState, State
from tests.children.child import GPU_TIMEOUT, METAL_OOM, RESOURCE_LIMIT

END = Ending("x", returncode=0, attempt=1, stderr="logs/jobs/x.stderr", failure="said so")
CANCEL, STOP, SHOT = {"cancel_requested": True}, {"stop_requested": True}, {"killed": True}
EARLY = {"summary_state": "early_stopped"}
FORCE, PAUSE = {"kill_requested": True}, {"pause_requested": True}
TORN = "Could not load C++ shared library /tmp/mlx/0.32.4/cpu/libA.so: file too short"
KILLED, ABORTED = -signal.SIGKILL, -signal.SIGABRT
RUNNING = JobState(State.RUNNING, attempt=1)


@pytest.mark.parametrize(
    ("changes", "state", "lost", "words"),
    [
        ({"summary_state": "completed"}, State.COMPLETED, False, ""),
        ({"summary_state": "early_stopped"}, State.EARLY_STOPPED, False, ""),
        ({**EARLY, "pruned_by": "median"}, State.EARLY_STOPPED, False, "pruned by median"),
        ({**EARLY, "pruned_by": "time"}, State.EARLY_STOPPED, False, "time was up"),
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
        ({"returncode": ExitCode.STOPPED}, State.QUEUED, False, "its process was told to stop"),
        ({"returncode": ExitCode.STOPPED, "queue_away": True}, State.QUEUED, False, "the queue"),
        ({"returncode": ExitCode.FAILED, "failure": TORN}, State.QUEUED, True, TORN),
        ({"returncode": ExitCode.FAILED, "failure": TORN, **PAUSE}, State.PAUSED, False, "user"),
        ({"returncode": ExitCode.LOCKED}, State.QUEUED, True, "run.lock"),
        ({"returncode": ExitCode.SUPERSEDED}, State.QUEUED, True, "newer attempt"),
        ({"returncode": KILLED}, State.QUEUED, True, "SIGKILL"),
        ({"returncode": ABORTED}, State.QUEUED, True, "SIGABRT (see logs/jobs/x.stderr): said so"),
        ({"returncode": -200}, State.QUEUED, True, "signal 200"),
        ({"returncode": 99}, State.QUEUED, True, "code 99"),
        ({"returncode": KILLED, **CANCEL}, State.CANCELLED, False, "user"),
        ({"returncode": KILLED, **CANCEL, **SHOT}, State.CANCELLED, False, "not stop in time"),
        ({"returncode": KILLED, **CANCEL, **FORCE, **SHOT}, State.CANCELLED, False, "as asked"),
        ({"returncode": -signal.SIGTERM, **STOP}, State.QUEUED, False, "daemon"),
        ({"returncode": KILLED, **STOP, **SHOT}, State.QUEUED, False, "killed"),
    ],
)  # fmt: skip
def test_the_state_of_the_job(
    changes: dict[str, object], state: State, lost: bool, words: str
) -> None:
    ending = replace(END, **changes)  # type: ignore[arg-type]  # any field
    outcome = outcome_of(ending, RUNNING, max_attempts=3)
    assert (outcome.state, outcome.lost) == (state, lost)
    assert words in (outcome.reason or "")
    assert outcome.state in TRANSITIONS[State.RUNNING]


CONFIG = {"batch_size": 4, "on_oom": "stop", "grad_checkpoint": False}
SMALLER = {**CONFIG, "on_oom": "retry_smaller"}
MEMORY = replace(END, returncode=ABORTED, said=METAL_OOM, config=CONFIG)


def test_an_attempt_without_memory_is_not_tried_again_the_same() -> None:
    outcome = outcome_of(MEMORY, RUNNING, max_attempts=3)
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
    old = JobState(State.RUNNING, attempt=1, lost_attempts=2, splits=splits)
    outcome = outcome_of(replace(MEMORY, config=SMALLER, splits=splits), old, 3)
    new = old.to(outcome.state, **outcome.changes(old))
    assert (new.state, new.splits, new.lost_attempts) == (state, after, 2)
    assert words in (new.reason or "")
    assert "retry_smaller" not in (new.reason or "")


@pytest.mark.parametrize(("changes", "state"), [(CANCEL, State.CANCELLED), (STOP, State.QUEUED)])
def test_a_wish_comes_before_a_smaller_attempt(changes: dict[str, object], state: State) -> None:
    ending = replace(MEMORY, config=SMALLER, **changes)  # type: ignore[arg-type]
    outcome = outcome_of(ending, RUNNING, 3)
    assert (outcome.state, outcome.splits) == (state, None)


@pytest.mark.parametrize(
    ("returncode", "words"),
    [(KILLED, "perhaps by the kernel for lack of memory"), (-signal.SIGSEGV, "more memory than")],
)
def test_where_one_cannot_be_sure_it_says_perhaps(returncode: int, words: str) -> None:
    outcome = outcome_of(replace(END, returncode=returncode, config=SMALLER), RUNNING, 3)
    assert (outcome.state, outcome.lost, outcome.splits) == (State.QUEUED, True, None)
    assert words in (outcome.reason or "")
    assert "batch_size" in (outcome.reason or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"returncode": ExitCode.STOPPED, **STOP},
        {"returncode": ExitCode.STOPPED, "held_because": "outside the window"},
        {"returncode": ABORTED, "said": METAL_OOM, "config": CONFIG},
        {"returncode": ABORTED, "said": METAL_OOM, "config": SMALLER},
        {"returncode": KILLED, "config": CONFIG},
        {"returncode": KILLED, "stopped_because": StopReason(FailureClass.TIME_LIMIT, "too long")},
        {"returncode": ExitCode.OK},
        {"returncode": ExitCode.FAILED, "failure": ""},
    ],
)
def test_what_is_said_of_an_evaluation_is_not_of_a_training(changes: dict[str, object]) -> None:
    ending = replace(END, kind=EVALUATION, **changes)  # type: ignore[arg-type]  # any field
    reason = outcome_of(ending, RUNNING, 3).reason or ""
    for word in ("checkpoint", "training process", "adapter", "micro-batch", "max_seq_length"):
        assert word not in reason
    assert (
        reason != outcome_of(replace(ending, kind=TRAINING), RUNNING, 3).reason or "job's" in reason
    )


def test_the_kernels_count_of_kills_for_memory(tmp_path: Path) -> None:
    counters = tmp_path / "vmstat"
    assert oom_kills(counters) == 0
    counters.write_text("pgfault 12\noom_kill 3\noom_kill_other 9\n")
    assert oom_kills(counters) == 3


def test_stops_do_not_count_as_lost_attempts() -> None:
    state = JobState(State.RUNNING, attempt=9, lost_attempts=2)
    after = concluded(state, outcome_of(replace(END, returncode=ExitCode.STOPPED), state, 3))
    assert (after.state, after.attempt, after.lost_attempts) == (State.QUEUED, 9, 2)
    assert (after.failure, after.history) == (None, [])


def concluded(old: JobState, outcome: Outcome) -> JobState:
    return old.to(outcome.state, **outcome.changes(old))


def attempts(endings: list[Ending], max_attempts: int = 3) -> JobState:
    """Return the state of a job after some attempts; each but the last must queue it again."""
    state = JobState(State.QUEUED)
    for number, ending in enumerate(endings, 1):
        assert state.state is State.QUEUED
        state = state.to(State.RUNNING, attempt=number, reason=None)
        ending = replace(ending, attempt=number)
        state = concluded(state, outcome_of(ending, state, max_attempts))
    return state


SHOT_DEAD = replace(END, returncode=KILLED, failure="")
TIMEOUT = replace(END, returncode=ABORTED, failure="", said=GPU_TIMEOUT)
LEAK = replace(END, returncode=ExitCode.FAILED, failure=RESOURCE_LIMIT)
HUNG = replace(
    END, returncode=KILLED, killed=True, stopped_because=StopReason(FailureClass.HANG, "silent")
)
LATE = replace(
    END, returncode=75, stopped_because=StopReason(FailureClass.TIME_LIMIT, "8 hours are over")
)
FULL = replace(END, returncode=ExitCode.FAILED, failure="The disk is full: x. Free some space.")
DONE = replace(END, summary_state="completed")


def test_a_job_that_is_given_up_tells_how_each_attempt_ended() -> None:
    state = attempts([SHOT_DEAD, replace(END, returncode=99), SHOT_DEAD])
    assert (state.state, state.failure, state.lost_attempts) == (State.FAILED, "killed", 3)
    assert (state.reason or "").endswith(
        "Given up after 3 lost attempts: "
        "1 killed (SIGKILL), 2 crashed (code 99), 3 killed (SIGKILL)."
    )
    assert [(entry["attempt"], entry["class"]) for entry in state.history] == [
        *((1, "killed"), (2, "crashed"), (3, "killed")),
    ]
    assert all("Given up" not in entry["reason"] and entry["at"] for entry in state.history)


def test_other_failures_on_the_way_are_told_too() -> None:
    state = attempts([replace(MEMORY, config=SMALLER), SHOT_DEAD, SHOT_DEAD], max_attempts=2)
    assert (state.state, state.lost_attempts, state.splits) == (State.FAILED, 2, 1)
    assert "2 lost attempts: 1 out of memory, 2 killed (SIGKILL), 3 k" in (state.reason or "")


def test_a_job_that_may_lose_no_attempt_says_so_in_the_singular() -> None:
    assert "after 1 lost attempt: 1 killed (SIGKILL)." in (attempts([SHOT_DEAD], 1).reason or "")


def test_a_state_of_before_has_no_history_to_tell() -> None:
    old = JobState(State.RUNNING, attempt=3, lost_attempts=2)
    last = given_up_or_queued(Failure(FailureClass.CRASHED, 3, "Gone.", "SIGBUS"), old, 3)
    assert last.reason == "Gone. Given up after 3 lost attempts: 3 crashed (SIGBUS)."


@pytest.mark.parametrize(
    ("ending", "kind"), [(TIMEOUT, "gpu_timeout"), (HUNG, "hang"), (LEAK, "resource_limit")]
)
def test_what_passes_costs_nothing_while_the_job_gets_on(ending: Ending, kind: str) -> None:
    state = attempts([replace(ending, progressed=True)] * 9)
    assert (state.state, state.failure, state.lost_attempts) == (State.QUEUED, kind, 0)
    state = attempts([replace(ending, progressed=True), ending, ending])
    assert (state.state, state.lost_attempts) == (State.QUEUED, 2)
    state = attempts([ending, replace(ending, progressed=True), ending, ending])
    assert (state.state, state.lost_attempts) == (State.FAILED, 3)
    assert "Given up after 3 lost attempts: 1 " in (state.reason or "")
    assert attempts([ending], max_attempts=1).state is State.FAILED


def test_many_endings_of_a_kind_are_told_as_one() -> None:
    state = attempts([*[replace(TIMEOUT, progressed=True)] * 9, HUNG, SHOT_DEAD, SHOT_DEAD])
    told = "1 to 9 GPU timeout, 10 hang, 11 killed (SIGKILL), 12 killed (SIGKILL)."
    assert (state.reason or "").endswith(f"Given up after 3 lost attempts: {told}")


def test_what_passes_and_what_does_not_are_lost_together() -> None:
    state = attempts([SHOT_DEAD, TIMEOUT, HUNG])
    assert (state.state, state.failure) == (State.FAILED, "hang")
    assert "1 killed (SIGKILL), 2 GPU timeout, 3 hang." in (state.reason or "")


def test_a_gpu_timeout_says_what_to_do_about_it() -> None:
    assert "let the display sleep" in (attempts([TIMEOUT]).reason or "")


def test_a_hang_says_how_it_was_noticed() -> None:
    assert attempts([HUNG]).reason == "Attempt 1 was stopped: silent."


def test_where_time_is_up_the_job_ends_and_says_how_to_go_on() -> None:
    state = attempts([LATE])
    assert (state.state, state.failure, state.lost_attempts) == (State.FAILED, "time_limit", 0)
    assert "8 hours are over" in (state.reason or "")
    assert "farense retry x --from-checkpoint" in (state.reason or "")


def test_a_full_disk_holds_the_queue_and_costs_the_job_nothing() -> None:
    outcome = outcome_of(FULL, RUNNING, max_attempts=1)
    assert (outcome.state, outcome.lost) == (State.QUEUED, False)
    assert outcome.hold == outcome.reason == "The disk is full: x. Free some space."
    unsaid = replace(FULL, failure="", disk_free=0)
    assert "The disk is full" in (outcome_of(unsaid, RUNNING, 1).hold or "")
    others = [SHOT_DEAD, TIMEOUT, LEAK, HUNG, LATE, MEMORY, DONE]
    assert all(outcome_of(other, RUNNING, 3).hold is None for other in others)


def test_success_leaves_the_history_and_no_failure() -> None:
    state = attempts([SHOT_DEAD, DONE])
    assert (state.state, state.failure, len(state.history)) == (State.COMPLETED, None, 1)


def test_a_stop_is_the_last_ending_and_no_failure() -> None:
    state = attempts([SHOT_DEAD, replace(END, returncode=75, **STOP)])  # type: ignore[arg-type]
    assert (state.state, state.failure, len(state.history)) == (State.QUEUED, None, 1)


def test_the_history_is_short() -> None:
    state = attempts([replace(LEAK, progressed=True)] * (HISTORY_LENGTH + 5))
    assert [entry["attempt"] for entry in state.history] == list(range(6, HISTORY_LENGTH + 6))


def test_a_child_that_could_not_be_started_for_lack_of_files_is_tried_again() -> None:
    reason = "The job's process cannot be started: [Errno 24] Too many open files"
    lost = outcome_of_error("x", ExitCode.FAILED, reason, RUNNING, 3)
    assert (lost.state, lost.lost) == (State.QUEUED, True)
    failed = outcome_of_error("x", ExitCode.FAILED, "No permission to write x.", RUNNING, 3)
    assert (failed.state, failed.reason) == (State.FAILED, "No permission to write x.")


def boots(*found: str | None, max_attempts: int = 9) -> JobState:
    """Return the state of a job whose attempts began in boot "a" and were found dead in these."""
    state = JobState(State.QUEUED)
    for number, boot in enumerate(found, 1):
        state = state.to(State.RUNNING, attempt=number, boot="a")
        state = concluded(state, outcome_of_lost("x", state, boot, max_attempts))
    return state


def test_a_machine_that_went_down_is_told_from_a_daemon_that_did() -> None:
    assert (boots("a").failure, boots(None).failure) == ("killed", "killed")
    rebooted = boots("b")
    assert (rebooted.state, rebooted.failure) == (State.QUEUED, "rebooted")
    assert (rebooted.reason, rebooted.lost_attempts) == (
        *("The machine went down while attempt 1 was running.", 1),
    )
    unknown = outcome_of_lost("x", RUNNING, "b", 3)
    assert unknown.failure is not None
    assert unknown.failure.kind is FailureClass.KILLED


def test_a_job_under_which_the_machine_went_down_twice_rests() -> None:
    state = boots("b", "b")
    assert (state.state, state.failure) == (State.PAUSED, "rebooted")
    assert "twice" in (state.reason or "")
    assert "farense resume x" in (state.reason or "")
    # Rather than giving it up: the user may know that it was the power.
    assert boots("b", "b", max_attempts=2).state is State.PAUSED
    assert boots("b", "a", "b").state is State.QUEUED


def test_two_times_with_a_good_attempt_between_them_are_not_in_a_row() -> None:
    state = boots("b").to(State.RUNNING, attempt=2, boot="a")
    stopped = concluded(state, outcome_of(replace(END, returncode=75, attempt=2), state, 9))
    third = stopped.to(State.RUNNING, attempt=3, boot="a")
    assert outcome_of_lost("x", third, "b", 9).state is State.QUEUED
