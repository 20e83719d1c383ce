"""Answers on their way to disk: kept by the next attempt, if they were given under the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.evaluation.answers import ADAPTER, BASE, Answer, Answers

UNDER = {"adapter": "abc", "versions": {"mlx": "1"}}
FIRST = Answer(ADAPTER, 0, "Não, por 0-3.", False)


def test_the_next_attempt_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Answers(path, UNDER).add(FIRST)
    again = Answers(path, UNDER)
    assert len(again) == 1
    assert again.of(ADAPTER, 0) == FIRST
    assert not again.has(BASE, 0)


def test_an_answer_stays_when_the_question_is_answered_once_more(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl", UNDER)
    answers.add(FIRST)
    answers.add(Answer(ADAPTER, 0, "Sim.", True))
    assert Answers(tmp_path / "answers.jsonl", UNDER).of(ADAPTER, 0) == FIRST


@pytest.mark.parametrize(
    "torn", [b'{"by": "base", "question": 1, "te', b"\x00\xff", b'{"by": "base"}\n', b"[1]\n"]
)
def test_a_torn_line_costs_its_answer_alone(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "answers.jsonl"
    Answers(path, UNDER).add(FIRST)
    with path.open("ab") as file:
        file.write(torn)
    answers = Answers(path, UNDER)
    answers.add(Answer(BASE, 1, "Sim.", False))
    again = Answers(path, UNDER)
    assert len(again) == 2
    assert again.of(BASE, 1).text == "Sim."


@pytest.mark.parametrize("other", [{**UNDER, "adapter": "abd"}, {}])
def test_under_other_circumstances_all_are_given_anew(
    tmp_path: Path, other: dict[str, str]
) -> None:
    path = tmp_path / "answers.jsonl"
    Answers(path, UNDER).add(FIRST)
    assert len(Answers(path, other)) == 0
    assert len(Answers(path, UNDER)) == 0


def test_a_file_that_was_never_begun_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"adap')
    answers = Answers(path, UNDER)
    answers.add(FIRST)
    assert len(Answers(path, UNDER)) == 1
