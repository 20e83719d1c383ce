"""Gated delta layers by chunks: the recurrence of Qwen3-Next, Qwen3.5, OLMo hybrid and Kimi linear.

mlx-lm trains it by a loop over tokens. Here chunks of tokens are computed as matrix products, and
only the states between chunks pass one after the other (Gated DeltaNet, arXiv 2412.06464; DeltaNet,
2406.06484). With decays g_t, a state S [Dv, Dk], keys, queries and values of a token t

    S_t = g_t S_(t-1) + d_t k_t^T,   d_t = beta_t (v_t - g_t S_(t-1) k_t),   y_t = S_t q_t

all d of a chunk that begins with the state S solve (I + A) d = beta (v - G_t S k_t), where G_t is
the product of the decays up to t and A is strictly lower triangular,
A_ti = beta_t (G_t / G_i) (k_t . k_i).

The ratios of decays are e^(sum of logarithms), at most 1: products of many decays are 0 in float32,
and their quotients nothing. Each of these sums is added up by itself (as in Mamba-2, arXiv
2405.21060): a difference of two sums from the chunk's first token loses what a strong decay before
both of them has made them large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from jobs.backend.exchange import Exchange
from jobs.backend.mlx import gated_delta as theirs
from jobs.backend.mlx import mx, nn

Step = Callable[..., tuple[mx.array, mx.array]]

CHUNK = 64
# Where each feature of the keys decays by itself, a chunk needs so many exponentials a token.
VECTOR_CHUNK = 16


def gated_delta_update(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    A_log: mx.array,  # noqa: N803 - called by name, as mlx-lm's function of this name
    dt_bias: mx.array,
    state: mx.array | None = None,
    mask: mx.array | None = None,
    *,
    use_kernel: bool = True,
    lower_bound: float | None = None,
    allow_neg_eigval: bool = False,
) -> tuple[mx.array, mx.array]:
    """Return what mlx-lm's function of this name does: outputs [B, T, Hv, Dv] and the last state.

    A single token, and all where mlx-lm has a kernel without a gradient for it, are left to that.
    The output at a token that ``mask`` hides is another: nothing reads it.

    Args:
        q, k: normalized, shape [B, T, Hk, Dk].
        v: shape [B, T, Hv, Dv] with Hv a multiple of Hk.
        a: what the decays are made of, shape [B, T, Hv], or [B, T, Hv, Dk] for one of each feature.
        b: what beta is made of, shape [B, T, Hv].
        state: shape [B, Hv, Dv, Dk]; None for zeros.
        mask: shape [B, T]; a token where it is False leaves the state as it is.
        use_kernel: nobody asks for the gradient.
    """
    if q.shape[1] == 1 or (use_kernel and _has_kernel(k)):
        how: dict[str, Any] = {"lower_bound": lower_bound, "allow_neg_eigval": allow_neg_eigval}
        given = (q, k, v, a, b, A_log, dt_bias, state, mask)
        own: tuple[mx.array, mx.array] = theirs.gated_delta_update(
            *given, use_kernel=use_kernel, **how
        )
        return own
    beta = mx.sigmoid(b.astype(mx.float32)) * (2.0 if allow_neg_eigval else 1.0)
    strength = mx.exp(A_log.astype(mx.float32))
    moved = a.astype(mx.float32) + dt_bias.astype(mx.float32)
    if lower_bound is None:
        log_decay = -strength * nn.softplus(moved)
    else:
        log_decay = lower_bound * mx.sigmoid(strength * moved)
    return gated_delta(q, k, v, log_decay, beta, state, mask)


def _has_kernel(k: mx.array) -> bool:
    """Tell whether mlx-lm computes such keys by a kernel of Metal."""
    return mx.default_device() == mx.gpu and mx.metal.is_available() and k.shape[-1] % 32 == 0


def gated_delta(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    log_decay: mx.array,
    beta: mx.array,
    state: mx.array | None = None,
    mask: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """Return the outputs and the last state of the recurrence, computed in float32.

    Args:
        q, k, v, state, mask: as for :func:`gated_delta_update`.
        log_decay: at most 0, shape [B, T, Hv] or [B, T, Hv, Dk].
        beta: shape [B, T, Hv].
    """
    batch, length, heads, width = v.shape
    dtype = q.dtype
    if mask is not None:
        shown = mask[..., None]
        beta = mx.where(shown, beta, 0.0)
        log_decay = mx.where(shown if log_decay.ndim == 3 else shown[..., None], log_decay, 0.0)
    vector = log_decay.ndim == 4
    size = VECTOR_CHUNK if vector else CHUNK
    count = -(-length // size)
    parts = [_chunks(x, count, size) for x in (q, k, v, log_decay, beta[..., None])]
    if (shared := heads // q.shape[2]) > 1:
        parts[:2] = [mx.repeat(x, shared, axis=1) for x in parts[:2]]
    queries, keys, values, logs, betas = parts
    if state is None:
        state = mx.zeros((batch, heads, width, k.shape[-1]), dtype=mx.float32)
    passed = state.astype(mx.float32).swapaxes(-1, -2)
    step = _vector_chunk if vector else _scalar_chunk
    y, passed = _by_chunks(step, queries, keys, values, logs, betas, passed)
    y = y.reshape(batch, heads, count * size, width)[:, :, :length].swapaxes(1, 2)
    return y.astype(dtype), passed.swapaxes(-1, -2).astype(state.dtype)


def _chunks(x: mx.array, count: int, size: int) -> mx.array:
    """Return [B, T, H, ...] as float32 chunks, [B, H, N, C, ...]; what is too short gets zeros."""
    x = x.astype(mx.float32)
    if missing := count * size - x.shape[1]:
        x = mx.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
    x = x.swapaxes(1, 2)
    return x.reshape(*x.shape[:2], count, size, *x.shape[3:])


def _by_chunks(step: Step, *given: mx.array) -> tuple[mx.array, mx.array]:
    """Pass a state through chunks; keep nothing for the gradient but the states between them.

    A chunk is computed again in the backward pass, in the other direction, and one after another:
    what a chunk needs fits into a processor's cache, what all of them need at once does not.

    Args:
        step: queries, keys, values, logarithms and betas of a chunk, and the state [B, H, Dk, Dv]
            before it -> its outputs, and the state after it.
        given: all queries, keys, values, logarithms and betas, [B, H, N, C, ...], and the state.
    """

    @mx.custom_function
    def passed(*given: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        *arrays, state = given
        outputs, before = [], []
        for chunk in zip(*map(_each, arrays), strict=True):
            before.append(state)
            y, state = step(*mx.depends(list(chunk), [state]), state)
            outputs.append(y)
        return mx.stack(outputs, axis=2), state, mx.stack(before, axis=2)

    @passed.vjp
    def passed_vjp(
        primals: tuple[mx.array, ...],
        cotangents: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, ...]:
        *arrays, _ = primals
        change = cotangents[1]
        found: list[list[mx.array]] = []
        each = [_each(x) for x in (*arrays, outputs[2], cotangents[0])]
        for *chunk, before, asked in reversed(list(zip(*each, strict=True))):
            ordered = mx.depends([*chunk, before], [change])
            _, changes = mx.vjp(step, ordered, [asked, change])
            *of_chunk, change = changes
            found.append(of_chunk)
        gradients = [
            mx.stack(parts, axis=2) for parts in map(list, zip(*reversed(found), strict=True))
        ]
        return (*gradients, change)

    y, state, _ = cast(tuple[mx.array, ...], passed(*given))
    return y, state


def _scalar_chunk(
    q: mx.array, k: mx.array, v: mx.array, logs: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """Compute a chunk of heads that decay as a whole."""
    within = _ratios(logs[..., None])[..., 0]
    grown = mx.exp(mx.cumsum(logs, axis=-1))[..., None]  # [B, H, C, 1]
    turned = k.swapaxes(-1, -2)
    solved = cast(mx.array, inverse(_below(beta * within * (k @ turned))))
    new = solved @ (beta * (v - grown * (k @ state)))
    y = grown * (q @ state) + (within * (q @ turned)) @ new
    kept = within[..., -1, :, None] * k
    return y, grown[..., -1:, :] * state + kept.swapaxes(-1, -2) @ new


def _vector_chunk(
    q: mx.array, k: mx.array, v: mx.array, logs: mx.array, beta: mx.array, state: mx.array
) -> tuple[mx.array, mx.array]:
    """Compute a chunk of heads of which each feature decays by itself."""
    ratios = _ratios(logs)
    within = ratios * k[..., None, :, :]  # [B, H, C, C, Dk]
    grown = mx.exp(mx.cumsum(logs, axis=-2))
    solved = cast(mx.array, inverse(_below(beta * (within @ k[..., None])[..., 0])))
    new = solved @ (beta * (v - (grown * k) @ state))
    y = (grown * q) @ state + (within @ q[..., None])[..., 0] @ new
    kept = ratios[..., -1, :, :] * k
    last = grown[..., -1, :, None] * state + kept.swapaxes(-1, -2) @ new
    return y, last


def _each(x: mx.array) -> list[mx.array]:
    """Return the chunks of [B, H, N, C, ...] one by one."""
    return [part.squeeze(2) for part in mx.split(x, x.shape[2], axis=2)]


def _ratios(logs: mx.array) -> mx.array:
    """Return what is left at each token of each one before it, and 0 of those after it.

    Args:
        logs: of the decays, shape [..., C, D].

    Returns:
        Shape [..., C, C, D]: first the token, then the one before it.
    """
    size = logs.shape[-2]
    before = mx.tril(mx.ones((size, size), dtype=mx.bool_), -1)[..., None]
    sums = mx.cumsum(mx.where(before, logs[..., :, None, :], 0.0), axis=-3)
    lower = mx.tril(mx.ones((size, size), dtype=mx.bool_))[..., None]
    return mx.exp(mx.where(lower, sums, -mx.inf))


def _below(matrix: mx.array) -> mx.array:
    return mx.tril(matrix, -1)


@mx.custom_function
def inverse(below: mx.array) -> mx.array:
    """Return (I + A)^-1 for a strictly lower triangular A, shape [..., C, C]."""
    size = below.shape[-1]
    if mx.default_device() == mx.cpu:
        whole = below + mx.eye(size, dtype=below.dtype)
        return mx.linalg.tri_inv(whole, upper=False, stream=mx.default_stream(mx.cpu))
    return by_blocks(below)


@inverse.vjp
def _inverse_vjp(_: mx.array, cotangent: mx.array, solved: mx.array) -> mx.array:
    turned = solved.swapaxes(-1, -2)
    return -_below(turned @ cotangent @ turned)


def by_blocks(below: mx.array) -> mx.array:
    """Return the same by substitution of blocks that double: 1, 2, 4, ... rows.

    With the inverses of both blocks on the diagonal, that of [[P, 0], [A, Q]] has -Q^-1 A P^-1 in
    its corner. A series of powers of A would be shorter, and lose all digits.
    """
    size = below.shape[-1]
    solved = mx.broadcast_to(mx.eye(size, dtype=below.dtype), below.shape)
    rows = mx.arange(size)
    width = 1
    while width < size:
        pair, half = rows // (2 * width), rows // width % 2
        corner = (pair[:, None] == pair[None]) & (half[:, None] == 1) & (half[None] == 0)
        solved = solved - solved @ mx.where(corner, below, 0.0) @ solved
        width *= 2
    return solved


CHUNKED = Exchange(("gated_delta_update", theirs.gated_delta_update, gated_delta_update))
