"""From tokenized examples to batches: seeded order, padded widths, target positions. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]

# Few shapes, so that MLX reuses its graphs, and little padding: the tokens of a row and the targets
# of a batch are padded to a multiple of 16, beyond 256 to one of 8 sizes up to the next power of 2.
MULTIPLE = 16
PARTS = 16

# Batches are cut from windows of this many, sorted by length: similar lengths meet, yet every epoch
# makes other batches.
WINDOW_BATCHES = 32


@dataclass(frozen=True)
class Batch:
    """Examples that are computed together; B rows, L padded tokens a row, P padded targets.

    Attributes:
        inputs: token ids, shape [B, L].
        positions: where a target is predicted, as an index into the flattened [B * L], shape [P].
        targets: the token that follows there, shape [P].
        weights: 1 for a real target, 0 for padding, shape [P].
        target_count: number of real targets.
        token_count: number of real (unpadded) input tokens.
    """

    inputs: IntArray
    positions: IntArray
    targets: IntArray
    weights: FloatArray
    target_count: int
    token_count: int


class Row(Protocol):
    """What a batch is made of: a :class:`jobs.data.tokenize.TokenizedExample`."""

    @property
    def tokens(self) -> Sequence[int]:
        """The token ids."""

    @property
    def prompt_length(self) -> int:
        """How many of the first are no targets."""

    @property
    def gaps(self) -> Sequence[tuple[int, int]]:
        """Which of the others are none."""


def is_target(row: Row) -> npt.NDArray[np.bool_]:
    """Return which tokens of an example are targets, shape [tokens]."""
    found = np.ones(len(row.tokens), dtype=bool)
    found[: max(row.prompt_length, 1)] = False  # nothing predicts the first token
    for start, end in row.gaps:
        found[start:end] = False
    return found


def make_batch(rows: Sequence[Row], shape: tuple[int, int] = (0, 0)) -> Batch:
    """Return the batch of some examples.

    Args:
        shape: pad to at least this width and so many targets.
    """
    # The last token predicts nothing: it is a target only.
    longest = max(len(row.tokens) - 1 for row in rows)
    width = padded(max(longest, shape[0]))
    inputs = np.zeros((len(rows), width), dtype=np.int32)
    positions: list[IntArray] = []
    targets: list[IntArray] = []
    for number, row in enumerate(rows):
        ids = np.asarray(row.tokens, dtype=np.int32)
        inputs[number, : len(ids) - 1] = ids[:-1]
        chosen = np.flatnonzero(is_target(row)).astype(np.int32)
        # Targets are shifted by one: the token at index t is predicted at position t - 1.
        positions.append(number * width + chosen - 1)
        targets.append(ids[chosen])
    count = sum(len(part) for part in targets)
    padding = np.zeros(padded(max(count, shape[1])) - count, dtype=np.int32)
    weights = np.zeros(count + len(padding), dtype=np.float32)
    weights[:count] = 1
    return Batch(
        inputs=inputs,
        positions=np.concatenate([*positions, padding]),
        targets=np.concatenate([*targets, padding]),
        weights=weights,
        target_count=count,
        token_count=sum(len(row.tokens) - 1 for row in rows),
    )


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    """Return the batches of an epoch as example indices; a function of its arguments alone.

    Every example is in exactly one batch; when ``batch_size`` does not divide their number, the
    last batch is smaller.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths)).astype(np.int32)
    sizes = np.asarray(lengths)
    window = batch_size * WINDOW_BATCHES
    batches: list[IntArray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(sizes[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    whole = [batch for batch in batches if len(batch) == batch_size]
    rest = [batch for batch in batches if len(batch) < batch_size]
    return [whole[i] for i in random.permutation(len(whole))] + rest


def evaluation_order(lengths: Sequence[int], batch_size: int) -> list[IntArray]:
    """Return batches of example indices in a fixed order, by length, for measuring a loss."""
    order = np.argsort(np.asarray(lengths), kind="stable").astype(np.int32)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def fixed_slice(count: int, wanted: int) -> list[int]:
    """Return up to ``wanted`` indices spread evenly over ``range(count)``."""
    if count <= wanted:
        return list(range(count))
    return [i * count // wanted for i in range(wanted)]


def padded(size: int, coarser: int = 0) -> int:
    """Return how many tokens or targets ``size`` of them are padded to: at most an eighth more.

    Args:
        coarser: how often the steps between two sizes are doubled.
    """
    step = max(MULTIPLE, (1 << (size - 1).bit_length()) // PARTS) << coarser
    return max(step, -(-size // step) * step)
