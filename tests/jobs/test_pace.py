"""How long a run still takes, as told from recorded moments: nothing is waited for."""

from __future__ import annotations

import pytest

from jobs.pace import speed, time_left

# A training: the first steps compile kernels for 40 s, then two a second.
TRAINING = [(0.0, 0), (40.0, 4), (42.0, 8), (44.0, 12), (46.0, 16)]
# 160 answers, 16 at a time: the first group takes 118 s, with its kernels, the others 80 s.
ANSWERS = [(0.0, 0), (118.0, 16), (198.0, 32), (278.0, 48)]


@pytest.mark.parametrize("known", [0, 1, 2])
def test_nothing_is_promised_before_there_is_a_speed_without_compiling(known: int) -> None:
    assert speed(TRAINING[:known]) is None
    assert time_left(TRAINING[:known], 1272) is None


def test_what_compiling_took_is_no_part_of_the_speed() -> None:
    assert speed(TRAINING) == 2.0
    assert time_left(TRAINING, 1016) == 500.0


def test_the_first_estimate_of_an_evaluation_is_as_good_as_the_later_ones() -> None:
    assert time_left(ANSWERS[:2], 160) is None
    assert time_left(ANSWERS[:3], 160) == 8 * 80
    assert time_left(ANSWERS, 160) == 7 * 80


def test_while_a_group_is_under_way_the_time_runs_down_to_the_end_of_that_group() -> None:
    assert time_left(ANSWERS, 160, 278.0 + 30) == 7 * 80 - 30
    assert time_left(ANSWERS, 160, 278.0 + 500) == 6 * 80
    assert time_left(ANSWERS, 48, 278.0 + 500) == 0


def test_without_a_step_since_the_beginning_there_is_no_speed() -> None:
    assert speed([(0.0, 5), (1.0, 5), (2.0, 5)]) is None
