"""The loss of many targets in a large vocabulary, without ever holding all of their logits.

Logits of a row in a vocabulary of 250,000 take 1 MB, and what their loss and its gradient are made
of seven times that. So some rows at a time are computed, forward and, where a gradient is wanted,
backward at once: what is kept of a slice is a loss and its slope by the states, d loss / d state,
for each row. The gradient then is the slope times what the loss counts, and the vocabulary matrix
is met twice, as without slices. (A loss that is computed chunk by chunk with its gradient: Liger
Kernel, arXiv 2410.10989.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from jobs.backend.backend import backend
from jobs.backend.mlx import mx

Head = Callable[[mx.array], mx.array]


def sliced_losses(
    head: Head, rows: mx.array, targets: mx.array, size: int, *, slopes: bool
) -> mx.array:
    """Return the cross-entropy of each target, nats, float32, shape [P].

    It has the gradient by ``rows``, and none by what ``head`` refers to.

    Args:
        head: final hidden states [n, D] -> logits [n, V], each row by itself.
        rows: final hidden states, shape [P, D].
        targets: token ids, shape [P].
        size: how many rows at a time are computed.
        slopes: compute the slopes with the losses. Right where the gradient is asked for: without,
            it computes the logits once more; with them, a loss alone takes twice as long.
    """

    def losses_of(part: mx.array, its_targets: mx.array) -> mx.array:
        return backend().cross_entropy(head(part).astype(mx.float32), its_targets)

    def with_slopes(part: mx.array, its_targets: mx.array) -> list[mx.array]:
        ones = mx.ones(part.shape[0])
        losses, found = mx.vjp(lambda x: losses_of(x, its_targets), [part], [ones])
        return [*losses, *found]

    def computed(
        of: Callable[[mx.array, mx.array], list[mx.array]],
        rows: mx.array,
        before: list[mx.array],
    ) -> list[mx.array]:
        """Return what ``of`` gives of all rows, one slice after the other, behind ``before``."""
        found = []
        for start in range(0, rows.shape[0], size):
            part = rows[start : start + size]
            if before:
                (part,) = mx.depends([part], backend().awaited(before))
            before = of(part, targets[start : start + size])
            found.append(before)
        return [mx.concatenate(list(parts)) for parts in zip(*found, strict=True)]

    # What a custom function gives is computed together, asked for or not: so there are two.
    @mx.custom_function
    def learned(rows: mx.array) -> list[mx.array]:
        return computed(with_slopes, rows, [])

    @learned.vjp
    def _learned_vjp(
        primals: mx.array, cotangents: list[mx.array], outputs: list[mx.array]
    ) -> mx.array:
        return _gradient(cotangents[0], outputs[1])

    @mx.custom_function
    def measured(rows: mx.array) -> mx.array:
        return computed(lambda *slice_: [losses_of(*slice_)], rows, [])[0]

    @measured.vjp
    def _measured_vjp(primals: mx.array, cotangent: mx.array, losses: mx.array) -> mx.array:
        return _gradient(cotangent, computed(with_slopes, primals, [losses])[1])

    if slopes:
        return cast(list[mx.array], learned(rows))[0]
    return cast(mx.array, measured(rows))


def _gradient(cotangent: mx.array, slopes: mx.array) -> mx.array:
    return (cotangent[:, None] * slopes).astype(slopes.dtype)
