"""The padded shapes of a run's training pieces: few, and all of them met in the first epoch.

MLX traces a graph anew for every shape on every lane. A later epoch makes other batches; each is
padded to the smallest shape of the first epoch that it fits into, else to the largest there is.
Where lengths differ so widely that there would be many shapes, they are made coarser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from jobs.data.batching import padded
from jobs.data.tokenize import TokenizedExample

# Padded width L, padded targets P.
Shape = tuple[int, int]
# How many a lane has for each number of rows. Tracing takes some tenths of a second for each.
MOST_SHAPES = 16


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
        self._examples = examples
        pieces = list(first_epoch)
        # A run that ends within an epoch sees some of the examples only.
        self._used = sorted({row for _, rows in pieces for row in rows})
        # A size that comes once an epoch, as the rest that batch_size leaves, has one shape.
        common = Counter((lane, len(rows)) for lane, rows in pieces)
        met: dict[tuple[int, int], set[Shape]] = {
            (lane, size): {self._largest(size)} for lane, size in common
        }
        for lane, rows in pieces:
            if common[lane, len(rows)] > 1:
                met[lane, len(rows)].add(self._natural(rows))
        self._known = {key: bounded(shapes) for key, shapes in met.items()}

    def of(self, lane: int, rows: Sequence[int]) -> Shape:
        """Return the shape for the examples ``rows`` on ``lane``."""
        return smallest(self._natural(rows), self._known.get((lane, len(rows)), ()), len(rows))

    def largest_pieces(self) -> list[tuple[int, list[int], Shape]]:
        """Return for each lane and size a piece of the largest shape: lane, rows, shape."""
        by_width = sorted(self._used, key=lambda row: -len(self._examples[row].tokens))
        return [(lane, by_width[:size], self._largest(size)) for lane, size in sorted(self._known)]

    def _natural(self, rows: Sequence[int]) -> Shape:
        return natural([self._examples[row] for row in rows])

    def _largest(self, size: int) -> Shape:
        """Return the shape into which any ``size`` examples fit."""
        used = [self._examples[row] for row in self._used]
        targets = sorted(example.target_count for example in used)
        return natural(used)[0], padded(sum(targets[-size:]))


def natural(examples: Sequence[TokenizedExample]) -> Shape:
    """Return what some examples are padded to by themselves."""
    width = max(len(example.tokens) - 1 for example in examples)
    return padded(width), padded(sum(example.target_count for example in examples))


def bounded(shapes: Collection[Shape]) -> set[Shape]:
    """Return shapes into which all of these fit: themselves, or no more than ``MOST_SHAPES``."""
    widest, most = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    found, coarser = set(shapes), 0
    while len(found) > MOST_SHAPES:
        coarser += 1
        # No larger than the largest, whose memory was tried.
        found = {
            (min(widest, padded(width, coarser)), min(most, padded(targets, coarser)))
            for width, targets in shapes
        }
    return found


def smallest(shape: Shape, known: Iterable[Shape], rows: int) -> Shape:
    """Return the smallest of some shapes for so many rows that one fits into; without any itself.

    A target meets the vocabulary matrix, a token some blocks: about the same arithmetic.
    """
    fitting = [each for each in known if each[0] >= shape[0] and each[1] >= shape[1]]
    return min(fitting, key=lambda each: (each[0] * rows + each[1], each), default=shape)
