"""What is looked up of what happened: is it the best, is it a sweep's own to tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daemon.notify.happening import Happening, What
from daemon.notify.kinds import NoticeKind
from daemon.notify.look_up import matter_of, running_job
from daemon.notify.matters import Matter
from jobs.paths import Workspace
from jobs.spec import SweepTrial
from jobs.state import State
from tests.helpers.made_up_night import put

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def job_id(number: int) -> str:
    return f"20261128-1000{number:02}-v2-aaaa"


def ended(
    workspace: Workspace, number: int, best: float, state: State = State.COMPLETED, **values: object
) -> str:
    put(workspace, job_id(number), state, NOON + timedelta(hours=number), best=best, **values)  # type: ignore[arg-type]
    return job_id(number)


def told(workspace: Workspace, job: str, *, wants_best: bool = True) -> Matter | None:
    happening = Happening(What.JOB_ENDED, job, {"state": "completed"})
    return matter_of(workspace, happening, wants_best=wants_best)


def is_best(workspace: Workspace, job: str) -> bool:
    matter = told(workspace, job)
    assert matter is not None
    return NoticeKind.BEST in matter.kinds


def test_the_best_is_lower_than_all_before_it(workspace: Workspace) -> None:
    first, second, third = (ended(workspace, n, loss) for n, loss in enumerate((2.0, 1.5, 1.7)))
    # Each is judged by those that ended before it, whenever it is asked about.
    assert [is_best(workspace, job) for job in (first, second, third)] == [False, True, False]
    matter = told(workspace, second)
    assert matter is not None
    assert matter.data["best"] == {"of": 2, "before": 2.0, "before_job": first}


@pytest.mark.parametrize(
    "other",
    [
        {"data": "another validation set"},
        {"state": State.FAILED},
        {"state": State.CANCELLED},
    ],
)
def test_there_is_no_best_without_one_to_compare_with(
    workspace: Workspace, other: dict[str, object]
) -> None:
    ended(workspace, 0, 2.0, **other)  # type: ignore[arg-type]
    assert not is_best(workspace, ended(workspace, 1, 1.5))


def test_what_has_learned_nothing_is_never_the_best(workspace: Workspace) -> None:
    ended(workspace, 0, 9.0, baseline=10.0)
    assert not is_best(workspace, ended(workspace, 1, 3.5, baseline=3.0))


def test_nobody_asks_for_the_best_where_nobody_wants_it(workspace: Workspace) -> None:
    ended(workspace, 0, 2.0)
    matter = told(workspace, ended(workspace, 1, 1.5), wants_best=False)
    assert matter is not None
    assert matter.kinds == (NoticeKind.FINISHED,)


def test_a_trial_is_its_sweeps_to_tell(workspace: Workspace) -> None:
    trial = SweepTrial("20261128-090000-night-aaaa", 0, 0, {})
    assert told(workspace, ended(workspace, 0, 2.0, sweep=trial)) is None


def test_a_job_that_was_queued_again_meanwhile_is_not_told(workspace: Workspace) -> None:
    put(workspace, job_id(0), State.QUEUED, NOON)
    assert told(workspace, job_id(0)) is None


def test_the_job_that_ran_when_a_daemon_went(workspace: Workspace) -> None:
    ended(workspace, 0, 2.0)
    assert running_job(workspace) is None
    put(workspace, job_id(1), State.RUNNING, NOON)
    assert running_job(workspace) == job_id(1)
