from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from jobs.errors import JobFailed
from jobs.paths import RunDirectory
from jobs.state import FINISHED, TRANSITIONS, JobState, State, read_state, write_state


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_a_transition_is_made_or_refused_as_the_table_says(source: State, target: State) -> None:
    state = JobState(source, attempt=1)
    if target in TRANSITIONS[source]:
        assert state.to(target).state is target
    else:
        with pytest.raises(JobFailed, match=f"{source} cannot become {target}"):
            state.to(target)


def test_a_finished_job_stays_so() -> None:
    assert all(not TRANSITIONS[state] for state in FINISHED)


def test_every_unfinished_job_can_be_cancelled() -> None:
    assert all(State.CANCELLED in TRANSITIONS[state] for state in State if state not in FINISHED)


def test_state_survives_the_disk(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    state = JobState(State.QUEUED, attempt=2, priority=5, after="x").to(State.RUNNING)
    write_state(run, state)
    assert read_state(run) == state


def test_a_state_of_an_older_farense_still_loads(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.state.write_text('{"version": 1, "state": "queued", "attempt": 2, "lost_attempts": 1}')
    state = read_state(run)
    assert (state.attempt, state.failure, state.history, state.boot) == (2, None, [], None)


def test_a_job_that_ended_well_did_not_fail() -> None:
    running = JobState(State.RUNNING, attempt=2, failure="killed", history=[{"class": "killed"}])
    assert running.to(State.COMPLETED).failure is None
    assert running.to(State.COMPLETED).history == running.history
    assert running.to(State.QUEUED).failure == "killed"


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"state": "asleep"}', '{"state": "queued", "x": 1}'),
        '{"state": "queued", "history": null}',
        '{"state": "queued", "history": ["killed"]}',
        '{"state": "queued", "failure": 3}',
        '{"state": "queued", "attempt": -5}',
        '{"state": "queued", "lost_attempts": -1}',
        '{"state": "queued", "splits": -1}',
        '{"state": "queued", "attempt": 99999999999}',
        '{"state": "queued", "boot": []}',
    ],
)
def test_a_damaged_state_file_is_named(tmp_path: Path, content: str) -> None:
    run = RunDirectory(tmp_path)
    run.state.write_text(content)
    with pytest.raises(JobFailed, match=r"state\.json is missing or damaged"):
        read_state(run)


NINE, TEN, ELEVEN = (f"2026-11-22T{hour}:00:00.000+00:00" for hour in ("09", "10", "11"))
RAN = JobState(State.RUNNING, 2, started_at=NINE, attempt_started_at=TEN, ran_seconds=60.0)


def test_the_duration_is_what_the_attempts_ran() -> None:
    assert RAN.ran_until(ELEVEN) == 3660.0
    paused = RAN.to(State.PAUSED, ended_at=ELEVEN)
    assert paused.ran_seconds == paused.ran_until("2027-01-01T00:00:00+00:00") == 3660.0
    again = paused.to(State.QUEUED).to(State.RUNNING, attempt=3)
    assert (again.started_at, again.ran_seconds) == (NINE, 3660.0)
    assert again.attempt_started_at == again.updated_at


def test_a_job_ends_when_its_attempt_did_and_not_when_somebody_found_out() -> None:
    assert RAN.to(State.COMPLETED, ended_at=ELEVEN).updated_at == ELEVEN
    # What is from another attempt, or from a clock that was wrong, tells nothing.
    for moment in (NINE, TEN, "3000-01-01T00:00:00+00:00", "yesterday", None):
        ended = RAN.to(State.COMPLETED, ended_at=moment)
        assert ended.updated_at > ELEVEN
        assert ended.ran_seconds == RAN.ran_until(ended.updated_at)


def test_of_a_job_that_an_older_farense_began_the_duration_is_not_known() -> None:
    old = JobState(State.RUNNING, attempt=2)
    assert old.to(State.QUEUED).ran_seconds is None
    again = old.to(State.QUEUED).to(State.RUNNING, attempt=3)
    assert again.ran_until(ELEVEN) is None
