"""What becomes of jobs whose children behave, and misbehave: one daemon works through them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State, read_state
from tests.daemon.conftest import fill
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons, alive


@dataclass(frozen=True)
class Queue:
    """A workspace with a daemon that gives its children half a second to stop."""

    workspace: Workspace
    client: FarenseClient
    preset: Preset

    def enqueue(self, behaviour: str, priority: int = 0) -> JobRecord:
        return self.client.enqueue(self.preset, name=behaviour, priority=priority)


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Queue]:
    workspace = Workspace(tmp_path_factory.mktemp("queue"))
    preset = fill(workspace, tiny_model)
    daemons = Daemons(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FARENSE_REDIS_URL", raising=False)
        daemons.start("as_named", grace_seconds=0.5)
        with FarenseClient.connect(workspace) as client:
            yield Queue(workspace, client, preset)
        daemons.close()


def test_early_stopping_is_a_state_of_its_own(queue: Queue) -> None:
    queued = queue.enqueue("early")
    assert ended(queue.client, queued.id).state is State.EARLY_STOPPED


def test_jobs_run_one_after_another_the_urgent_first(queue: Queue) -> None:
    # While one runs, the others wait.
    first = queue.enqueue("endless")
    running(queue.client, first.id)
    low, high, low_too = (queue.enqueue("good", level).id for level in (0, 5, 0))
    queue.client.cancel(first.id)
    records = sorted(
        (ended(queue.client, job_id) for job_id in (low, high, low_too)),
        key=lambda record: record.started_at or "",
    )
    assert [record.id for record in records] == [high, low, low_too]
    for before, after in pairwise(records):
        assert (before.finished_at or "") <= (after.started_at or "")


def test_a_running_job_is_cancelled_with_a_checkpoint(queue: Queue) -> None:
    queued = queue.enqueue("endless")
    running(queue.client, queued.id)
    assert queue.client.cancel(queued.id).cancel_requested
    record = ended(queue.client, queued.id)
    assert (record.state, record.reason) == (State.CANCELLED, "cancelled by the user")
    assert read_state(queue.workspace.run(queued.id)).state is State.CANCELLED
    assert [e.event.kind for e in queue.client.follow(queued.id)][-1] == "checkpoint_saved"


def test_a_child_that_ignores_the_request_is_killed(queue: Queue) -> None:
    queued = queue.enqueue("stubborn")
    pid = running(queue.client, queued.id).pid
    queue.client.cancel(queued.id)
    record = ended(queue.client, queued.id)
    assert record.state is State.CANCELLED
    assert record.reason is not None
    assert "was killed" in record.reason
    assert pid is not None
    assert not alive(pid)


def test_a_killed_child_is_resumed_in_a_second_attempt(queue: Queue) -> None:
    queued = queue.enqueue("killed_once")
    record = ended(queue.client, queued.id)
    assert (record.state, record.attempt, record.reason) == (State.COMPLETED, 2, None)
    started = [e for e in queue.client.follow(queued.id) if e.event.kind == "started"]
    assert [(e.attempt, getattr(e.event, "resumed_step", None)) for e in started] == [
        (1, 0),
        (2, 5),
    ]


def test_a_child_that_is_always_killed_is_given_up(queue: Queue) -> None:
    queued = queue.enqueue("killed_always")
    record = ended(queue.client, queued.id)
    assert (record.state, record.attempt) == (State.FAILED, 3)
    assert record.reason is not None
    assert "SIGKILL" in record.reason
    assert f"logs/jobs/{queued.id}.stderr" in record.reason
    assert read_state(queue.workspace.run(queued.id)).reason == record.reason


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("failing", "the data are no good"),
        ("diverging", "the loss became NaN at step 3"),
        ("silent", "metal::error"),
        ("empty", "training_summary.json"),
    ],
)
def test_a_failed_job_says_why(behaviour: str, reason: str, queue: Queue) -> None:
    queued = queue.enqueue(behaviour)
    record = ended(queue.client, queued.id)
    assert (record.state, record.attempt) == (State.FAILED, 1)
    assert reason in (record.reason or "")


def test_garbage_in_the_log_is_passed_over(queue: Queue) -> None:
    queued = queue.enqueue("garbage")
    record = ended(queue.client, queued.id)
    assert (record.state, record.attempt, record.step) == (State.COMPLETED, 2, 20)
    assert [e.attempt for e in queue.client.follow(queued.id) if e.event.kind == "started"] == [
        1,
        2,
    ]
