"""Where a language model can be cut: below the first adapted block, and before the head.

Nothing below the first adapted block is trained or random, so what enters that block is a constant
of (model, data); and the head need only run where a target is predicted. Both cuts rest on how the
architecture computes, so both are tried on a probe before they are believed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.backend import cpu_ops as cpu
from jobs.backend.mlx import base, mx, nn
from jobs.errors import ModelError
from jobs.model.gated_delta import CHUNKED

NOT_A_CHAIN = "its blocks are not a plain chain"
NOTHING_FROZEN = "all its blocks are adapted, so nothing is frozen below them"
# Two short rows: enough to tell attention that is not plainly causal from one that is.
PROBE_SHAPE = (2, 24)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model, cut where training wants it.

    Attributes:
        module: mlx-lm's model.
        prefix: token ids [B, L] -> the states [B, L, D] that enter the first adapted block; None
            where the model is not cut there, and ``rows`` takes token ids.
        rows: states [B, L, D] (or token ids [B, L]), and positions [P] in the flattened [B * L] ->
            the final hidden states there, [P, D].
        head: final hidden states [P, D] -> logits [P, V].
        whole_because: why there is no prefix.
        chain: what ``rows`` runs block by block, so that they can be checkpointed; None where it
            runs the module itself.
        head_apart: ``head`` is the model's own, not the identity on logits.
    """

    module: nn.Module
    prefix: Callable[[mx.array], mx.array] | None
    rows: Callable[[mx.array, mx.array], mx.array]
    head: Callable[[mx.array], mx.array]
    whole_because: str | None = None
    chain: Chain | None = None
    head_apart: bool = True


class Chain:
    """A model whose blocks follow one another, each seeing only the states of the one before.

    Args:
        body: the model without its head.
        adapted: how many blocks, counted from the last, are adapted.
        grad_checkpoint: compute a block again in the backward pass rather than keep what it made.

    Attributes:
        last: how the last block is computed: states, mask, positions -> states there [P, D].
    """

    def __init__(self, body: Any, adapted: int, *, grad_checkpoint: bool = False) -> None:
        self.body = body
        self.boundary = len(body.layers) - adapted
        self.grad_checkpoint = grad_checkpoint
        self.last: Callable[..., mx.array] = whole_last_block

    @property
    def is_trimmed(self) -> bool:
        """Tell whether the last block is computed at the asked positions alone."""
        return self.last is not whole_last_block

    def prefix(self, ids: mx.array) -> mx.array:
        """Return the states that enter the first adapted block."""
        states: mx.array = self.body.embed_tokens(ids)
        mask = base.create_attention_mask(states)
        for block in self.body.layers[: self.boundary]:
            states = block(states, mask, None)
        return states

    def rows(self, states: mx.array, positions: mx.array) -> mx.array:
        """Return the final hidden states at ``positions``."""
        mask = base.create_attention_mask(states)
        *blocks, last = self.body.layers[self.boundary :]
        for block in blocks:
            states = self._run(lambda b, x: b(x, mask, None), block, states)
        states = self._run(lambda b, x: self.last(b, x, mask, positions), last, states)
        rows: mx.array = self.body.norm(states)
        return rows

    def _run(self, compute: Callable[[Any, mx.array], mx.array], block: Any, x: mx.array) -> Any:
        if not self.grad_checkpoint:
            return compute(block, x)

        # The adapter is an argument: what a checkpoint only refers to would get no gradient.
        def inner(parameters: dict[str, Any], x: mx.array) -> mx.array:
            block.update(parameters)
            return compute(block, x)

        return mx.checkpoint(inner)(block.trainable_parameters(), x)


def whole_last_block(block: Any, states: mx.array, mask: Any, positions: mx.array) -> mx.array:
    """Return a block's output at ``positions``, computed everywhere."""
    return flat(block(states, mask, None))[positions]


def trimmed_last_block(block: Any, states: mx.array, mask: Any, positions: mx.array) -> mx.array:
    """Return a block's output at ``positions``, computed there alone as far as possible.

    Attention needs the keys and values of all positions; the output projection and the MLP, four
    fifths of a block's arithmetic, do not.
    """
    attended = attend(block.self_attn, block.input_layernorm(states), mask)
    states = flat(states)[positions] + block.self_attn.o_proj(flat(attended)[positions])
    out: mx.array = states + block.mlp(block.post_attention_layernorm(states))
    return out


def attend(attention: Any, x: mx.array, mask: Any) -> mx.array:
    """Return what enters the output projection of mlx-lm's usual attention layer."""
    batch, length, _ = x.shape

    def heads(projected: mx.array, count: int) -> mx.array:
        return projected.reshape(batch, length, count, -1).swapaxes(1, 2)

    # The function by that name in the architecture's module: on a CPU it is ours.
    function = sys.modules[type(attention).__module__].scaled_dot_product_attention
    mixed: mx.array = function(
        attention.rope(heads(attention.q_proj(x), attention.n_heads)),
        attention.rope(heads(attention.k_proj(x), attention.n_kv_heads)),
        heads(attention.v_proj(x), attention.n_kv_heads),
        cache=None,
        scale=attention.scale,
        mask=mask,
    )
    return mixed.swapaxes(1, 2).reshape(batch, length, -1)


def flat(x: mx.array) -> mx.array:
    """Return [B, L, D] as [B * L, D]."""
    return x.reshape(-1, x.shape[-1])


def split_model(
    module: nn.Module, adapted: int, max_seq_length: int, *, grad_checkpoint: bool = False
) -> LanguageModel:
    """Cut a model wherever that can be done, without reading the weights below the boundary.

    Before anything is computed with the prefix, :func:`verified` has to have seen the model once.

    Args:
        adapted: how many blocks, counted from the last, are adapted.
        max_seq_length: longest sequence it will see.
        grad_checkpoint: compute blocks again in the backward pass; needs the cut.
    """
    body, head = _parts(module)
    if body is None:
        return uncut(module, "its parts do not have the usual names")
    chain = Chain(body, adapted, grad_checkpoint=grad_checkpoint)
    try:
        _trim(chain)
        # A graph that is never evaluated: it tells whether the blocks can be called like this.
        chain.rows(chain.prefix(probe_ids()), mx.arange(1))
        window = _window(module, max_seq_length)
    except Exception:  # blocks that are called, or built, otherwise than most raise anything
        return uncut(module, NOT_A_CHAIN)
    if window is not None:
        return uncut(module, f"its attention sees only the last {window} tokens")
    return _cut(module, chain, head)


def verified(model: LanguageModel) -> LanguageModel:
    """Return ``model`` if it computes the same cut as whole, up to rounding, else the model uncut.

    Reads all weights.

    Raises:
        ModelError: the architecture cannot be computed, or not be trained.
    """
    ids = probe_ids()
    expected = _logits(model.module, ids)
    try:
        inputs = model.prefix(ids) if model.prefix else ids
        cut = model.head(model.rows(inputs, mx.arange(ids.size)))
        agrees = _close(cut, flat(expected)) and _compiles(model)
    except Exception:  # whatever the blocks and MLX raise
        agrees = False
    return model if agrees else uncut(model.module, NOT_A_CHAIN)


def uncut(module: nn.Module, because: str) -> LanguageModel:
    """Return a model that computes all its blocks every time; the head may still be apart.

    Some architectures scale or cap their logits after the head: there nothing is cut.

    Raises:
        ModelError: the architecture cannot be computed, or not be trained.
    """
    body, head = _parts(module)
    ids = probe_ids()
    expected = _logits(module, ids)
    try:
        apart = body is not None and _close(head(body(ids)), expected)
    except Exception:  # a body that is called otherwise
        apart = False
    if not apart:
        return whole(module, because)
    rows = lambda ids, positions: flat(body(ids))[positions]  # noqa: E731
    return LanguageModel(module, None, rows, head, because)


def whole(module: Any, because: str | None) -> LanguageModel:
    """Return a model that computes everything everywhere, as mlx-lm does."""
    rows = lambda ids, positions: flat(module(ids))[positions]  # noqa: E731
    return LanguageModel(module, None, rows, lambda logits: logits, because, head_apart=False)


def untrimmed(model: LanguageModel) -> LanguageModel:
    """Return a model whose last block is computed everywhere."""
    if model.chain is None:
        return model
    chain = Chain(model.chain.body, 0, grad_checkpoint=model.chain.grad_checkpoint)
    chain.boundary = model.chain.boundary
    return _cut(model.module, chain, model.head)


def probe_ids() -> mx.array:
    """Return two short rows of token ids, [2, 24], by which a model is tried."""
    return mx.arange(math.prod(PROBE_SHAPE)).reshape(PROBE_SHAPE)


def probe_inputs(model: LanguageModel) -> mx.array:
    """Return what ``model.rows`` takes: of a cut model made up states, without what is below."""
    ids = probe_ids()
    # A graph that is never evaluated tells their shape and type.
    return ids if model.prefix is None else _wave(model.prefix(ids))


def _cut(module: nn.Module, chain: Chain, head: Callable[[mx.array], mx.array]) -> LanguageModel:
    if chain.boundary == 0:
        rows = lambda ids, positions: chain.rows(chain.prefix(ids), positions)  # noqa: E731
        return LanguageModel(module, None, rows, head, NOTHING_FROZEN, chain)
    return LanguageModel(module, chain.prefix, chain.rows, head, chain=chain)


def _logits(module: Any, ids: mx.array) -> mx.array:
    """Return the logits of a model, which must not depend on what comes later.

    Raises:
        ModelError: they do, or cannot be computed.
    """
    logits = _computed(module, ids)
    if not _is_causal(module, ids, logits):
        raise ModelError(
            f"The architecture {_name(module)} cannot be trained: in mlx-lm with this config.json, "
            "a token's result depends on tokens that come later.",
            "Compare its config.json with that of the model it comes from, or take another model.",
        )
    return logits


def _computed(module: Any, ids: mx.array) -> mx.array:
    try:
        logits: mx.array = module(ids)
        mx.eval(logits)
        return logits
    except Exception as error:  # whatever the architecture and MLX raise
        for ours in (cpu.FAST, CHUNKED):
            if ours.used(module):
                ours.put_back(module)
                return _computed(module, ids)
        raise failed(module, error) from error


def failed(module: Any, error: Exception) -> ModelError:
    """Return what to tell of an architecture whose blocks, or their gradient, raise ``error``."""
    return ModelError(
        f"The architecture {_name(module)} cannot be trained: mlx-lm's own code for it fails "
        f"({type(error).__name__}: {error}).",
        "Take a model of another architecture: docs/models.md lists those that train.",
    )


def _is_causal(module: Any, ids: mx.array, logits: mx.array) -> bool:
    """Tell whether the first half of a row has the same logits without the second.

    The median counts: where an expert is chosen by a hair, a position may differ.
    """
    half = ids.shape[1] // 2
    off = mx.max(mx.abs(module(ids[:, :half]) - logits[:, :half]), axis=-1)
    # Damaged weights, whose results are not numbers, are told of as such later.
    return not bool(mx.median(off) > _tolerance(logits) * mx.max(mx.abs(logits)))


def _compiles(model: LanguageModel) -> bool:
    """Tell whether the compiled prefix computes what the other does."""
    if model.prefix is None:
        return True
    ids = probe_ids()
    return _close(mx.compile(model.prefix)(ids), model.prefix(ids))


def _name(module: Any) -> str:
    name: str = type(module).__module__.rpartition(".")[2]
    return name


def _parts(module: Any) -> tuple[Any, Callable[[mx.array], mx.array]]:
    """Return a model's body, or None where it has not the usual parts, and its head."""
    body = getattr(module, "model", None)
    if body is None or not all(hasattr(body, name) for name in ("embed_tokens", "layers", "norm")):
        return None, lambda logits: logits
    return body, module.lm_head if "lm_head" in module else body.embed_tokens.as_linear


def _window(module: Any, length: int) -> int | None:
    """Return the width of the narrowest window that a model's attention has in so long a sequence.

    A configuration may name a window that no block uses. So the model is called, though nothing is
    computed, and what it asks the one function for with which mlx-lm masks is listened to.
    """
    asked: set[int] = set()
    mask_of = base.create_causal_mask

    def listening(*arguments: Any, **options: Any) -> mx.array:
        if window := options.get("window_size"):
            asked.add(window)
        mask: mx.array = mask_of(*arguments, **options)
        return mask

    base.create_causal_mask = listening
    try:
        module(mx.zeros((1, length), dtype=mx.int32))
    finally:
        base.create_causal_mask = mask_of
    return min(asked, default=None)


def _trim(chain: Chain) -> None:
    """Compute the last block at target positions alone, where that gives the same result."""
    weight = chain.body.norm.weight
    states = _wave(mx.zeros((*PROBE_SHAPE, weight.size), dtype=weight.dtype))
    block, mask = chain.body.layers[-1], base.create_attention_mask(states)
    positions = mx.arange(3, math.prod(PROBE_SHAPE), 5)
    expected = whole_last_block(block, states, mask, positions)
    try:
        if _close(trimmed_last_block(block, states, mask, positions), expected):
            chain.last = trimmed_last_block
    except Exception:  # parts with other names, or that are called otherwise
        chain.last = whole_last_block


def _wave(array: mx.array) -> mx.array:
    """Return made up numbers of the shape and type of ``array``, which is not computed."""
    return mx.sin(mx.arange(array.size)).reshape(array.shape).astype(array.dtype)


def _close(one: mx.array, other: mx.array) -> bool:
    """Tell whether two results differ by rounding only: another architecture differs grossly."""
    if one.shape != other.shape:
        return False
    difference, scale = mx.max(mx.abs(one - other)), mx.max(mx.abs(other))
    return bool(difference <= _tolerance(one) * scale)


def _tolerance(array: mx.array) -> float:
    return 1e-4 if array.dtype == mx.float32 else 2e-2
