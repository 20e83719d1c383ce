"""Attention over long sequences on a CPU, in memory that grows with the length, not its square.

A block of queries at a time meets the keys that it may see, and of its weights only the output is
kept, with the highest score of each query and the sum of its weights. The backward pass computes
the weights of a block again (FlashAttention, arXiv 2205.14135; the order of the loops and the
gradients are those of FlashAttention-2, arXiv 2307.08691, section 3). With scores S, weights
E = e^(S - highest), their sum l for each query, the output O = E V / l and its gradient dO

    D = rowsum(dO * O),   dV = E^T (dO / l),   dS = E * ((dO / l) V^T - D / l),
    dQ = dS K,   dK = dS^T Q

MLX takes the memory of all that it has started, and starts whatever is ready: without an order
among them all blocks would be in memory together. So each waits for the one before it
(``mx.depends``). MLX prepares some 50 operations beyond the one that is computed, so a few blocks
are in memory at once nevertheless: a block is small, and so it is found in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from jobs.backend.exponential import exp_nonpositive
from jobs.backend.mlx import mx
from jobs.backend.windows import window_of

# Up to so many keys attention is computed whole, to the same bits as ever.
LONGEST_WHOLE = 256
# How many bytes the scores of a block take, where that does not make it lower than the fewest
# queries, whose matrix products would be slow; and the most queries, since those of a block meet
# keys that come after them.
BLOCK_BYTES, FEWEST, MOST = 2 << 20, 16, 128
HIDDEN = mx.finfo(mx.float32).min


@dataclass(frozen=True)
class Block:
    """Queries from ``start`` to ``stop``, and the keys from ``first`` to ``last`` that they see."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class KeyHeads:
    """Key heads of an example, from ``first`` to ``last``, that are computed together."""

    example: int
    first: int
    last: int

    @property
    def cut(self) -> tuple[slice, slice]:
        """Where it is in an array [B, K, ...]."""
        return slice(self.example, self.example + 1), slice(self.first, self.last)


def is_long(queries: mx.array, keys: mx.array) -> bool:
    """Tell, by their shapes alone, whether attention is computed by blocks."""
    return keys.shape[2] > LONGEST_WHOLE and 1 < queries.shape[2] <= keys.shape[2]


def attention_by_blocks(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """Return scaled dot-product attention, shape [B, H, L, Dv].

    Args:
        queries: float32, shape [B, H, L, D].
        keys: shape [B, K, S, D], with H a multiple of K and L at most S.
        values: shape [B, K, S, Dv].
        mask: ``"causal"``, where the last query sees all keys; boolean (True is seen); additive;
            or None. An array fits [B, H, L, S].
        sinks: a score for each head that takes part in its softmax and has no value, shape [H].
    """
    work = _Work(queries, keys, scale, mask, sinks)
    given = [array for array in (mask, sinks) if isinstance(array, mx.array)]
    computed: Any = mx.custom_function(work.forward)
    computed.vjp(work.backward)
    return cast(tuple[mx.array, ...], computed(queries, keys, values, *given))[0]


def blocks_of(
    queries: int, keys: int, rows: int, *, causal: bool, window: int | None = None
) -> list[Block]:
    """Return the blocks of at most ``rows`` queries.

    Args:
        causal: a query sees no keys that come after it; the last one sees the last key.
        window: how many keys a query sees at most, itself the last of them; None for all.
    """
    offset = keys - queries
    return [
        Block(
            start,
            stop := min(start + rows, queries),
            max(0, start + offset + 1 - window) if causal and window else 0,
            stop + offset if causal else keys,
        )
        for start in range(0, queries, rows)
    ]


class _Work:
    """One call: what is known of it before anything is computed, and both directions.

    The query heads that share a key head become rows of one matrix product: [B, K, G, L, D]. As
    many key heads of an example are computed together as a block has room for: a few heads and
    many queries are faster than all heads and few.
    """

    def __init__(
        self,
        queries: mx.array,
        keys: mx.array,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None,
    ) -> None:
        self.batch, self.heads, length, _ = queries.shape
        self.groups, self.span = keys.shape[1], keys.shape[2]
        self.shared = self.heads // self.groups
        self.scale, self.has_sinks = scale, sinks is not None
        self.causal = isinstance(mask, str)
        self.masked = isinstance(mask, mx.array)
        self.boolean = isinstance(mask, mx.array) and mask.dtype == mx.bool_
        row = 4 * self.shared * self.span
        together = min(self.groups, max(1, BLOCK_BYTES // (row * MOST)))
        self.parts = [
            KeyHeads(example, head, min(head + together, self.groups))
            for example in range(self.batch)
            for head in range(0, self.groups, together)
        ]
        rows = BLOCK_BYTES // (row * together) // FEWEST * FEWEST
        window = window_of(mask) if length == self.span else None
        self.blocks = blocks_of(
            *(length, self.span, min(MOST, max(FEWEST, rows))),
            causal=self.causal or window is not None,
            window=window,
        )

    def forward(
        self, queries: mx.array, keys: mx.array, values: mx.array, *given: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Return the output, and of each query the highest score and the sum of its weights.

        Args:
            given: mask and sinks, as far as there are any.
        """
        mask, sinks = self._given(given)
        # A view of heads within tokens would be copied for every block.
        all_arrays = self._grouped(queries * self.scale), mx.contiguous(keys), mx.contiguous(values)
        done: list[mx.array] = []
        found: dict[KeyHeads, list[tuple[mx.array, ...]]] = {part: [] for part in self.parts}
        for block in self.blocks:
            seen = slice(block.first, block.last)
            for part, added in self._added(mask, block):
                asked, k, v = (x[part.cut] for x in all_arrays)
                (rows,) = self._rows([asked], block, done)
                scores = _scores(rows, k[:, :, seen], added)
                highest = mx.max(scores, axis=-1, keepdims=True)
                if sinks is not None:
                    sink = self._sink_rows(sinks, part, block)
                    highest = mx.maximum(highest, sink)
                weights = exp_nonpositive(scores - highest)
                total = mx.sum(weights, axis=-1, keepdims=True)
                if sinks is not None:
                    total = total + exp_nonpositive(sink - highest)
                mixed = (weights @ v[:, :, seen]) / total
                done = [mixed, highest, total]
                found[part].append(tuple(map(self._ungrouped, done)))
        whole = self._whole([_joined(blocks, axis=3) for blocks in found.values()])
        output, highest, total = whole
        return output.reshape(*queries.shape[:3], -1), highest, total

    def backward(
        self,
        primals: tuple[mx.array, ...],
        cotangents: tuple[mx.array, mx.array, mx.array],
        outputs: tuple[mx.array, mx.array, mx.array],
    ) -> tuple[mx.array, ...]:
        """Return the gradients of all arrays that :meth:`forward` takes."""
        queries, keys, values, *given = primals
        mask, sinks = self._given(given)
        output, highest, total = outputs
        cotangent = self._grouped(cotangents[0])
        drawn = mx.sum(cotangent * self._grouped(output), axis=-1, keepdims=True) / total
        asked = self._grouped(queries * self.scale)
        by_query = asked, cotangent / total, highest, drawn
        by_key = mx.contiguous(keys), mx.contiguous(values)
        done: list[mx.array] = []
        of_queries: dict[KeyHeads, list[mx.array]] = {part: [] for part in self.parts}
        of_keys = {part: _Sum() for part in self.parts}
        of_values = {part: _Sum() for part in self.parts}
        of_mask: dict[KeyHeads, list[mx.array]] = {part: [] for part in self.parts}
        for block in reversed(self.blocks):
            seen = slice(block.first, block.last)
            for part, added in self._added(mask, block):
                k, v = (x[part.cut][:, :, seen] for x in by_key)
                rows, out, top, pull = self._rows((x[part.cut] for x in by_query), block, done)
                weights = exp_nonpositive(_scores(rows, k, added) - top)
                done = of_values[part].add(block, weights, out)
                if self.boolean:
                    # The scores of a query that sees nothing are constants.
                    sees = top > HIDDEN / 2
                    out, pull = mx.where(sees, out, 0.0), mx.where(sees, pull, 0.0)
                slopes = weights * (out @ v.swapaxes(-1, -2) - pull)
                moved = slopes @ k
                done += [*of_keys[part].add(block, slopes, rows), moved]
                of_queries[part].insert(0, self._ungrouped(moved))
                of_mask[part].insert(0, self._ungrouped(slopes))
        moved, *rest = self._whole(
            [
                (
                    mx.concatenate(of_queries[part], axis=3),
                    of_keys[part].whole(),
                    of_values[part].whole(),
                )
                for part in self.parts
            ]
        )
        gradients = [moved.reshape(queries.shape) * self.scale, *rest]
        if mask is not None:
            gradients.append(self._mask_gradient(mask, list(of_mask.values())))
        if sinks is not None:
            weight = exp_nonpositive(sinks.reshape(self.groups, self.shared, 1, 1) - highest)
            gradients.append(-mx.sum(weight * drawn, axis=(0, 3, 4)).reshape(sinks.shape))
        return tuple(gradients)

    def _whole(self, found: Sequence[tuple[mx.array, ...]]) -> tuple[mx.array, ...]:
        """Put together what was computed for each of the parts."""
        each = len(found) // self.batch
        examples = [found[place : place + each] for place in range(0, len(found), each)]
        return _joined([_joined(heads, axis=1) for heads in examples], axis=0)

    def _given(self, given: Sequence[mx.array]) -> tuple[mx.array | None, mx.array | None]:
        """Return mask and sinks."""
        rest = list(given)
        return rest.pop(0) if self.masked else None, rest.pop(0) if self.has_sinks else None

    def _rows(
        self, arrays: Iterable[mx.array], block: Block, done: list[mx.array]
    ) -> list[mx.array]:
        """Return the queries of a block, [1, K, G * rows, D], there once ``done`` is computed."""
        parts = [x[:, :, :, block.start : block.stop] for x in arrays]
        parts = cast(list[mx.array], mx.depends(parts, done)) if done else parts
        return [x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in parts]

    def _ungrouped(self, rows: mx.array) -> mx.array:
        """Return [1, K, G * rows, D] as [1, K, G, rows, D]."""
        return rows.reshape(*rows.shape[:2], self.shared, -1, rows.shape[-1])

    def _grouped(self, x: mx.array) -> mx.array:
        """Return [B, H, L, D] as [B, K, G, L, D]."""
        return x.reshape(self.batch, self.groups, self.shared, *x.shape[2:])

    def _added(
        self, mask: mx.array | None, block: Block
    ) -> Iterator[tuple[KeyHeads, mx.array | None]]:
        """Yield each part, and what is added to its scores, to fit [1, K, G * rows, keys].

        Of what is hidden it is the lowest number there is, beside which a score is nothing.
        """
        count, width = block.stop - block.start, block.last - block.first
        if mask is None:
            added = None
            if self.causal:
                after = mx.arange(width)[None] > mx.arange(width - count, width)[:, None]
                added = self._for_rows(mx.where(after, HIDDEN, 0.0)[None, None], count, width)
            yield from ((part, added) for part in self.parts)
            return
        shape = self._mask_shape(mask)
        known: dict[tuple[tuple[int, int], ...], mx.array] = {}
        for part in self.parts:
            heads = slice(part.first * self.shared, part.last * self.shared)
            cuts = (
                part.cut[0],
                heads,
                slice(block.start, block.stop),
                slice(block.first, block.last),
            )
            places = tuple(
                (cut.start, cut.stop) if size > 1 else (0, 1)
                for cut, size in zip(cuts, shape, strict=True)
            )
            if places not in known:
                piece = mask.reshape(shape)[tuple(slice(*place) for place in places)]
                piece = mx.where(piece, 0.0, HIDDEN) if self.boolean else piece.astype(mx.float32)
                known = {places: self._for_rows(piece, count, width)}
            yield part, known[places]

    def _for_rows(self, added: mx.array, count: int, width: int) -> mx.array:
        """Return [1, H or 1, rows or 1, keys or 1] as [1, K or 1, G * rows, keys]."""
        heads = added.shape[1]
        groups = heads // self.shared if heads > 1 else 1
        added = added.reshape(1, groups, -1, *added.shape[2:])
        added = mx.broadcast_to(added, (1, groups, self.shared, count, width))
        return added.reshape(1, groups, -1, width)

    def _mask_shape(self, mask: mx.array) -> tuple[int, ...]:
        """Return the four dimensions of a mask."""
        return (1,) * (4 - mask.ndim) + tuple(mask.shape)

    def _mask_gradient(self, mask: mx.array, slopes: list[list[mx.array]]) -> mx.array:
        """Return the gradient of a mask.

        Args:
            slopes: of the scores, for each part and block, [1, K, G, rows, keys]. Nothing of them
                is computed unless somebody asks for the gradient.
        """
        if self.boolean:
            return mx.zeros_like(mask)
        examples, heads, queries, keys = (size > 1 for size in self._mask_shape(mask))
        wide = {1: heads, 2: heads, 3: queries, 4: keys}
        summed = [axis for axis, is_wide in wide.items() if not is_wide]
        found = [
            _put_together(
                [mx.sum(x, axis=summed, keepdims=True) if summed else x for x in blocks],
                *(3, queries),
            )
            for blocks in slopes
        ]
        each = len(found) // self.batch
        found = [_put_together(found[n : n + each], 1, heads) for n in range(0, len(found), each)]
        return _put_together(found, 0, examples).reshape(mask.shape).astype(mask.dtype)

    def _sink_rows(self, sinks: mx.array, part: KeyHeads, block: Block) -> mx.array:
        """Return the sink of each row, [1, K, G * rows, 1]."""
        mine = sinks.reshape(1, self.groups, self.shared, 1, 1)[:, part.first : part.last]
        shape = (*mine.shape[:3], block.stop - block.start, 1)
        return mx.broadcast_to(mine, shape).reshape(1, mine.shape[1], -1, 1)


class _Sum:
    """The gradient of keys or of values: the sum over blocks that come in turn, the last first.

    What no other block will add to is put aside, so that no sum is larger than it has to be. Kept
    as [1, K, D, keys]: so the product is a quarter faster.
    """

    def __init__(self) -> None:
        self.parts: list[mx.array] = []
        self.first = 0

    def add(self, block: Block, weights: mx.array, rows: mx.array) -> list[mx.array]:
        """Add rows^T @ weights to the keys of ``block``; return what is now to be computed."""
        turned = rows.swapaxes(-1, -2)
        if self.parts:
            before = self.parts.pop()
            common = block.last - self.first
            # Not a view, which would hold all of the sum.
            self.parts.append(mx.contiguous(before[..., common:]))
            before = _after_zeros(before[..., :common], self.first - block.first)
            self.parts.append(mx.addmm(before, turned, weights))
        else:
            self.parts.append(turned @ weights)
        self.first = block.first
        return self.parts[-2:]

    def whole(self) -> mx.array:
        """Return the gradient, [1, K, S, D]."""
        whole = mx.concatenate(self.parts[::-1], axis=-1)
        return _after_zeros(whole, self.first).swapaxes(-1, -2)


def _scores(rows: mx.array, keys: mx.array, added: mx.array | None) -> mx.array:
    """Return the masked scores of a block, [1, K, G * rows, keys]."""
    turned = keys.swapaxes(-1, -2)
    # A product that adds to what is there costs no pass of its own, as a mask would.
    return rows @ turned if added is None else mx.addmm(added, rows, turned)


def _after_zeros(x: mx.array, count: int) -> mx.array:
    """Return x, [1, K, D, keys], with so many keys before it."""
    return mx.pad(x, [(0, 0), (0, 0), (0, 0), (count, 0)]) if count else x


def _joined(found: Sequence[tuple[mx.array, ...]], axis: int) -> tuple[mx.array, ...]:
    """Return the first arrays of all one after the other along an axis, then the second ..."""
    return tuple(mx.concatenate(list(x), axis=axis) for x in zip(*found, strict=True))


def _put_together(arrays: list[mx.array], axis: int, along: bool) -> mx.array:
    """Return arrays one after the other along an axis, or, where it has one place, their sum."""
    if along:
        return mx.concatenate(arrays, axis=axis)
    whole = arrays[0]
    for array in arrays[1:]:
        whole = whole + array
    return whole
