"""Answers in batches: the same as one at a time, ended where they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.agreement import gap_where_they_part
from jobs.backend.mlx import nn
from jobs.evaluation.generation import Generated, generate, groups
from jobs.model.load import load_base, load_tokenizer
from tests.helpers.runs import questions

Prompts = list[list[int]]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> nn.Module:
    module, _ = load_base(tiny_model)
    module.eval()
    return module


@pytest.fixture(scope="module")
def prompts(tiny_model: Path) -> Prompts:
    tokenizer = load_tokenizer(tiny_model)
    texts = [row["prompt"] * (1 + number % 3) for number, row in enumerate(questions(7))]
    return [tokenizer.encode(text) for text in texts]


def answers(
    model: nn.Module, prompts: Prompts, ends: set[int], limit: int = 12
) -> dict[int, Generated]:
    return dict(generate(model, prompts, ends, limit, lambda: True))


def test_a_batch_answers_as_one_at_a_time_does(model: nn.Module, prompts: Prompts) -> None:
    together = answers(model, prompts, {2}, 24)
    assert sorted(together) == list(range(len(prompts)))
    for number, prompt in enumerate(prompts):
        alone = answers(model, [prompt], {2}, 24)[0]
        gap = gap_where_they_part(model, prompt, alone.tokens, together[number].tokens)
        assert gap is None or gap < 1e-3


def test_an_answer_ends_before_its_end_token_and_at_the_limit(
    model: nn.Module, prompts: Prompts
) -> None:
    whole = answers(model, prompts, set())
    assert all(len(found.tokens) == 12 and found.cut for found in whole.values())
    end = whole[0].tokens[3]
    for number, found in answers(model, prompts, {end}).items():
        before = whole[number].tokens
        place = before.index(end) if end in before else None
        assert found == Generated(before[:place], cut=place is None)


def test_it_can_be_stopped_after_any_step(model: nn.Module, prompts: Prompts) -> None:
    steps = iter((True, True, False))
    assert dict(generate(model, prompts, set(), 12, lambda: next(steps))) == {}


def test_groups_hold_every_prompt_once_with_others_of_its_length() -> None:
    lengths = [3, 9, 4, 9, 1, 8]
    dealt = groups([[0] * length for length in lengths], 2)
    assert [[lengths[number] for number in group] for group in dealt] == [[9, 9], [8, 4], [3, 1]]
    assert sorted(number for group in dealt for number in group) == list(range(6))
