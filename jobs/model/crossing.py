"""What crosses a boundary between two of a model's blocks, as recordings of its forward tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.backend.mlx import mx, tree_flatten, tree_map

# Two shapes of token ids that differ in both sizes: an axis that grows with one of them is its own.
SHAPES = ((2, 24), (3, 25))
# Token ids cross as digits that every float type holds exactly.
DIGITS, BASE = 3, 256


class NotAChain(Exception):
    """A model's blocks cannot be taken apart; the message says why, for people."""


@dataclass(frozen=True)
class Call:
    """One call of a block, number ``block``: the arrays it got, and what it returned."""

    block: int
    arguments: list[mx.array]
    first: Any
    returned: Any

    def form(self) -> Any:
        """Return the structure of the result: nothing in it leads back to a weight."""
        shape = lambda x: mx.zeros(x.shape, x.dtype) if isinstance(x, mx.array) else x  # noqa: E731
        return tree_map(shape, self.returned)


@dataclass(frozen=True)
class Leaf:
    """An array among those that a block returns.

    Attributes:
        block: number of the block.
        place: of the array in the flattened result.
        batch, length: its axes of those sizes.
        rest: the sizes of its other axes.
        dtype: its type.
    """

    block: int
    place: int
    batch: int
    length: int
    rest: tuple[int, ...]
    dtype: mx.Dtype

    @property
    def is_plain(self) -> bool:
        """Tell whether it is shaped [B, L, D] as it is."""
        return (self.batch, self.length, len(self.rest)) == (0, 1, 1)

    @property
    def width(self) -> int:
        """How many numbers it has for each token."""
        width = 1
        for size in self.rest:
            width *= size
        return width

    def flat(self, array: mx.array) -> mx.array:
        """Return it as [B, L, width]."""
        if self.is_plain:
            return array
        moved = array.transpose(self._order)
        return moved.reshape(*moved.shape[:2], -1)

    def shaped(self, flat: mx.array) -> mx.array:
        """Return what :meth:`flat` has flattened, as it was."""
        if self.is_plain:
            return flat
        moved = flat.reshape(*flat.shape[:2], *self.rest)
        back = sorted(range(moved.ndim), key=self._order.__getitem__)
        return moved.transpose(back)

    @property
    def _order(self) -> list[int]:
        """Its axes, rows first, then tokens."""
        axes = range(2 + len(self.rest))
        others = [axis for axis in axes if axis not in (self.batch, self.length)]
        return [self.batch, self.length, *others]


def probe_ids(shape: tuple[int, int] = SHAPES[0]) -> mx.array:
    """Return short rows of token ids by which a model is tried."""
    return mx.arange(shape[0] * shape[1]).reshape(shape)


def leaves(tree: Any) -> list[mx.array]:
    """Return the arrays in what a block is called with, or returns."""
    flattened: Any = tree_flatten(tree)
    return [value for _, value in flattened if isinstance(value, mx.array)]


def crossing(boundary: int, calls: Sequence[Call], others: Sequence[Call]) -> list[Leaf]:
    """Return what blocks below a boundary return and those above are called with.

    Args:
        boundary: the number of the first block above.
        calls, others: recordings of the two shapes.

    Raises:
        NotAChain: something of it is not a number for each token.
    """
    # By identity: what is handed on is the same Python object.
    made = {
        id(array): (call.block, place)
        for call in calls[:boundary]
        for place, array in enumerate(leaves(call.returned))
    }
    found = {
        made[id(array)]: None
        for call in calls[boundary:]
        for array in call.arguments
        if id(array) in made
    }
    # The hidden state may be scaled or copied on its way from the last block below.
    if boundary and id(calls[boundary].first) not in made:
        found[boundary - 1, 0] = None
    return [leaf_of(calls[block], others[block], place) for block, place in sorted(found)]


def leaf_of(call: Call, other: Call, place: int) -> Leaf:
    """Return where in an array the rows and the tokens are, by what two shapes made of it."""
    shapes = [leaves(each.returned)[place].shape for each in (call, other)]
    array = leaves(call.returned)[place]
    if not mx.issubdtype(array.dtype, mx.floating):
        raise NotAChain("its blocks hand on numbers that are not states")
    (batch, length), axes = SHAPES[0], range(array.ndim)
    grown = [axis for axis in axes if shapes[0][axis] != shapes[1][axis]]
    sizes = {(shapes[0][axis], shapes[1][axis]): axis for axis in grown}
    pairs = [(SHAPES[0][0], SHAPES[1][0]), (batch and length, SHAPES[1][1])]
    if set(sizes) != set(pairs) or len(grown) != len(pairs):
        raise NotAChain("its blocks hand on more than a state for each token")
    rest = tuple(array.shape[axis] for axis in axes if axis not in grown)
    return Leaf(call.block, place, sizes[pairs[0]], sizes[pairs[1]], rest, array.dtype)


def needs_ids(boundary: int, calls: Sequence[Call], crossing: Sequence[Leaf]) -> bool:
    """Tell whether a block above is called with other numbers for each token than states.

    Masks are for each pair of tokens, or boolean.
    """
    kept = {(leaf.block, leaf.place) for leaf in crossing}
    known = {
        id(array)
        for call in calls
        for place, array in enumerate(leaves(call.returned))
        if call.block >= boundary or (call.block, place) in kept
    }
    rows, length = SHAPES[0]
    return any(
        id(array) not in known
        and array is not call.first
        and mx.issubdtype(array.dtype, mx.floating)
        and array.shape[:2] == (rows, length)
        for call in calls[boundary:]
        for array in call.arguments
    )


def digits(ids: mx.array, dtype: mx.Dtype) -> mx.array:
    """Return token ids [B, L] as numbers of any float type, [B, L, DIGITS]."""
    return mx.stack([(ids // BASE**n) % BASE for n in range(DIGITS)], axis=-1).astype(dtype)


def without_ids(inputs: mx.array) -> tuple[mx.array, mx.array]:
    """Return the states and the token ids of what holds both."""
    written = inputs[..., -DIGITS:].astype(mx.int32)
    ids = sum((written[..., n] * BASE**n for n in range(DIGITS)), mx.array(0))
    return inputs[..., :-DIGITS], ids
