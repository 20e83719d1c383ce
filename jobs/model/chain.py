"""A model's own forward, entered and left between its blocks.

Nothing of an architecture is rebuilt here. mlx-lm's own code runs, with stand-ins in the places of
some blocks: one that ends the run where the first adapted block would be called, others that hand
on what was kept from there. So masks and their windows, scales, caps, names and wrappers are the
model's own. What a stand-in passes over is a graph that nobody evaluates.

What crosses the boundary is found by a recording: the arrays that blocks below return and blocks
above are called with. That is the hidden state; some architectures hand on keys and values, or a
second residual, beside it. Where blocks above are called with something else made of the tokens
(embeddings for each block), the token ids cross the boundary, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, count
from typing import Any, cast

from jobs.backend.mlx import mx, nn, tree_map
from jobs.model.crossing import (
    DIGITS,
    SHAPES,
    Call,
    NotAChain,
    crossing,
    digits,
    leaf_of,
    leaves,
    needs_ids,
    probe_ids,
    without_ids,
)

Block = Any
LastBlock = Callable[[Block, mx.array, Any, mx.array], mx.array]


class _Reached(Exception):
    """A forward has come to where it was to end."""

    def __init__(self, value: mx.array) -> None:
        super().__init__()
        self.value = value


class _StandIn:
    """In the place of a block: called instead of it, and otherwise like it."""

    def __init__(self, block: Block, call: Callable[..., Any]) -> None:
        self.block, self.call = block, call

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.call(self.block, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    # The block's own class: some models ask which kind a block is.
    __class__: Any = property(lambda self: type(self.block))


class Chain:
    """A model whose blocks are called one after another, entered at the first adapted block.

    Args:
        module: mlx-lm's model.
        adapted: how many blocks, counted from the last, are adapted.
        grad_checkpoint: compute a block again in the backward pass rather than keep what it made.

    Attributes:
        boundary: the number of the first adapted block; 0: nothing is cut.
        last: how the last block is computed: block, states, mask, positions -> states there [P, D];
            None: everywhere, as any other.

    Raises:
        NotAChain: the blocks are called otherwise, or what crosses the boundary cannot be kept.
    """

    def __init__(self, module: nn.Module, adapted: int, *, grad_checkpoint: bool = False) -> None:
        self.module: Any = module
        self.lists = block_lists(module)
        self.boundary = len(self.lists[0]) - adapted
        self.grad_checkpoint = grad_checkpoint
        self.last: LastBlock | None = None
        calls = [self._recorded(shape) for shape in SHAPES]
        self.crossing = crossing(self.boundary, *calls)
        self.needs_ids = self.boundary > 0 and needs_ids(self.boundary, calls[0], self.crossing)
        self.end = leaf_of(calls[0][-1], calls[1][-1], 0)
        self._forms = [call.form() for call in calls[0]]

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in their order."""
        return self.lists[0]

    def prefix(self, ids: mx.array) -> mx.array:
        """Return the states that enter the first adapted block: token ids [B, L] -> [B, L, D]."""
        kept: dict[int, Any] = {}

        def lower(number: int, block: Block, arguments: Any, named: Any) -> Any:
            kept[number] = block(*arguments, **named)
            return kept[number]

        def reached(_number: int, _block: Block, _arguments: Any, _named: Any) -> Any:
            raise _Reached(self._packed(kept, ids))

        wanted = dict.fromkeys({leaf.block for leaf in self.crossing}, lower)
        return self._run(ids, {**wanted, self.boundary: reached})

    def with_ids(self, states: mx.array, ids: mx.array) -> mx.array:
        """Return what :meth:`prefix` returns for ``ids``, its states exchanged for others."""
        if not self.needs_ids:
            return states
        return mx.concatenate([states[..., :-DIGITS], digits(ids, states.dtype)], axis=-1)

    def rows(self, inputs: mx.array, positions: mx.array) -> mx.array:
        """Return what the last block returns at ``positions``.

        Args:
            inputs: states [B, L, D] as :meth:`prefix` returns them; token ids [B, L] without a cut.
            positions: in the flattened [B * L], shape [P].

        Returns:
            Shape [P, D].
        """
        ids, calls = self._entered(inputs)
        if self.grad_checkpoint:
            calls |= dict.fromkeys(range(self.boundary, len(self.blocks) - 1), _checkpointed)

        def last(_number: int, block: Block, arguments: Any, named: Any) -> Any:
            raise _Reached(self._last_rows(block, arguments, named, positions))

        return self._run(ids, {**calls, len(self.blocks) - 1: last})

    def head(self, rows: mx.array) -> mx.array:
        """Return the logits of what the last block returned: [P, D] -> [P, V]."""
        ids = mx.zeros((1, rows.shape[0]), dtype=mx.int32)

        def last(number: int, _block: Block, _arguments: Any, _named: Any) -> Any:
            return self._handed_on(number, {0: self.end.shaped(rows[None])})

        below = dict.fromkeys(range(len(self.blocks) - 1), self._passed)
        logits = self._run(ids, {**below, len(self.blocks) - 1: last})
        return logits.reshape(rows.shape[0], logits.shape[-1])

    def last_alone(
        self, last: LastBlock, made_up: Callable[[mx.array], mx.array], positions: mx.array
    ) -> mx.array:
        """Return the last block's output at ``positions`` of the probe, its states made up.

        Raises:
            NotAChain: it is called with more than states and a mask.
        """

        def reached(_number: int, block: Block, arguments: Any, named: Any) -> Any:
            states, mask = _states_and_mask(block, arguments, named)
            raise _Reached(last(block, made_up(states), mask, positions))

        below = dict.fromkeys(range(len(self.blocks) - 1), self._passed)
        return self._run(probe_ids(), {**below, len(self.blocks) - 1: reached})

    def _entered(self, inputs: mx.array) -> tuple[mx.array, dict[int, Any]]:
        """Return token ids, and how blocks below the boundary hand on the states ``inputs``."""
        if self.boundary == 0:
            return inputs, {}
        ids = mx.zeros(inputs.shape[:2], dtype=mx.int32)
        if self.needs_ids:
            inputs, ids = without_ids(inputs)
        given: dict[int, dict[int, mx.array]] = {}
        ends = list(accumulate(leaf.width for leaf in self.crossing))
        for leaf, end in zip(self.crossing, ends, strict=True):
            part = inputs if len(ends) == 1 else inputs[..., end - leaf.width : end]
            shaped = leaf.shaped(part.astype(leaf.dtype))
            given.setdefault(leaf.block, {})[leaf.place] = shaped

        def handed(number: int, _block: Block, _arguments: Any, _named: Any) -> Any:
            return self._handed_on(number, given[number])

        calls: dict[int, Any] = dict.fromkeys(range(self.boundary), self._passed)
        return ids, {**calls, **dict.fromkeys(given, handed)}

    def _last_rows(self, block: Block, arguments: Any, named: Any, positions: mx.array) -> mx.array:
        last, end = self.last, self.end

        def at_positions(block: Block, *arguments: Any, **named: Any) -> mx.array:
            if last is None:
                return flat(end.flat(leaves(block(*arguments, **named))[0]))[positions]
            return last(block, *_states_and_mask(block, arguments, named), positions)

        if self.grad_checkpoint:
            return cast(mx.array, _again(at_positions, block, arguments, named))
        return at_positions(block, *arguments, **named)

    def _passed(self, number: int, _block: Block, arguments: Any, _named: Any) -> Any:
        """Stand for a block whose result nobody needs: what went in comes out."""
        return self._handed_on(number, {0: arguments[0]} if arguments else {})

    def _handed_on(self, number: int, given: Mapping[int, mx.array]) -> Any:
        """Return what block ``number`` returns, with these arrays in it and no others computed."""
        places = count()
        exchanged = lambda x: given.get(next(places), x) if isinstance(x, mx.array) else x  # noqa: E731
        return tree_map(exchanged, self._forms[number])

    def _run(self, ids: mx.array, calls: Mapping[int, Any]) -> mx.array:
        """Run the model's forward with stand-ins; return what it, or one that ends it, gives."""
        with self._exchanged(calls):
            try:
                return cast(mx.array, self.module(ids))
            except _Reached as reached:
                return reached.value

    @contextmanager
    def _exchanged(self, calls: Mapping[int, Any]) -> Iterator[None]:
        """Put stand-ins in the places of blocks: number -> call(number, block, args, kwargs)."""
        blocks = list(self.blocks)
        stand_ins = {n: _StandIn(blocks[n], _numbered(call, n)) for n, call in calls.items()}
        try:
            for each in self.lists:
                for number, stand_in in stand_ins.items():
                    each[number] = stand_in
            yield
        finally:
            for each in self.lists:
                each[:] = blocks

    def _recorded(self, shape: tuple[int, int]) -> list[Call]:
        """Return the calls of the blocks in a forward that is never evaluated."""
        calls: list[Call] = []

        def record(number: int, block: Block, arguments: Any, named: Any) -> Any:
            got = leaves((arguments, named))
            first = arguments[0] if arguments else None
            returned = block(*arguments, **named)
            calls.append(Call(number, got, first, returned))
            return returned

        self._run(probe_ids(shape), dict.fromkeys(range(len(self.blocks)), record))
        if [call.block for call in calls] != list(range(len(self.blocks))):
            raise NotAChain("its blocks are not called one after another, once each")
        return calls

    def _packed(self, kept: Mapping[int, Any], ids: mx.array) -> mx.array:
        """Return all that crosses the boundary as one array, [B, L, D]."""
        parts = [leaf.flat(leaves(kept[leaf.block])[leaf.place]) for leaf in self.crossing]
        widest = max((part.dtype for part in parts), key=lambda dtype: dtype.size)
        if self.needs_ids:
            parts.append(digits(ids, widest))
        if len(parts) == 1:
            return parts[0]
        return mx.concatenate([part.astype(widest) for part in parts], axis=-1)


def block_lists(module: Any) -> list[list[Block]]:
    """Return the lists in which a model holds its blocks, most often one.

    Raises:
        NotAChain: it holds them otherwise.
    """
    blocks = list(module.layers)
    found = {
        id(value): value
        for part in module.modules()
        for value in part.values()
        if isinstance(value, list) and _same(value, blocks)
    }
    if not found:
        raise NotAChain("its blocks do not stand in a list")
    return list(found.values())


def flat(x: mx.array) -> mx.array:
    """Return [B, L, D] as [B * L, D]."""
    return x.reshape(-1, x.shape[-1])


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _numbered(call: Any, number: int) -> Callable[..., Any]:
    return lambda block, arguments, named: call(number, block, arguments, named)


def _called(block: Block, *arguments: Any, **named: Any) -> Any:
    return block(*arguments, **named)


def _checkpointed(_number: int, block: Block, arguments: Any, named: Any) -> Any:
    """Stand for a block that is computed again in the backward pass."""
    return _again(_called, block, arguments, named)


def _again(compute: Callable[..., Any], block: Block, arguments: Any, named: Any) -> Any:
    """Compute ``compute(block, ...)``, and again in the backward pass; keep its arguments alone."""
    given = (arguments, named)
    arrays = leaves(given)
    shape: Any = None

    # The adapter is an argument: what a checkpoint only refers to would get no gradient.
    def inner(parameters: Any, arrays: list[mx.array]) -> list[mx.array]:
        nonlocal shape
        rest = iter(arrays)
        got, names = tree_map(lambda x: next(rest) if isinstance(x, mx.array) else x, given)
        block.update(parameters)
        shape = compute(block, *got, **names)
        return leaves(shape)

    checkpointed: Any = mx.checkpoint(inner)
    computed = iter(checkpointed(block.trainable_parameters(), arrays))
    return tree_map(lambda x: next(computed) if isinstance(x, mx.array) else x, shape)


def _states_and_mask(block: Block, arguments: Any, named: Any) -> tuple[mx.array, Any]:
    """Return what a block is called with, where that is states and a mask alone.

    Raises:
        NotAChain: it is called with more.
    """
    bound = inspect.signature(block.__call__).bind(*arguments, **named).arguments
    states = next(iter(bound))
    if any(bound[name] is not None for name in bound if name not in (states, "mask")):
        raise NotAChain("its blocks are called with more than states and a mask")
    return bound[states], bound.get("mask")
