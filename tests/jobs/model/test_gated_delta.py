"""The recurrence by chunks is the recurrence token by token, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from jobs.backend.mlx import mx
from jobs.model.gated_delta import by_blocks, gated_delta, gated_delta_update, inverse

Array = npt.NDArray[Any]
Function = Callable[..., tuple[mx.array, mx.array]]


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer, and of what goes through it; ``vector``: each feature decays by itself."""

    length: int
    vector: bool = False
    batch: int = 2
    key_heads: int = 2
    shared: int = 1
    key: int = 8
    value: int = 12


SHAPES = [
    Shape(1), Shape(3, shared=3), Shape(63), Shape(64, shared=2), Shape(65), Shape(130, batch=1),
    Shape(1, vector=True), Shape(16, vector=True, shared=2), Shape(17, vector=True),
    Shape(50, vector=True, key_heads=1),
]  # fmt: skip
# How strong decays and betas are drawn: within the ordinary, and at their ends.
KINDS = ("ordinary", "decays near 0", "decays near 1", "beta 0", "beta 1", "equal keys", "mixed")


def drawn(shape: Shape, kind: str, seed: int = 0) -> list[Array]:
    """Return q, k, v, logarithms of decays, beta and a state."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    heads = shape.key_heads * shape.shared
    keys = (shape.batch, shape.length, shape.key_heads, shape.key)
    q, k = (unit(random.normal(size=keys)) for _ in range(2))
    v = random.normal(size=(shape.batch, shape.length, heads, shape.value))
    logs = -np.exp(
        2 * random.normal(size=(*v.shape[:3], shape.key) if shape.vector else v.shape[:3])
    )
    beta = 1 / (1 + np.exp(-3 * random.normal(size=v.shape[:3])))
    if kind == "decays near 0":
        logs = logs * 50
    elif kind == "decays near 1":
        logs = logs * 1e-6
    elif kind == "mixed":  # one decay that forgets all, among others that forget next to nothing
        logs = np.where(random.random(logs.shape) < 0.1, -200.0, logs * 1e-4)
    elif kind in ("beta 0", "beta 1"):
        beta = np.full_like(beta, float(kind[-1]))
    elif kind == "equal keys":
        k = np.broadcast_to(k[:, :1], k.shape).copy()
    state = random.normal(size=(shape.batch, heads, shape.value, shape.key))
    # What both see: numbers of 32 bits.
    return [x.astype(np.float32).astype(np.float64) for x in (q, k, v, logs, beta, state)]


def unit(x: Array) -> Array:
    length: Array = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / length


def token_by_token(
    q: mx.array, k: mx.array, v: mx.array, logs: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """Return outputs and last state as the recurrence is written down."""
    shared = v.shape[2] // q.shape[2]
    q, k = mx.repeat(q, shared, axis=2), mx.repeat(k, shared, axis=2)
    outputs = []
    for t in range(q.shape[1]):
        decay = mx.exp(logs[:, t])
        state = state * (decay[..., None, None] if decay.ndim == 2 else decay[..., None, :])
        key = k[:, t][..., None, :]
        delta = (v[:, t] - (state * key).sum(-1)) * beta[:, t][..., None]
        state = state + delta[..., None] * key
        outputs.append((state * q[:, t][..., None, :]).sum(-1))
    return mx.stack(outputs, axis=1), state


def results(
    function: Function, inputs: list[Array], dtype: mx.Dtype
) -> tuple[list[Array], list[Array]]:
    """Return outputs and last state, and the gradients of a sum that weighs all of them."""
    random = np.random.default_rng(1)
    given = [mx.array(x, dtype=dtype) for x in inputs]
    outputs = function(*given)
    weights = [mx.array(random.normal(size=x.shape), dtype=dtype) for x in outputs]

    def weighed(*args: mx.array) -> mx.array:
        found = function(*args)
        return sum(((x * w).sum() for x, w in zip(found, weights, strict=True)), mx.array(0, dtype))

    gradients = mx.grad(weighed, argnums=list(range(len(given))))(*given)
    mx.eval(outputs, gradients)
    return [plain(x) for x in outputs], [plain(x) for x in gradients]


def plain(x: mx.array) -> Array:
    return np.array(x.tolist(), dtype=np.float64).reshape(x.shape)


def off(found: Array, expected: Array) -> float:
    """Return the largest difference, relative to the largest number that is expected."""
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_state_and_gradients_are_those_of_float64(shape: Shape, kind: str) -> None:
    inputs = drawn(shape, kind)
    with mx.stream(mx.cpu):
        expected, gradients = results(token_by_token, inputs, mx.float64)
    found, ours = results(gated_delta, inputs, mx.float32)
    for x, y in zip(found, expected, strict=True):
        assert off(x, y) < 1e-5
    for x, y in zip(ours, gradients, strict=True):
        assert off(x, y) < 1e-5


@pytest.mark.parametrize("vector", [False, True])
def test_hidden_tokens_leave_the_state_as_it_is(vector: bool) -> None:
    inputs = drawn(Shape(40, vector), "ordinary")
    shown = np.ones((2, 40), dtype=bool)
    shown[0, :7] = shown[1, 30:] = False
    mask = mx.array(shown)
    given = [mx.array(x, dtype=mx.float32) for x in inputs]
    q, k, v, logs, beta, before = given
    y, state = gated_delta(q, k, v, logs, beta, before, mask)
    for row in range(2):
        seen = [x[row : row + 1, shown[row]] for x in inputs[:5]] + [inputs[5][row : row + 1]]
        with mx.stream(mx.cpu):
            (expected, last), _ = results(token_by_token, seen, mx.float64)
        assert off(plain(state)[row : row + 1], last) < 1e-5
        assert off(plain(y)[row : row + 1, shown[row]], expected) < 1e-5


@pytest.mark.parametrize("lower_bound", [None, -5.0])
@pytest.mark.parametrize("negative", [False, True])
def test_it_takes_what_mlx_lm_s_function_takes(lower_bound: float | None, negative: bool) -> None:
    from mlx_lm.models import gated_delta as theirs

    random = np.random.default_rng(3)
    q, k, v, _, _, state = drawn(Shape(20, shared=2), "ordinary")
    a, b = (random.normal(size=v.shape[:3]) for _ in range(2))
    A_log, dt_bias = random.normal(size=4), random.normal(size=4)  # noqa: N806 - as mlx-lm says
    given = [mx.array(x, dtype=mx.float32) for x in (q, k, v, a, b, A_log, dt_bias, state)]
    how: dict[str, Any] = {
        "lower_bound": lower_bound,
        "allow_neg_eigval": negative,
        "use_kernel": False,
    }
    for arguments in (given, given[:-1]):
        expected = theirs.gated_delta_update(*arguments, **how)
        found = gated_delta_update(*arguments, **how)
        for x, y in zip(found, expected, strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            assert off(plain(x), plain(y)) < 1e-5


@pytest.mark.parametrize("size", [1, 16, 64])
def test_the_inverse_of_a_unit_triangle_is_exact_either_way(size: int) -> None:
    random = np.random.default_rng(size)
    below = np.tril(random.normal(size=(3, size, size)), -1) * 0.3
    expected = np.linalg.inv(np.eye(size) + below)
    for found in (inverse, by_blocks):
        assert off(plain(cast(mx.array, found(mx.array(below, dtype=mx.float32)))), expected) < 1e-5
