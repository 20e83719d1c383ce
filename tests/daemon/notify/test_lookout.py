"""When nothing is left to do, when jobs are held, and when a window has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from daemon.notify.happening import What
from daemon.notify.lookout import Left, Lookout
from daemon.times import Window
from jobs.state import JobState, State

NOTHING = Left(0, 0, 0)
OUTSIDE = "outside the window 22:00-07:00"


class Post:
    """A lookout, its clock and all it asks in the hand of the test."""

    def __init__(self, window: Window | None = None) -> None:
        self.now = 100.0
        self.left: Left | None = NOTHING
        self.asked = 0
        self.told: list[tuple[What, dict[str, Any]]] = []
        self.lookout = Lookout(self.tell, self.ask, 60.0, window, lambda: self.now)

    def tell(self, what: What, subject: str | None = None, **detail: object) -> None:
        assert subject is None
        self.told.append((what, detail))

    def ask(self) -> Left | None:
        self.asked += 1
        return self.left

    def look(self, seconds: float = 1.0, **seen: Any) -> list[What]:
        """Look once a second for some time; return what was told."""
        before = len(self.told)
        for _ in range(round(seconds)):
            self.now += 1
            self.lookout.look(**{"busy": False, "closed": None, "away": False, **seen})
        return [what for what, _ in self.told[before:]]

    def end(self, state: State = State.COMPLETED) -> None:
        self.lookout.job_ended(JobState(state))


@pytest.fixture
def post() -> Post:
    return Post()


def test_an_idle_daemon_says_nothing_and_asks_nothing(post: Post) -> None:
    assert post.look(3600) == []
    assert post.asked == 0


def test_once_all_is_done_it_says_so_once(post: Post) -> None:
    post.end()
    post.end(State.FAILED)
    assert post.look(5, busy=True) == []
    assert post.look(5) == [What.QUEUE_EMPTY]
    assert post.told[0][1]["ended"] == {"completed": 1, "failed": 1}
    assert post.look(3600) == []
    post.end()
    assert post.look(5) == [What.QUEUE_EMPTY]
    assert post.told[1][1]["ended"] == {"completed": 1}


@pytest.mark.parametrize("left", [Left(1, 0, 0), Left(0, 1, 0), None])
def test_not_while_something_is_left_and_it_asks_less_and_less_often(left: Left | None) -> None:
    post = Post()
    post.left = left
    post.end()
    assert post.look(3600) == []
    assert post.asked < 80
    post.left = NOTHING
    assert post.look(70) == [What.QUEUE_EMPTY]


def test_paused_jobs_do_not_keep_it_from_being_empty(post: Post) -> None:
    post.left = Left(0, 0, 2)
    post.end()
    assert post.look(5) == [What.QUEUE_EMPTY]
    assert post.told[0][1]["paused"] == 2


def test_what_was_done_before_anybody_wanted_to_know_is_forgotten(post: Post) -> None:
    post.end()
    post.lookout.forget()
    assert post.look(60) == []


def test_jobs_that_are_held_for_a_while_are_told_of_once(post: Post) -> None:
    post.left = Left(3, 0, 0)
    assert post.look(50, closed=OUTSIDE) == []
    assert post.look(7200, closed=OUTSIDE) == [What.HELD]
    assert post.told[0][1] == {"reason": OUTSIDE, "waiting": 3}


def test_figures_in_a_reason_do_not_make_it_another(post: Post) -> None:
    post.left = Left(3, 0, 0)
    told = [
        post.look(30, closed=f"the disk is full: {megabytes} MB must be free")
        for megabytes in range(60, 70)
    ]
    assert [what for some in told for what in some] == [What.HELD]


def test_what_passes_soon_and_what_nobody_waits_for_is_not_told(post: Post) -> None:
    post.left = Left(1, 0, 0)
    for _ in range(20):
        post.look(30, away=True)
        post.look(5)
    post.left = NOTHING
    post.look(3600, closed=OUTSIDE)
    assert post.told == []


def test_a_rest_of_the_machine_is_no_hold(post: Post) -> None:
    post.left = Left(1, 0, 0)
    assert post.look(3600, closed="resting until 03:12") == []


def test_redis_that_is_away_is_told_though_nobody_can_count(post: Post) -> None:
    post.left = None
    assert post.look(120, away=True, busy=True) == [What.HELD]


def test_the_end_of_a_window_is_told_once_no_job_runs_any_more() -> None:
    post = Post(Window.parse("22:00-07:00"))
    assert post.look(10, closed=OUTSIDE) == []  # it began outside
    assert post.look(10) == []
    assert post.look(10, closed=OUTSIDE, busy=True) == []
    assert post.look(10, closed=OUTSIDE) == [What.WINDOW_ENDED]
    assert post.look(3600, closed=OUTSIDE) == []
    since = datetime.fromisoformat(str(post.told[0][1]["since"])).astimezone()
    assert f"{since:%H:%M}" == "22:00"
