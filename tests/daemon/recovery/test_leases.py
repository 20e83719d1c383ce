"""When a lease is over, and what becomes of a job whose machine was lost. Pure."""

from __future__ import annotations

from dataclasses import replace

from daemon.lifecycle.decisions import after_expiry
from daemon.recovery.leases import LeaseWatch
from daemon.store.records import JobRecord
from jobs.state import State

JOB = JobRecord(
    "20261122-210000-v2-abcd",
    "v2",
    State.RUNNING,
    "checkpoints_qlora/20261122-210000-v2-abcd",
    attempt=1,
    home="north:/Users/ana/farense",
    lease_until=1000.0,
    lease_seconds=10.0,
)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_is_over_when_it_has_not_moved_for_as_long_as_it_holds() -> None:
    clock = Clock()
    watch = LeaseWatch(5.0, clock)
    assert watch.expired([JOB]) == []
    clock.now += 10
    assert watch.expired([JOB]) == []
    clock.now += 0.1
    assert watch.expired([JOB]) == [JOB]


def test_a_renewal_another_attempt_and_a_reconnect_begin_anew() -> None:
    clock = Clock()
    watch = LeaseWatch(5.0, clock)
    renewed, next_attempt = replace(JOB, lease_until=1001.0), replace(JOB, attempt=2)
    watch.expired([JOB])
    clock.now += 20
    assert watch.expired([renewed]) == []
    clock.now += 20
    assert watch.expired([replace(next_attempt, lease_until=1001.0)]) == []
    clock.now += 20
    watch.forget()
    assert watch.expired([next_attempt]) == []
    # Not seen for a while, as a job that ended and one that did not run: also anew.
    watch.expired([])
    clock.now += 20
    assert watch.expired([next_attempt]) == []


def test_a_claim_without_a_lease_has_the_default_one() -> None:
    clock = Clock()
    watch = LeaseWatch(5.0, clock)
    bare = replace(JOB, lease_until=None, lease_seconds=None)
    watch.expired([bare])
    clock.now += 5.1
    assert watch.expired([bare]) == [bare]


def test_without_a_checkpoint_the_job_is_queued_again_and_in_the_end_given_up() -> None:
    outcome = after_expiry(JOB, 3)
    assert (outcome.state, outcome.lost_attempts) == (State.QUEUED, 1)
    assert "north, which ran attempt 1" in (outcome.reason or "")
    last = after_expiry(replace(JOB, attempt=3, lost_attempts=2), 3)
    assert (last.state, last.lost_attempts) == (State.FAILED, 3)
    assert "Given up after 3 lost attempts" in (last.reason or "")


def test_what_the_user_asked_of_it_is_done() -> None:
    cancelled = after_expiry(replace(JOB, cancel_requested=True, checkpoint_step=200), 3)
    assert (cancelled.state, cancelled.lost_attempts) == (State.CANCELLED, 0)
    assert after_expiry(replace(JOB, pause_requested=True), 3).state is State.PAUSED


def test_with_a_checkpoint_it_waits_for_its_machine_which_counts_the_attempt_itself() -> None:
    outcome = after_expiry(replace(JOB, checkpoint_step=200, lost_attempts=2), 3)
    assert (outcome.state, outcome.lost_attempts, outcome.failure) == (State.QUEUED, 2, None)
    assert outcome.reason == "waiting for north: its checkpoint is there"
