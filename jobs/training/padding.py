"""The padded shapes of a run's training pieces: few, and all of them met in the first epoch.

MLX traces a graph anew for every shape on every lane. A later epoch makes other batches; each is
padded to the smallest shape of the first epoch that it fits into, else to the largest there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from jobs.data.batching import TARGET_MULTIPLE, WIDTH_MULTIPLE, padded_to
from jobs.data.tokenize import TokenizedExample

# Padded width L, padded targets P.
Shape = tuple[int, int]


class Shapes:
    """Which shape a piece of training examples is padded to.

    Args:
        examples: the training data.
        first_epoch: the pieces of the first epoch: lane and rows of each.
    """

    def __init__(
        self,
        examples: Sequence[TokenizedExample],
        first_epoch: Iterable[tuple[int, Sequence[int]]],
    ) -> None:
        self._widths = [len(example.tokens) - 1 for example in examples]
        self._targets = [example.target_count for example in examples]
        pieces = list(first_epoch)
        # A run that ends within an epoch sees some of the examples only.
        self._used = sorted({row for _, rows in pieces for row in rows})
        # A size that comes once an epoch, as the rest that batch_size leaves, has one shape.
        common = Counter((lane, len(rows)) for lane, rows in pieces)
        self._known: dict[tuple[int, int], set[Shape]] = {
            (lane, size): {self._largest(size)} for lane, size in common
        }
        for lane, rows in pieces:
            if common[lane, len(rows)] > 1:
                self._known[lane, len(rows)].add(self._natural(rows))

    def of(self, lane: int, rows: Sequence[int]) -> Shape:
        """Return the shape for the examples ``rows`` on ``lane``."""
        width, targets = self._natural(rows)
        fitting = [
            shape
            for shape in self._known.get((lane, len(rows)), ())
            if shape[0] >= width and shape[1] >= targets
        ]
        # A target meets the vocabulary matrix, a token some blocks: about the same arithmetic.
        return min(fitting, key=lambda s: (s[0] * len(rows) + s[1], s), default=(width, targets))

    def largest_pieces(self) -> list[tuple[int, list[int], Shape]]:
        """Return for each lane and size a piece of the largest shape: lane, rows, shape."""
        by_width = sorted(self._used, key=lambda row: -self._widths[row])
        return [(lane, by_width[:size], self._largest(size)) for lane, size in sorted(self._known)]

    def _natural(self, rows: Sequence[int]) -> Shape:
        return self._padded(
            max(self._widths[row] for row in rows), sum(self._targets[row] for row in rows)
        )

    def _largest(self, size: int) -> Shape:
        targets = sorted(self._targets[row] for row in self._used)
        return self._padded(max(self._widths[row] for row in self._used), sum(targets[-size:]))

    def _padded(self, width: int, targets: int) -> Shape:
        return padded_to(width, WIDTH_MULTIPLE), padded_to(targets, TARGET_MULTIPLE)
