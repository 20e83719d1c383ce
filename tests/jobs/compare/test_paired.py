"""The paired bootstrap, beside what theory says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from jobs.compare.changed import MOST, changed_most
from jobs.compare.paired import paired_difference, pairs_of, two_sided_p, unpaired_difference


def answer(question: str, token_f1: float, reference: str = "0-3", **more: Any) -> dict[str, Any]:
    scores = {"token_f1": token_f1, "exact_match": 0.0, "rouge_l": token_f1, "chrf": token_f1}
    return {"question": question, "reference": reference, "answer": f"{token_f1}", **scores, **more}


def test_answers_are_paired_by_what_was_asked() -> None:
    a = [answer("um", 0.1), answer("dois", 0.2), answer("um", 0.3), answer("só A", 0.4)]
    b = [answer("um", 0.6), answer("só B", 0.7), answer("um", 0.8), answer("dois", 0.9)]
    pairs = [(one["token_f1"], other["token_f1"]) for one, other in pairs_of(a, b)]
    assert pairs == [(0.1, 0.6), (0.2, 0.9), (0.3, 0.8)]
    assert pairs_of([answer("um", 0.1, "0-3")], [answer("um", 0.1, "0-4")]) == []


def test_an_answer_without_its_scores_is_left_out_and_moves_no_other() -> None:
    a = [answer("um", 0.1, chrf=None), answer("um", 0.3), {"question": 3}]
    b = [answer("um", 0.6), answer("um", 0.8), {}]
    assert [(x["token_f1"], y["token_f1"]) for x, y in pairs_of(a, b)] == [(0.3, 0.8)]


def test_interval_and_p_are_those_of_the_normal_distribution_where_there_is_much() -> None:
    numbers = np.random.default_rng(1)
    before = numbers.uniform(0, 0.8, 400)
    change = numbers.normal(0.012, 0.1, 400)
    pairs = [(answer("a", x), answer("b", x + d)) for x, d in zip(before, change, strict=True)]
    found = paired_difference(pairs, "token_f1")
    error = change.std() / math.sqrt(400)
    assert found.difference == pytest.approx(change.mean())
    assert found.low == pytest.approx(change.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(change.mean() + 1.96 * error, abs=0.2 * error)
    expected = math.erfc(abs(change.mean()) / error / math.sqrt(2))
    assert found.p == pytest.approx(expected, abs=0.02)
    assert found.pairs == 400


def test_where_there_is_no_difference_one_in_twenty_is_taken_for_one() -> None:
    numbers = np.random.default_rng(2)
    found = [two_sided_p(list(numbers.normal(0, 1, 40))) for _ in range(300)]
    assert 0.03 <= np.mean(np.array(found) < 0.05) <= 0.09


def test_the_other_way_round_everything_is_turned_round() -> None:
    pairs = [(answer("a", x / 10), answer("a", (x * 7 % 10) / 10)) for x in range(10)]
    there = paired_difference(pairs, "token_f1")
    back = paired_difference([(b, a) for a, b in pairs], "token_f1")
    assert there.low is not None
    assert back.low is not None
    assert (back.a, back.b) == (there.b, there.a)
    assert back.low == pytest.approx(-(there.high or 0))
    assert back.high == pytest.approx(-there.low)
    assert back.p == there.p
    assert paired_difference(pairs, "token_f1") == there


def test_a_difference_of_nothing_and_one_without_spread() -> None:
    assert two_sided_p([0.0] * 8) == 1.0
    assert two_sided_p([0.1, -0.1] * 4) == 1.0
    assert two_sided_p([0.1] * 8) == pytest.approx(1 / 2001)


def test_what_cannot_be_paired_has_means_alone() -> None:
    found = unpaired_difference({"chrf": 0.5}, {"chrf": 0.75}, "chrf")
    assert (found.difference, found.low, found.p) == (0.25, None, None)
    assert unpaired_difference({}, {"chrf": 0.75}, "chrf").difference is None


def test_the_answers_that_changed_most_in_both_directions() -> None:
    changes = [0.0, 0.5, -0.2, 0.1, -0.6, *[0.05] * 12]
    pairs = [(answer(f"{n}", 0.6), answer(f"{n}", 0.6 + c)) for n, c in enumerate(changes)]
    better, worse = changed_most(pairs)
    assert [row.question for row in better[:3]] == ["1", "3", "5"]
    assert len(better) == MOST
    assert [row.question for row in worse] == ["4", "2"]
    assert (worse[0].answer_a, worse[0].answer_b) == ("0.6", "0.0")
    assert worse[0].change == pytest.approx(-0.6)
