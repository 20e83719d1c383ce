"""What is decided for a job after a crash, from what is on disk and what Redis says."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from daemon.lifecycle.decisions import Decision, decide
from daemon.runs.snapshot import JobSnapshot, Where
from daemon.store.records import JobRecord
from jobs.state import FINISHED, TRANSITIONS, JobState, State

JOB = "20261122-210000-v2-abcd"


def facts(
    state: JobState, record: JobState | None, *, alive: bool = False, message: bool = False
) -> JobSnapshot:
    found = None
    if record is not None:
        found = JobRecord(
            JOB, "v2", record.state, f"checkpoints_qlora/{JOB}", attempt=record.attempt
        )
    return JobSnapshot(JOB, state, found, alive=alive, message=message)


QUEUED, RUNNING = JobState(State.QUEUED), JobState(State.RUNNING, 1)


def test_what_agrees_is_left_alone() -> None:
    for state in State:
        if state is not State.RUNNING:
            agreed = JobState(state, 1)
            assert decide(facts(agreed, agreed, message=True), 3) == Decision()


def test_a_queued_job_without_a_message_is_pushed_again() -> None:
    assert decide(facts(QUEUED, QUEUED), 3) == Decision(push=True)


def test_a_job_that_redis_forgot_is_told_again() -> None:
    assert decide(facts(QUEUED, None), 3) == Decision(publish=True, push=True)
    done = JobState(State.COMPLETED, 1)
    assert decide(facts(done, None), 3) == Decision(publish=True)


def test_the_file_is_the_truth() -> None:
    done = JobState(State.COMPLETED, 1)
    assert decide(facts(done, RUNNING), 3) == Decision(publish=True)
    waiting = JobState(State.QUEUED, 1)
    assert decide(facts(waiting, RUNNING), 3) == Decision(publish=True, push=True)


def test_a_cancel_from_another_machine_is_taken_over() -> None:
    decision = decide(facts(QUEUED, JobState(State.CANCELLED), message=True), 3)
    assert decision.state is not None
    assert decision.state.state is State.CANCELLED
    assert not decision.push
    assert not decision.publish


def test_a_running_job_without_a_process_is_queued_again() -> None:
    decision = decide(facts(RUNNING, RUNNING), 3)
    assert decision.state is not None
    assert (decision.state.state, decision.state.lost_attempts) == (State.QUEUED, 1)
    assert "attempt 1 is gone" in (decision.state.reason or "")
    assert decision.push
    assert decision.publish


@pytest.mark.parametrize("end", [State.CANCELLED, State.FAILED, State.PAUSED])
def test_a_job_that_other_machines_took_for_lost_stays_as_they_left_it(end: State) -> None:
    seen = facts(RUNNING, JobState(end, 1))
    assert seen.record is not None
    decision = decide(replace(seen, record=replace(seen.record, reason="lost")), 3)
    assert decision.state is not None
    assert (decision.state.state, decision.state.reason) == (end, "lost")
    assert not decision.push


def test_a_copy_of_a_job_that_another_workspace_has_follows_its_record() -> None:
    here = replace(facts(QUEUED, JobState(State.RUNNING, 1)), where=Where.ELSEWHERE)
    assert here.record is not None
    there = replace(here.record, home="south:/farense", attempt=1)
    decision = decide(replace(here, record=there), 3)
    assert decision.state is not None
    followed = (decision.state.state, decision.state.attempt, decision.state.home)
    assert followed == (State.RUNNING, 1, "south:/farense")
    assert not (decision.push or decision.publish)
    assert decide(replace(here, state=decision.state, record=there), 3) == Decision()
    # Its child, where it still runs here, comes to its end first.
    assert decide(replace(here, record=there, alive=True), 3) == Decision(wait=True)
    # Of a record that is lost, the machine that has the job knows more.
    forgotten = decide(replace(here, state=decision.state, record=None), 3)
    assert forgotten == Decision(publish=True)


def test_a_job_that_ended_unseen_is_not_run_again() -> None:
    for summary in ("completed", "early_stopped"):
        decision = decide(replace(facts(RUNNING, RUNNING), summary=summary), 3)
        assert decision.state is not None
        assert decision.state.state == summary
        assert not decision.push
    pruned = replace(facts(RUNNING, RUNNING), summary="early_stopped", pruned_by="median")
    state = decide(pruned, 3).state
    assert state is not None
    assert state.reason == "pruned by median"
    failed = decide(replace(facts(RUNNING, RUNNING), summary="failed"), 3)
    assert failed.push


def test_it_is_given_up_after_the_last_lost_attempt() -> None:
    decision = decide(facts(replace(RUNNING, lost_attempts=2), RUNNING), 3)
    assert decision.state is not None
    assert decision.state.state is State.FAILED
    assert not decision.push


def test_a_job_under_which_the_machine_went_down_twice_is_not_started_again() -> None:
    state = replace(RUNNING, boot="a")
    for number, expected in ((1, State.QUEUED), (2, State.PAUSED)):
        state = replace(state, state=State.RUNNING, attempt=number)
        decision = decide(replace(facts(state, state), boot="b"), 9)
        assert decision.state is not None
        state = decision.state
        assert (state.state, state.failure) == (expected, "rebooted")
        assert decision.push == (expected is State.QUEUED)
        assert decision.publish
    assert decide(replace(facts(state, state), boot="b"), 9) == Decision()


def test_a_job_that_ended_as_the_machine_went_down_has_ended() -> None:
    state = replace(RUNNING, boot="a", failure="killed")
    found = replace(facts(state, state), boot="b", summary="completed")
    decision = decide(found, 3)
    assert decision.state is not None
    assert (decision.state.state, decision.state.failure) == (State.COMPLETED, None)


def test_a_running_job_with_a_process_is_waited_for() -> None:
    assert decide(facts(RUNNING, RUNNING, alive=True), 3) == Decision(wait=True)


def test_a_wish_to_cancel_outlives_the_worker() -> None:
    asked = facts(RUNNING, RUNNING)
    assert asked.record is not None
    asked = replace(asked, record=replace(asked.record, cancel_requested=True))
    decision = decide(asked, 3)
    assert decision.state is not None
    assert decision.state.state is State.CANCELLED


@pytest.mark.parametrize("state", list(State))
def test_whatever_redis_says_the_decision_is_allowed_and_final(state: State) -> None:
    for other, attempt, alive, message in product(
        [*State, None], (0, 1), (False, True), (False, True)
    ):
        record = JobState(other, attempt) if other is not None else None
        stands = JobState(state, 1)
        found = facts(stands, record, alive=alive, message=message)
        decision = decide(found, 3)
        after = decision.state or stands
        if decision.state is not None:
            assert after.state in TRANSITIONS[state]
        if state in FINISHED:
            assert decision.state is None
            assert not decision.push
        if decision.push:
            assert after.state is State.QUEUED
        # Once carried out, there is nothing more to do.
        if not decision.wait:
            assert decide(facts(after, after, message=True), 3) == Decision()
