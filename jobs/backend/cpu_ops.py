"""What MLX's CPU backend does slowly on Linux, done faster there. Nothing here is used on Metal.

The exponential function is our own (:mod:`jobs.backend.exponential`), and so are their gradients.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, cast

from jobs.backend.attention import attention_by_blocks, is_long
from jobs.backend.exchange import Exchange
from jobs.backend.exponential import exp, exp_nonpositive
from jobs.backend.mlx import activations, base, mx, nn
from jobs.backend.windows import create_attention_mask

# e^80 and e^-80 and their sums with 1 are ordinary float32 numbers.
SIGMOID_RANGE = 80.0
# Of 2 u = GELU (x + CUBIC x^3) in GELU's approximation (Hendrycks and Gimpel, arXiv 1606.08415).
GELU, CUBIC = 2.0 * math.sqrt(2.0 / math.pi), 0.044715
# MLX takes the memory of all that it has started, and starts ten tasks of ten operations each ahead
# of what a CPU has computed (MAX_ACTIVE_TASKS in mlx/transforms.cpp, DISPATCHES_PER_TASK in
# mlx/backend/cpu/encoder.h).
STARTED_AHEAD = 100


def sigmoid(x: mx.array) -> mx.array:
    """Return 1 / (1 + e^-x), for x between -80 and 80 or as at these ends. No gradient."""
    x = mx.where(x > -SIGMOID_RANGE, x, -SIGMOID_RANGE)
    x = mx.where(x < SIGMOID_RANGE, x, SIGMOID_RANGE)
    return 1.0 / (1.0 + exp(-x))


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """Return silu(gate) * x; mlx-lm's own result where the arrays are not float32."""
    if gate.dtype != mx.float32:
        return cast(mx.array, activations.swiglu(gate, x))
    return cast(mx.array, _swiglu(gate, x))


@mx.custom_function
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return gate * sigmoid(gate) * x


@_swiglu.vjp
def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
) -> tuple[mx.array, mx.array]:
    gate, x = primals
    # Computed once more: kept, it would be a third of what a block's MLP holds until here.
    s = sigmoid(gate)
    return cotangent * x * s * (1.0 + gate * (1.0 - s)), cotangent * gate * s


def precise_swiglu(h: mx.array, gate: mx.array, x: mx.array) -> mx.array:
    """Return silu(gate) * x in the type of ``h``; mlx-lm's own where they are not float32."""
    if not h.dtype == gate.dtype == x.dtype == mx.float32:
        return cast(mx.array, activations.precise_swiglu(h, gate, x))
    return cast(mx.array, _swiglu(gate, x))


def silu(x: mx.array) -> mx.array:
    """Return x * sigmoid(x); MLX's own result where ``x`` is not float32."""
    return cast(mx.array, _silu(x) if x.dtype == mx.float32 else nn.silu(x))


@mx.custom_function
def _silu(x: mx.array) -> mx.array:
    return x * sigmoid(x)


@_silu.vjp
def _silu_vjp(x: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
    s = sigmoid(x)
    return cotangent * s * (1.0 + x * (1.0 - s))


def gelu_approx(x: mx.array) -> mx.array:
    """Return GELU by the hyperbolic tangent; MLX's own result where ``x`` is not float32.

    0.5 x (1 + tanh(u)) is x * sigmoid(2 u).
    """
    return cast(mx.array, _gelu(x) if x.dtype == mx.float32 else nn.gelu_approx(x))


@mx.custom_function
def _gelu(x: mx.array) -> mx.array:
    return x * sigmoid(GELU * (x + CUBIC * x * x * x))


@_gelu.vjp
def _gelu_vjp(x: mx.array, cotangent: mx.array, _: mx.array) -> mx.array:
    s = sigmoid(GELU * (x + CUBIC * x * x * x))
    return cotangent * (s + x * s * (1.0 - s) * GELU * (1.0 + 3.0 * CUBIC * x * x))


@mx.custom_function
def softmax(scores: mx.array) -> mx.array:
    """Return the softmax over the last axis."""
    weights = exp_nonpositive(scores - mx.max(scores, axis=-1, keepdims=True))
    return weights / mx.sum(weights, axis=-1, keepdims=True)


@softmax.vjp
def _softmax_vjp(_: mx.array, cotangent: mx.array, weights: mx.array) -> mx.array:
    weighted = cotangent * weights
    return weighted - weights * mx.sum(weighted, axis=-1, keepdims=True)


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Return the cross-entropy of each row, nats: logits [P, V], targets [P] -> [P]."""
    return cast(tuple[mx.array, ...], _cross_entropy(logits, targets))[0]


@mx.custom_function
def _cross_entropy(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Return the losses [P], and what their gradient is made of: weights [P, V], totals [P, 1]."""
    highest = mx.max(logits, axis=-1, keepdims=True)
    weights = exp_nonpositive(logits - highest)
    total = mx.sum(weights, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)
    return (highest + mx.log(total) - chosen)[:, 0], weights, total


@_cross_entropy.vjp
def _cross_entropy_vjp(
    primals: tuple[mx.array, mx.array],
    cotangents: tuple[mx.array, mx.array, mx.array],
    outputs: tuple[mx.array, mx.array, mx.array],
) -> tuple[mx.array, mx.array]:
    targets, cotangent, (_, weights, total) = primals[1], cotangents[0][:, None], outputs
    # The gradient of the softmax, less one at the target: in one pass over one array.
    hit = mx.arange(weights.shape[-1], dtype=targets.dtype)[None] == targets[:, None]
    return weights * (cotangent / total) - hit * cotangent, mx.zeros_like(targets)


def awaited(arrays: list[mx.array]) -> list[mx.array]:
    """Return an array that depends on ``arrays``, as many operations behind them as MLX starts.

    When what depends on it is started, they are computed and what they were made of is free again.
    That costs half a millisecond.
    """
    (end,) = mx.depends([mx.zeros(1)], arrays)
    for _ in range(STARTED_AHEAD):
        # An operation that the compiler cannot merge with the next.
        end = mx.cumsum(end)
    return [end]


def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cache: Any,
    scale: float,
    mask: mx.array | str | None,
    **options: Any,
) -> mx.array:
    """Return scaled dot-product attention, as mlx-lm's function of that name does.

    Args:
        queries: shape [B, H, L, D]; keys, values: [B, K, S, D] with H a multiple of K.
        cache: of a generation. With one, or where the arrays are not float32, mlx-lm's own
            function is used.
        mask: ``"causal"``, boolean (True is seen), additive, or None.
    """
    long = queries.dtype == mx.float32 and is_long(queries, keys)
    if cache is None and long and options.keys() <= {"sinks"}:
        return attention_by_blocks(queries, keys, values, scale, mask, **options)
    if cache is not None or options or queries.dtype != mx.float32:
        attended: mx.array = base.scaled_dot_product_attention(
            queries,
            keys,
            values,
            cache=cache,
            scale=scale,
            mask=mask,  # type: ignore[arg-type]  # takes "causal" too
            **options,
        )
        return attended
    batch, heads, length, size = queries.shape
    groups = keys.shape[1]
    # The query heads that share a key head become rows of one matrix product.
    rows = (queries * scale).reshape(batch, groups, -1, size)
    scores = (rows @ keys.swapaxes(-1, -2)).reshape(batch, heads, length, -1)
    weights = cast(mx.array, softmax(_masked(scores, mask)))
    mixed = weights.reshape(batch, groups, rows.shape[2], -1) @ values
    return mixed.reshape(batch, heads, length, values.shape[-1])


def _masked(scores: mx.array, mask: mx.array | str | None) -> mx.array:
    if mask is None:
        return scores
    if isinstance(mask, str):
        length, span = scores.shape[-2:]
        mask = mx.arange(span)[None] <= mx.arange(span - length, span)[:, None]
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, mx.finfo(scores.dtype).min)
    return scores + mask


class FastNN(ModuleType):
    """MLX's ``nn`` with some functions of ours: architectures look them up there."""

    silu, gelu_approx = staticmethod(silu), staticmethod(gelu_approx)

    def __getattr__(self, name: str) -> Any:
        return getattr(nn, name)


# A float32 model computes with these in the place of mlx-lm's.
FAST = Exchange(
    ("swiglu", activations.swiglu, swiglu),
    ("precise_swiglu", activations.precise_swiglu, precise_swiglu),
    ("nn", nn, FastNN("nn")),
    ("scaled_dot_product_attention", base.scaled_dot_product_attention, attention),
    ("create_attention_mask", base.create_attention_mask, create_attention_mask),
)
