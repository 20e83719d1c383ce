"""The loss that is trained, and whether two ways to compute it agree."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.backend.backend import backend
from jobs.backend.mlx import mx
from jobs.model.adapter_fit import Arrays
from jobs.model.slice_size import slice_rows
from jobs.model.slices import sliced_losses
from jobs.model.split import LanguageModel

# A summed loss, with the gradients of the adapter by name.
Result = tuple[mx.array, Arrays]
# By how much two ways to compute gradients may differ, as a part of their norm. In float32 rounding
# makes far less of it.
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


def token_losses(
    model: LanguageModel, inputs: mx.array, positions: mx.array, targets: mx.array
) -> mx.array:
    """Return the cross-entropy of each target, nats, float32, shape [P].

    Only the rows of the hidden state that predict a target meet the vocabulary matrix: for a padded
    batch of questions and short answers that is a third of them. Where their logits would be larger
    than ``model.slice_bytes``, they meet it some rows at a time.

    Args:
        inputs: what ``model.rows`` takes: token ids [B, L] or states [B, L, D].
        positions: indices into the flattened [B * L], shape [P].
        targets: token ids, shape [P].
    """
    rows = model.rows(inputs, positions)
    # Until it is asked for, a graph alone: it tells the size of the vocabulary.
    logits = model.head(rows)
    if model.slice_bytes is not None:
        size = slice_rows(len(rows), logits.shape[-1], model.slice_bytes, model.least_rows)
        if size < len(rows):
            return sliced_losses(model.head, rows, targets, size, slopes=model.module.training)
    return backend().cross_entropy(logits.astype(mx.float32), targets)


def same(
    loss: mx.array, gradients: Arrays, expected: mx.array, others: Arrays, *, half: bool = False
) -> bool:
    """Tell whether two losses and their gradients differ by rounding only.

    The gradients are compared by the norm of all of them together. What is not finite tells
    nothing: the run itself will say so.

    Args:
        half: they were computed in 16 bits, in another order, though they are given in 32.
    """
    pairs = [(gradients[name], array) for name, array in others.items()]
    exact = not half and all(array.dtype == mx.float32 for _, array in pairs)
    tolerance = TOLERANCE if exact else HALF_TOLERANCE
    off, size = norm([a - b for a, b in pairs]), norm([b for _, b in pairs])
    near = mx.abs(loss - expected) <= tolerance * mx.abs(expected)
    return bool(near & (off <= tolerance * size) | ~mx.isfinite(expected + size))


def norm(arrays: Iterable[mx.array]) -> mx.array:
    """Return the L2 norm of all arrays together, float32; 0 without any."""
    sums = [mx.sum(array.astype(mx.float32) ** 2) for array in arrays]
    return mx.sqrt(mx.sum(mx.stack(sums))) if sums else mx.array(0.0)
