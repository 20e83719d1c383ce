"""Losses by slices of rows beside NumPy in float64: values, slopes, memory, and who takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from jobs.backend.backend import AcceleratorBackend, backend
from jobs.backend.mlx import mx, nn
from jobs.model import slices
from jobs.model.losses import token_losses
from jobs.model.slice_size import SLICE_BYTES, slice_rows
from jobs.model.slices import Head, sliced_losses
from jobs.model.split import LanguageModel
from tests.helpers.engines import NO_DROPOUT, Rig, target_count

RANDOM = np.random.default_rng(11)


def linear(weight: mx.array, *, cap: float | None = None, scale: float = 1.0) -> Head:
    def head(rows: mx.array) -> mx.array:
        logits = (rows @ weight.T) * scale
        return logits if cap is None else mx.tanh(logits / cap) * cap

    return head


def expected(
    rows: np.ndarray,
    weight: np.ndarray,
    targets: np.ndarray,
    *,
    cap: float | None = None,
    scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return losses and slopes, computed in float64."""
    logits = scale * rows.astype(np.float64) @ weight.T.astype(np.float64)
    inner = np.ones_like(logits)
    if cap is not None:
        inner = 1 - np.tanh(logits / cap) ** 2
        logits = np.tanh(logits / cap) * cap
    highest = logits.max(axis=-1, keepdims=True)
    powers = np.exp(logits - highest)
    sums = powers.sum(axis=-1, keepdims=True)
    chosen = np.arange(len(rows)), targets
    found = (highest + np.log(sums))[:, 0] - logits[chosen]
    gradient = powers / sums
    gradient[chosen] -= 1
    return found, scale * (gradient * inner) @ weight.astype(np.float64)


def both(
    head: Head, rows: mx.array, targets: mx.array, weights: mx.array, size: int, *, slopes: bool
) -> tuple[mx.array, mx.array]:
    """Return losses, and the gradient of their weighted sum by the rows."""

    def total(rows: mx.array) -> tuple[mx.array, mx.array]:
        found = sliced_losses(head, rows, targets, size, slopes=slopes)
        return mx.sum(found * weights), found

    (_, found), gradient = mx.value_and_grad(total)(rows)
    return found, gradient


def near(mine: mx.array, theirs: np.ndarray) -> bool:
    """Tell whether two results differ by 1e-5 of the largest at most."""
    off = np.abs(np.array(mine, np.float64) - theirs).max()
    return bool(off <= 1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("slopes", [True, False])
@pytest.mark.parametrize("how", [{}, {"cap": 3.0}, {"scale": 0.25}, {"cap": 30.0, "scale": 2.0}])
def test_losses_and_gradients_are_those_of_float64(how: dict[str, float], slopes: bool) -> None:
    shapes = [(1, 1), (7, 3), (8, 4), (5, 5), (9, 1), *RANDOM.integers(2, 40, (4, 2)).tolist()]
    for count, size in shapes:
        hidden, vocabulary = RANDOM.integers(3, 50), RANDOM.integers(5, 3000)
        rows, weight = (
            RANDOM.normal(0, 1, (count, hidden)),
            RANDOM.normal(0, 1, (vocabulary, hidden)),
        )
        rows, weight = rows.astype(np.float32), (weight / np.sqrt(hidden)).astype(np.float32)
        targets = RANDOM.integers(0, vocabulary, count)
        counting = RANDOM.integers(0, 3, count).astype(np.float32)
        head = linear(mx.array(weight), **how)
        given = head, mx.array(rows), mx.array(targets), mx.array(counting)
        found, gradient = both(*given, size, slopes=slopes)
        losses_, by_state = expected(rows, weight, targets, **how)
        assert near(found, losses_)
        assert near(gradient, counting[:, None] * by_state)
        assert not np.array(gradient)[counting == 0].any()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_head(bits: int) -> None:
    layer = nn.QuantizedLinear.from_linear(nn.Linear(64, 501, bias=False), 32, bits)
    rows = RANDOM.normal(0, 1, (11, 64)).astype(np.float32)
    targets = RANDOM.integers(0, 501, 11)
    quantized: Any = layer
    weight = mx.dequantize(
        quantized.weight, quantized.scales, quantized.biases, group_size=32, bits=bits
    )
    theirs = expected(rows, np.array(weight), targets)
    mine = both(layer, mx.array(rows), mx.array(targets), mx.ones(11), 4, slopes=True)
    assert near(mine[0], theirs[0])
    assert near(mine[1], theirs[1])


def test_states_of_16_bits_get_gradients_of_16_bits() -> None:
    weight = mx.array(RANDOM.normal(0, 0.1, (501, 32))).astype(mx.bfloat16)
    rows = mx.array(RANDOM.normal(0, 1, (11, 32))).astype(mx.bfloat16)
    targets = mx.array(RANDOM.integers(0, 501, 11))
    head = linear(weight)
    found, gradient = both(head, rows, targets, mx.ones(11), 4, slopes=True)

    def plain(rows: mx.array) -> mx.array:
        logits = head(rows).astype(mx.float32)
        return mx.sum(nn.losses.cross_entropy(logits, targets, reduction="none"))

    by_state = np.array(mx.grad(plain)(rows).astype(mx.float32))
    assert (found.dtype, gradient.dtype) == (mx.float32, mx.bfloat16)
    off = np.abs(np.array(gradient.astype(mx.float32)) - by_state).max()
    assert off <= 2e-2 * np.abs(by_state).max()


def test_they_are_the_same_on_an_accelerators_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "backend", AcceleratorBackend)
    rows, weight = RANDOM.normal(0, 1, (11, 32)), RANDOM.normal(0, 0.2, (501, 32))
    rows, weight = rows.astype(np.float32), weight.astype(np.float32)
    targets = RANDOM.integers(0, 501, 11)
    given = linear(mx.array(weight)), mx.array(rows), mx.array(targets), mx.ones(11)
    mine, theirs = both(*given, 4, slopes=True), expected(rows, weight, targets)
    assert near(mine[0], theirs[0])
    assert near(mine[1], theirs[1])


@pytest.mark.parametrize(("slopes", "computed"), [(True, 3), (False, 0)])
def test_measuring_computes_no_slopes(slopes: bool, computed: int) -> None:
    """A slope is computed by the gradient of the head: nobody asks for that here."""
    asked = []

    @mx.custom_function
    def head(rows: mx.array) -> mx.array:
        return rows @ mx.ones((8, 50))

    @head.vjp
    def _head_vjp(rows: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
        asked.append(rows.shape)
        return cotangent @ mx.ones((50, 8))

    targets = mx.zeros(9, dtype=mx.int32)
    as_head = cast(Head, head)
    mx.eval(sliced_losses(as_head, mx.ones((9, 8)), targets, 3, slopes=slopes))
    assert len(asked) == computed


VOCABULARY, COUNT, SIZE = 100_000, 256, 8
SLICE = SIZE * VOCABULARY * 4


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("way", ["whole", "slopes", "measured", "measured, with its gradient"])
def test_slices_are_computed_one_after_the_other(way: str, compiled: bool) -> None:
    """What is computed of logits takes four to twelve times their memory: here of 32 slices.

    Where a GPU's way is taken on a CPU, MLX starts some slices ahead.
    """
    rows, weight = (mx.random.normal((n, 16)) for n in (COUNT, VOCABULARY))
    targets = mx.arange(COUNT)
    head = linear(weight)

    def total(rows: mx.array) -> mx.array:
        if way == "whole":
            return mx.sum(backend().cross_entropy(head(rows), targets))
        return mx.sum(sliced_losses(head, rows, targets, SIZE, slopes=way == "slopes"))

    function: Callable[[mx.array], Any] = total if way == "measured" else mx.value_and_grad(total)
    mx.eval(rows, weight)
    peak = peak_of(mx.compile(function) if compiled else function, rows)
    assert peak > 80 * SLICE if way == "whole" else peak < 40 * SLICE


def peak_of(function: Callable[[mx.array], Any], rows: mx.array) -> int:
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(function(rows))
    return mx.get_peak_memory() - before


@pytest.mark.parametrize(
    ("rows", "vocabulary", "size"),
    [
        (512, 248_320, 128),
        (128, 49_152, 128),
        (129, 49_152, 65),
        (682, 49_152, 114),
        (300, 8_192, 300),
        (1, 10**9, 1),
        (129, 10**9, 65),
    ],
)
def test_slices_are_of_about_one_size(rows: int, vocabulary: int, size: int) -> None:
    assert slice_rows(rows, vocabulary, SLICE_BYTES) == size


def test_logits_within_the_limit_take_the_way_without_slices_bit_for_bit() -> None:
    weight = mx.random.normal((501, 32))
    states, targets = mx.random.normal((1, 40, 32)), mx.arange(20)
    positions = mx.arange(0, 40, 2)

    def both_of(limit: int | None) -> list[Any]:
        model = LanguageModel(
            nn.Module(),
            None,
            lambda x, at: x[0][at],
            linear(weight),
            slice_bytes=limit,
            least_rows=1,
        )

        def total(states: mx.array) -> mx.array:
            return mx.sum(token_losses(model, states, positions, targets))

        loss, gradient = mx.compile(mx.value_and_grad(total))(states)
        return [loss.item(), gradient.tolist()]

    def plain(states: mx.array) -> mx.array:
        logits = linear(weight)(states[0][positions])
        return mx.sum(backend().cross_entropy(logits, targets))

    loss, gradient = mx.compile(mx.value_and_grad(plain))(states)
    fitting = 20 * 501 * 4
    assert both_of(None) == both_of(fitting) == [loss.item(), gradient.tolist()]
    sliced_loss, sliced = both_of(fitting - 1)
    assert sliced_loss == pytest.approx(loss.item(), rel=1e-6)
    assert np.array(sliced) == pytest.approx(np.array(gradient), abs=1e-5)


def test_an_engine_computes_the_same_by_slices_on_every_lane(tiny_model: Path) -> None:
    def computed(limit: int | None) -> tuple[float, dict[str, np.ndarray]]:
        rig = Rig(tiny_model, lanes_count=2, lora=NO_DROPOUT)
        rig.engine.model = replace(rig.language, slice_bytes=limit, least_rows=1)
        rig.move_adapter()
        pieces = rig.pieces([0, 1, 2, 3], [4, 5, 6, 7])
        loss = rig.engine.measure(pieces)
        rig.engine.step(pieces, 1)
        return loss, rig.gradient(target_count(rig.source.examples))

    (loss, gradient), (by_slices, others) = computed(None), computed(16 << 10)
    assert by_slices == pytest.approx(loss, rel=1e-6)
    for name, array in gradient.items():
        assert np.abs(array).max() > 1e-4
        assert others[name] == pytest.approx(array, abs=1e-6)
