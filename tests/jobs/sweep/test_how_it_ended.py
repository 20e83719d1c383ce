"""How a sweep has ended."""

from __future__ import annotations

import pytest

from jobs.state import State
from jobs.sweep.trial import Trial, outcome, without_a_value


def trials(letters: str) -> list[Trial]:
    kinds = {"c": State.COMPLETED, "f": State.FAILED}
    return [
        Trial(n, {}, state=kinds[letter], jobs=["j"], reason=f"reason {n}", ended_at=f"{n}")
        for n, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("letters", "most", "give_up_after", "exhausted", "expected"),
    [
        ("ccc", 3, 3, False, (State.COMPLETED, "all 3 trials have ended")),
        ("cfc", 3, 3, True, (State.COMPLETED, "all 3 trials have ended")),
        ("cc", 3, 3, True, (State.COMPLETED, "no other trial was left to be tried")),
        ("cc", None, 3, False, (State.COMPLETED, "its time was up")),
        ("cc", 3, 3, False, (State.COMPLETED, "its time was up")),
        ("cff", 3, 2, False, (State.FAILED, "2 trials in a row failed, the last: reason 2")),
        ("cf", 9, 1, False, (State.FAILED, "a trial failed, the last: reason 1")),
    ],
)
def test_the_outcome(
    letters: str, most: int | None, give_up_after: int, exhausted: bool, expected: object
) -> None:
    assert outcome(trials(letters), most, give_up_after, exhausted=exhausted) == expected


def test_without_a_value_the_last_reason_is_said() -> None:
    assert without_a_value([]) == "its time was up before a trial was started"
    assert without_a_value(trials("ff")) == "no trial had a result: reason 1"
