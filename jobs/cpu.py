"""What MLX's CPU backend does slowly on Linux, done faster there.

Its exponential takes some 20 ns an element, and a language model is full of them: in SwiGLU, in
softmax, in the loss. The one below is a polynomial: 2 to 5 ns, and closer to the true value (2.5e-7
relative, beside 3.8e-6). Nothing here is used on Metal.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from jobs.mlx import activations, base, mx, nn

LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first exact in few bits, so that n * ln 2 loses nothing (Cody and Waite).
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
# Taylor coefficients of e^r for |r| <= ln(2) / 2, highest first; the next term is below 2e-7.
COEFFICIENTS = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
# Adding and taking away 1.5 * 2^23 rounds a float32 to the nearest integer; floor() is a slow call.
ROUNDING = 12582912.0
LOWEST = -80.0


def exp_nonpositive(x: mx.array) -> mx.array:
    """Return e^x for float32 x <= 0, and 0 below -80. Has no gradient of its own.

    A zero, because the numbers down there soon become subnormal, which a matrix product computes
    with a hundred times more slowly: masked attention weights are nearly all of that kind.
    """
    in_range = x > LOWEST
    x = mx.where(in_range, x, 0.0)
    n = (x * LOG2_E + ROUNDING) - ROUNDING
    rest = (x - n * LN2_HIGH) - n * LN2_LOW
    value = mx.array(COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        value = value * rest + coefficient
    power_of_two = ((n.astype(mx.int32) + 127) << 23).view(mx.float32)
    return mx.where(in_range, value * power_of_two, 0.0)


def sigmoid(x: mx.array) -> mx.array:
    """Return 1 / (1 + e^-x). Has no gradient of its own."""
    e = exp_nonpositive(-mx.abs(x))
    return mx.where(x >= 0, 1.0, e) / (1.0 + e)


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """Return silu(gate) * x; mlx-lm's own result where the arrays are not float32."""
    function = _swiglu if gate.dtype == mx.float32 else activations.swiglu
    return cast(mx.array, function(gate, x))


@mx.custom_function
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return gate * sigmoid(gate) * x


@_swiglu.vjp
def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
) -> tuple[mx.array, mx.array]:
    gate, x = primals
    s = sigmoid(gate)
    return cotangent * x * s * (1.0 + gate * (1.0 - s)), cotangent * gate * s


@mx.custom_function
def softmax(scores: mx.array) -> mx.array:
    """Return the softmax over the last axis."""
    weights = exp_nonpositive(scores - mx.max(scores, axis=-1, keepdims=True))
    return weights / mx.sum(weights, axis=-1, keepdims=True)


@softmax.vjp
def _softmax_vjp(_: mx.array, cotangent: mx.array, weights: mx.array) -> mx.array:
    weighted = cotangent * weights
    return weighted - weights * mx.sum(weighted, axis=-1, keepdims=True)


@mx.custom_function
def logsumexp(logits: mx.array) -> mx.array:
    """Return log(sum(e^logits)) over the last axis, kept as an axis of one."""
    highest = mx.max(logits, axis=-1, keepdims=True)
    return highest + mx.log(mx.sum(exp_nonpositive(logits - highest), axis=-1, keepdims=True))


@logsumexp.vjp
def _logsumexp_vjp(logits: mx.array, cotangent: mx.array, total: mx.array) -> mx.array:
    # log-sum-exp is at least the highest logit, up to rounding: the difference is not positive.
    return cotangent * exp_nonpositive(mx.minimum(logits - total, 0.0))


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Return the cross-entropy of each row, nats: logits [P, V], targets [P] -> [P]."""
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)
    total = cast(mx.array, logsumexp(logits))
    return (total - chosen)[:, 0]


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
    return mixed.reshape(batch, heads, length, size)


def _masked(scores: mx.array, mask: mx.array | str | None) -> mx.array:
    if mask is None:
        return scores
    if isinstance(mask, str):
        length, span = scores.shape[-2:]
        mask = mx.arange(span)[None] <= mx.arange(span - length, span)[:, None]
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, mx.finfo(scores.dtype).min)
    return scores + mask


# mlx-lm's function -> ours. A model's module imports the former by name.
REPLACEMENTS = (
    ("swiglu", activations.swiglu, swiglu),
    ("scaled_dot_product_attention", base.scaled_dot_product_attention, attention),
)


def speed_up(model: nn.Module) -> list[str]:
    """Let a float32 model compute with the functions above; return the names of those it uses.

    The functions are exchanged in the Python module that defines the architecture, for the whole
    process: a training child has one model and ends with its job.
    """
    library = sys.modules[type(model).__module__]
    used = []
    for name, theirs, ours in REPLACEMENTS:
        if getattr(library, name, None) in (theirs, ours):
            setattr(library, name, ours)
            used.append(name)
    return used
