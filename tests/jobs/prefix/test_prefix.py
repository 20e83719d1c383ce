"""The states below the adapted blocks are the same bits, whoever asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jobs.backend.mlx import mx
from jobs.caches import PREFIX_STATES, TABLE
from jobs.data.tokenize import TokenizedExample
from jobs.model.base_model import BaseModel
from jobs.prefix import prefix as module
from jobs.prefix.cache import PrefixCache
from jobs.prefix.prefix import Prefix, PrefixStates
from jobs.prefix.states_cache import StatesCache
from tests.helpers.engines import examples, lanes, settings

ROWS = examples(20)
WIDTH = 64


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModel:
    return BaseModel(tiny_model, settings())


def prefix_of(base: BaseModel, lanes_count: int = 2) -> Prefix:
    assert base.language.prefix is not None
    return Prefix(base.language.prefix, base.load_below, lanes(lanes_count))


def padded(states: PrefixStates, rows: Sequence[int], width: int = WIDTH) -> np.ndarray:
    return np.array(states.padded(rows, width))


def test_an_example_has_the_same_states_alone_and_in_any_batch(base: BaseModel) -> None:
    states = PrefixStates(prefix_of(base), ROWS, print)
    alone = [padded(states, [row]) for row in range(len(ROWS))]
    for batch in ([0, 1], [1, 0], [7, 3, 19, 5, 11], list(range(20))):
        together = padded(states, batch, width=WIDTH + 32)
        for place, row in enumerate(batch):
            assert (together[place, :WIDTH] == alone[row][0]).all()
            assert not together[place, len(ROWS[row].tokens) - 1 :].any()


def test_they_are_the_same_however_many_are_started_together(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = prefix_of(base)
    together = prefix.states(ROWS)
    for tokens in (1, 3 * WIDTH):
        monkeypatch.setattr(module, "STARTED_TOKENS", tokens)
        found = prefix.states(ROWS)
        assert all((a == b).all() for a, b in zip(found, together, strict=True))


def test_the_states_are_those_of_the_whole_model(base: BaseModel) -> None:
    assert base.language.prefix is not None
    whole = np.array(base.language.prefix(mx.array([ROWS[0].tokens[:-1]])))
    states = padded(PrefixStates(prefix_of(base), ROWS, print), [0])
    assert states[:, : whole.shape[1]] == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_they_come_from_the_cache_as_they_went_in(tmp_path: Path, dtype: mx.Dtype) -> None:
    """Whatever the type of numbers the model computes with."""

    def embed(ids: mx.array) -> mx.array:
        return mx.cos(ids[..., None] * mx.arange(1, 9)).astype(dtype)

    prefix = Prefix(embed, lambda: None, lanes(2))
    fresh, kept = PrefixStates(prefix, ROWS, print), PrefixStates(prefix, ROWS, print)
    inputs = dict.fromkeys(set(TABLE[PREFIX_STATES].inputs) - {"layout", "tokens", "code"}, "")
    cache = StatesCache(prefix, PrefixCache(tmp_path / "cache"), inputs, {}, lambda event: None)
    used = list(range(1, 20, 2))
    cache.add("train.jsonl", kept, used)
    cache.fill(lambda: None)
    assert cache.is_whole
    rows = used[::-1]
    expected, found = fresh.padded(rows, WIDTH), kept.padded(rows, WIDTH)
    assert found.dtype == dtype
    assert bool(mx.array_equal(expected, found))


def test_examples_shorter_than_a_bucket_and_at_its_edge(base: BaseModel) -> None:
    rows = tuple(TokenizedExample(tuple(range(3, 3 + n)), 1) for n in (2, 16, 17, 18, 33))
    states = PrefixStates(prefix_of(base, 1), rows, print)
    assert [len(found) for found in states._read(range(5))] == [1, 15, 16, 17, 32]
