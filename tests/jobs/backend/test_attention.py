"""Attention by blocks against the whole of it in float64, and the memory that it takes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.families import make_folder
from jobs.backend import attention, mlx, windows
from jobs.backend import cpu_ops as cpu
from jobs.backend.attention import Block
from jobs.backend.dequantize import dequantize_model
from jobs.backend.mlx import base, mx

RANDOM = np.random.default_rng(5)
SCALE = 0.3
Mask = mx.array | str | None


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make many blocks of little, of one key head each."""
    monkeypatch.setattr(attention, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(attention, "MOST", 64)


def normal(*shape: int) -> mx.array:
    return mx.array(RANDOM.normal(0, 1, shape).astype(np.float32))


def whole(
    q: mx.array, k: mx.array, v: mx.array, mask: Mask, sinks: mx.array | None = None
) -> mx.array:
    """Attention with all its weights, in the type of the arrays."""
    heads, length, span = q.shape[1], q.shape[2], k.shape[2]
    k, v = (mx.repeat(x, heads // x.shape[1], axis=1) for x in (k, v))
    scores = (q * SCALE) @ k.swapaxes(-1, -2)
    if isinstance(mask, str):
        mask = mx.arange(span)[None] <= mx.arange(span - length, span)[:, None]
    if mask is not None and mask.dtype == mx.bool_:
        scores = mx.where(mask, scores, attention.HIDDEN)
    elif mask is not None:
        scores = scores + mask
    if sinks is not None:
        sinks = mx.broadcast_to(sinks[:, None, None], (*scores.shape[:3], 1))
        scores = mx.concatenate([scores, sinks], axis=-1)
    return mx.softmax(scores, axis=-1)[..., :span] @ v


def both(
    function: Callable[..., mx.array], arrays: list[mx.array], cotangent: mx.array
) -> list[np.ndarray]:
    """The output of a function and its gradients."""
    outputs, gradients = mx.vjp(function, arrays, [cotangent])
    return [np.array(x) for x in (*outputs, *gradients)]


def off(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest number of each array."""
    pairs = zip(found, expected, strict=True)
    return float(max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs))


def padded(length: int) -> mx.array:
    """The mask of two rows, of which the second begins later: its first queries see nothing."""
    before = mx.array([0, 40])[:, None, None, None]
    seen = mx.arange(length)
    return (seen[None] <= seen[:, None]) & (seen >= before)


MASKS: dict[str, Callable[[int, int], Mask]] = {
    "none": lambda *_: None,
    "causal": lambda *_: "causal",
    "boolean": lambda n, s: mx.arange(s)[None] <= mx.arange(s - n, s)[:, None],
    "window": lambda n, _: windows.create_attention_mask(mx.zeros((1, n)), window_size=50),
    "padded": lambda n, _: padded(n),
    "of keys": lambda _, s: mx.arange(s) < mx.array([s, s - 30])[:, None, None, None],
    "additive": normal,
    "additive, by head": lambda n, s: normal(2, 6, n, s),
    "additive, of keys": lambda _, s: normal(2, 1, 1, s),
}
SQUARE = ("window", "padded")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("sinks", [False, True], ids=["", "sinks"])
@pytest.mark.parametrize("kind", MASKS)
def test_output_and_gradients_are_those_of_the_whole(kind: str, *, sinks: bool) -> None:
    length, span = (300, 300) if kind in SQUARE else (290, 321)
    heads, groups = (6, 2) if kind != "causal" else (4, 4)
    q, k, v = normal(2, heads, length, 16), normal(2, groups, span, 16), normal(2, groups, span, 8)
    mask, sink = MASKS[kind](length, span), normal(heads) if sinks else None
    added = [mask] if isinstance(mask, mx.array) and mask.dtype != mx.bool_ else []
    arrays = [q, k, v, *added, *([sink] if sink is not None else [])]
    cotangent = normal(2, heads, length, 8)

    def called(attend: Callable[..., mx.array]) -> Callable[..., mx.array]:
        def function(q: mx.array, k: mx.array, v: mx.array, *given: mx.array) -> mx.array:
            rest = list(given)
            own = rest.pop(0) if added else mask
            return attend(q, k, v, own, *rest)

        return function

    def ours(q: mx.array, k: mx.array, v: mx.array, mask: Mask, *sinks: mx.array) -> mx.array:
        return cpu.attention(q, k, v, None, SCALE, mask, **({"sinks": sinks[0]} if sinks else {}))

    exact = [x.astype(mx.float64) for x in arrays]
    expected = both(called(whole), exact, cotangent.astype(mx.float64))
    found = both(called(ours), arrays, cotangent)
    assert off(found, expected) < 1e-5

    def one(arrays: list[mx.array], cotangent: mx.array) -> Any:
        return mx.vjp(called(ours), arrays, [cotangent])

    compiled: Any = mx.compile(one)
    outputs, gradients = compiled(arrays, cotangent)
    assert off([np.array(x) for x in (*outputs, *gradients)], found) < 5e-6


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_memory_grows_with_the_length_alone(*, compiled: bool) -> None:
    def peak(length: int) -> int:
        q, c = normal(1, 9, length, 64), normal(1, 9, length, 64)
        k, v = normal(1, 3, length, 64), normal(1, 3, length, 64)
        mx.eval(q, k, v, c)

        def gradients(q: mx.array, k: mx.array, v: mx.array) -> list[mx.array]:

            def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
                return cpu.attention(q, k, v, None, 0.125, "causal")

            return mx.vjp(attend, [q, k, v], [c])[1]

        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval((mx.compile(gradients) if compiled else gradients)(q, k, v))
        return mx.get_peak_memory() - before

    scores = 9 * 2048 * 2048 * 4
    assert peak(2048) < scores / 2
    # The blocks that are in memory together take the same, whatever the length.
    assert peak(2048) < 2.5 * peak(1024)


def test_short_sequences_are_computed_whole_to_the_same_bits() -> None:
    q, k, v = normal(2, 6, 256, 16), normal(2, 2, 256, 16), normal(2, 2, 256, 16)
    seen = mx.arange(256)[None] <= mx.arange(256)[:, None]
    rows = (q * SCALE).reshape(2, 2, -1, 16)
    scores = mx.where(seen, (rows @ k.swapaxes(-1, -2)).reshape(2, 6, 256, -1), attention.HIDDEN)
    weights: Any = cpu.softmax(scores)
    expected = (weights.reshape(2, 2, 768, -1) @ v).reshape(q.shape)
    assert mx.array_equal(cpu.attention(q, k, v, None, SCALE, "causal"), expected)


@pytest.mark.parametrize(
    ("queries", "keys", "long"),
    [(256, 256, False), (257, 257, True), (1, 999, False), (40, 300, True)],
)
def test_shapes_alone_tell_what_is_long(queries: int, keys: int, *, long: bool) -> None:
    assert attention.is_long(normal(1, 1, queries, 2), normal(1, 1, keys, 2)) is long


def test_blocks_hold_the_keys_that_their_queries_see() -> None:
    assert attention.blocks_of(5, 7, 2, causal=False) == [
        Block(0, 2, 0, 7),
        Block(2, 4, 0, 7),
        Block(4, 5, 0, 7),
    ]
    assert attention.blocks_of(5, 7, 3, causal=True) == [Block(0, 3, 0, 5), Block(3, 5, 0, 7)]
    assert attention.blocks_of(6, 6, 2, causal=True, window=2) == [
        Block(0, 2, 0, 2),
        Block(2, 4, 1, 4),
        Block(4, 6, 3, 6),
    ]


def test_the_window_of_a_mask_is_known_as_long_as_the_mask_exists() -> None:
    h = mx.zeros((1, 300))
    mask = windows.create_attention_mask(h, None, window_size=50)
    assert windows.window_of(mask) == 50
    assert windows.window_of(windows.create_attention_mask(h, return_array=True)) == 300
    assert windows.window_of(base.create_attention_mask(h, None, window_size=50)) is None
    assert windows.window_of("causal") is None
    del mask
    gc.collect()
    assert windows._windows == {}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["gemma3", "gpt_oss"])
def test_a_model_with_windows_gives_the_same_logits(tmp_path: Path, name: str) -> None:
    module, _ = mlx.load_model(make_folder(tmp_path / name, name))
    dequantize_model(module, mx.float32)
    module.set_dtype(mx.float32)
    cpu.FAST.put_back(module)
    tokens = mx.array(RANDOM.integers(0, 500, (2, 300)))
    plain = np.array(module(tokens))
    try:
        assert "create_attention_mask" in cpu.FAST.put_in(module)
        assert np.array(module(tokens)) == pytest.approx(plain, abs=5e-4)
    finally:
        cpu.FAST.put_back(module)
