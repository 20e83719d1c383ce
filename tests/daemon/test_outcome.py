"""Exit codes, signals and wishes, translated into the state of the job."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from daemon.outcome import Ending, given_up_or_queued, outcome_of
from jobs.errors import ExitCode
from jobs.state import TRANSITIONS, JobState, State

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


def test_a_job_is_given_up_after_the_last_lost_attempt() -> None:
    assert given_up_or_queued("Gone.", 1, 3).state is State.QUEUED
    last = given_up_or_queued("Gone.", 2, 3)
    assert (last.state, last.reason) == (State.FAILED, "Gone. Given up after 3 lost attempts.")


def test_stops_do_not_count_as_lost_attempts() -> None:
    stopped = outcome_of(replace(END, returncode=ExitCode.STOPPED), 2, 3)
    state = JobState(State.RUNNING, attempt=9, lost_attempts=2)
    after = state.to(stopped.state, **stopped.changes(state))
    assert (after.state, after.attempt, after.lost_attempts) == (State.QUEUED, 9, 2)
