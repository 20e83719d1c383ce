"""When a job that is scheduled, or waits for another, begins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from daemon.client import FarenseClient
from daemon.lifecycle.decisions import begin
from daemon.lifecycle.transitions import Lifecycle
from daemon.lifecycle.waiting import Pending
from daemon.queue.broker import Broker
from daemon.settings import Settings
from jobs.config.config import Preset
from jobs.errors import InvalidInput
from jobs.paths import Workspace
from jobs.state import JobState, State, read_state, write_state
from jobs.storage.files import write_json

NOW = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
LATER, EARLIER = (NOW + timedelta(hours=1)).isoformat(), (NOW - timedelta(hours=1)).isoformat()
OTHER = "20261124-210000-v2-abcd"


@pytest.mark.parametrize(
    ("schedule", "other", "after_any", "expected"),
    [
        (None, None, False, State.QUEUED),
        (LATER, None, False, State.SCHEDULED),
        (EARLIER, None, False, State.QUEUED),
        (None, State.QUEUED, False, State.WAITING),
        (None, State.RUNNING, True, State.WAITING),
        (None, State.PAUSED, False, State.WAITING),
        (None, State.COMPLETED, False, State.QUEUED),
        (None, State.EARLY_STOPPED, False, State.QUEUED),
        (None, State.FAILED, False, State.FAILED),
        (None, State.CANCELLED, False, State.FAILED),
        (None, State.FAILED, True, State.QUEUED),
        (LATER, State.RUNNING, False, State.WAITING),
        (LATER, State.COMPLETED, False, State.SCHEDULED),
        (EARLIER, State.COMPLETED, False, State.QUEUED),
    ],
)
def test_a_job_begins_at_its_time_and_after_its_job(
    schedule: str | None, other: State | None, after_any: bool, expected: State
) -> None:
    after = OTHER if other else None
    state = JobState(State.PAUSED, schedule=schedule, after=after, after_any=after_any)
    begun = begin(state, NOW, other)
    assert begun.state is expected
    assert (begun.reason is None) == (expected is State.QUEUED)
    # Every one of these is a step that the transition table knows.
    if expected is not State.FAILED:
        state.to(begun.state)


@pytest.mark.parametrize(
    ("other", "after_any", "schedule", "expected"),
    [
        (State.COMPLETED, False, None, State.FAILED),
        (State.EARLY_STOPPED, False, LATER, State.FAILED),
        (State.COMPLETED, True, None, State.QUEUED),
        (State.COMPLETED, True, LATER, State.SCHEDULED),
    ],
)
def test_a_job_does_not_follow_one_that_has_not_learned_unless_it_is_to(
    other: State, after_any: bool, schedule: str | None, expected: State
) -> None:
    state = JobState(State.WAITING, after=OTHER, after_any=after_any, schedule=schedule)
    begun = begin(state, NOW, other, "SEM APRENDIZAGEM: best 2.0000 is not below 1.0000")
    assert begun.state is expected
    if expected is State.FAILED:
        assert begun.reason == (
            f"{OTHER}, which it was to follow, has not learned "
            "(SEM APRENDIZAGEM: best 2.0000 is not below 1.0000)"
        )


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ({"baseline_val_loss": 5.38, "best_val_loss": 84.68, "gap_status": "EXCELENTE"}, False),
        ({"baseline_val_loss": 5.38, "best_val_loss": 5.38, "best_gap": 0.0}, False),
        ({"baseline_val_loss": 5.38, "best_val_loss": 5.37, "best_gap": 0.4}, True),
        ({"baseline_val_loss": None, "best_val_loss": 84.68, "best_gap": 0.0}, True),
        ({"baseline_val_loss": 5.38, "best_val_loss": None}, True),
        ({}, True),
    ],
    ids=["told otherwise", "as before", "learned", "of an older farense", "no validation", "empty"],
)
def test_what_waits_for_a_training_looks_at_what_it_came_to(
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    summary: dict[str, Any],
    expected: bool,
) -> None:
    first = client.enqueue(preset)
    after, anyway = (client.enqueue(preset, after=first.id, after_any=any) for any in (False, True))
    broker = Broker(workspace, Settings())
    pending = Pending(Lifecycle(workspace, broker))
    for job in (after, anyway):
        assert job.state is State.WAITING
        pending.add(job.id)
    run = workspace.run(first.id)
    write_json(run.summary, {"state": "completed", **summary})
    ended = replace(read_state(run), state=State.COMPLETED, attempt=1)
    write_state(run, ended)
    pending.tick(clock=lambda: 1e9)
    broker.close()
    assert read_state(workspace.run(anyway.id)).state is State.QUEUED
    found = read_state(workspace.run(after.id))
    assert found.state is (State.QUEUED if expected else State.FAILED)
    if not expected:
        assert "has not learned (SEM APRENDIZAGEM: best" in (found.reason or "")
        assert f"farense retry {after.id}" in (found.reason or "")
        with pytest.raises(InvalidInput, match="has not learned") as refused:
            client.enqueue(preset, after=first.id)
        assert "--after-any" in (refused.value.hint or "")


def test_a_job_whose_other_job_is_gone_says_so() -> None:
    begun = begin(JobState(State.WAITING, after=OTHER), NOW, None)
    assert begun.state is State.FAILED
    assert OTHER in (begun.reason or "")


def test_a_job_is_moved_whatever_its_files_said_before(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    first, second, third = client.enqueue_many([preset] * 3)
    for job, after in ((second, first.id), (third, "../../elsewhere")):
        waits = replace(read_state(workspace.run(job.id)), state=State.WAITING, after=after)
        write_state(workspace.run(job.id), waits)
    broker = Broker(workspace, Settings())
    pending = Pending(Lifecycle(workspace, broker))
    for job in (first, second, third):
        pending.add(job.id)

    def states_after_a_look() -> list[State]:
        pending.tick(clock=lambda: 1e9 + next(ticks))
        return [read_state(workspace.run(job.id)).state for job in (second, third)]

    ticks = count()
    assert states_after_a_look() == [State.WAITING, State.FAILED]
    assert states_after_a_look() == [State.WAITING, State.FAILED]
    client.cancel(first.id)
    assert states_after_a_look() == [State.FAILED, State.FAILED]
    assert "is cancelled" in (read_state(workspace.run(second.id)).reason or "")
    broker.close()
