"""Where a language model can be cut: below the first adapted block, and before the head.

Nothing below the first adapted block is trained or random, so what enters that block is a constant
of (model, data); and the head need only run where a target is predicted. Both cuts rest on how the
architecture computes, so both are tried on a probe before they are believed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.backend import cpu_ops as cpu
from jobs.backend.attention import is_long
from jobs.backend.mlx import mx, nn
from jobs.errors import ModelError
from jobs.model.chain import Chain, block_lists, flat
from jobs.model.crossing import NotAChain, probe_ids
from jobs.model.gated_delta import CHUNKED
from jobs.model.slice_size import LEAST_ROWS, SLICE_BYTES

NOT_A_CHAIN = "entered at its first adapted block, it computes something else"
NOTHING_FROZEN = "all its blocks are adapted, so nothing is frozen below them"


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model, cut where training wants it.

    Attributes:
        module: mlx-lm's model.
        prefix: token ids [B, L] -> the states [B, L, D] that enter the first adapted block; None
            where the model is not cut there, and ``rows`` takes token ids.
        rows: states [B, L, D] (or token ids [B, L]), and positions [P] in the flattened [B * L] ->
            what the last block returns there, [P, D].
        head: what the last block returns [P, D] -> logits [P, V].
        whole_because: why there is no prefix.
        chain: what ``rows`` and ``head`` are parts of; None where ``rows`` runs the module itself,
            and ``head`` is the identity on logits.
        slice_bytes: how large the float32 logits of a loss may be before it is computed by slices
            of rows; None where it never is.
        least_rows: how many rows a slice has at least, whatever their logits take.
    """

    module: nn.Module
    prefix: Callable[[mx.array], mx.array] | None
    rows: Callable[[mx.array, mx.array], mx.array]
    head: Callable[[mx.array], mx.array]
    whole_because: str | None = None
    chain: Chain | None = None
    slice_bytes: int | None = SLICE_BYTES
    least_rows: int = LEAST_ROWS


def whole_last_block(block: Any, states: mx.array, mask: Any, positions: mx.array) -> mx.array:
    """Return a block's output at ``positions``, computed everywhere."""
    return flat(block(states, mask, None))[positions]


def trimmed_last_block(block: Any, states: mx.array, mask: Any, positions: mx.array) -> mx.array:
    """Return a block's output at ``positions``, computed there alone as far as possible.

    Attention needs the keys and values of all positions; the output projection and the MLP, four
    fifths of a block's arithmetic, do not.
    """
    attended = attend(block.self_attn, block.input_layernorm(states), mask, positions)
    states = flat(states)[positions] + block.self_attn.o_proj(attended)
    out: mx.array = states + block.mlp(block.post_attention_layernorm(states))
    return out


def attend(attention: Any, x: mx.array, mask: Any, positions: mx.array) -> mx.array:
    """Return what enters the output projection of mlx-lm's usual attention layer at ``positions``.

    Of a long text with short answers only the targets ask. Every example is asked at the places of
    all targets, so that the shapes do not depend on which example a target is of.
    """
    batch, length, _ = x.shape

    def heads(projected: mx.array, count: int) -> mx.array:
        return projected.reshape(batch, length, count, -1).swapaxes(1, 2)

    # The function by that name in the architecture's module: on a CPU it is ours.
    function = sys.modules[type(attention).__module__].scaled_dot_product_attention
    queries = attention.rope(heads(attention.q_proj(x), attention.n_heads))
    keys = attention.rope(heads(attention.k_proj(x), attention.n_kv_heads))
    values = heads(attention.v_proj(x), attention.n_kv_heads)
    ours = function is cpu.attention and isinstance(mask, str) and is_long(queries, keys)
    # A causal mask lets a whole attention leave out half of its scores.
    few = ours and 2 * positions.size <= length
    if few:
        places = positions % length
        queries, mask = queries[:, :, places], mx.arange(length) <= places[:, None]
    mixed: mx.array = function(
        queries, keys, values, cache=None, scale=attention.scale, mask=mask
    ).swapaxes(1, 2)
    if few:
        return mixed[positions // length, mx.arange(positions.size)].flatten(1)
    return flat(mixed.reshape(batch, length, -1))[positions]


def split_model(module: nn.Module, adapted: int, *, grad_checkpoint: bool = False) -> LanguageModel:
    """Cut a model wherever that can be done, without reading the weights below the boundary.

    Before anything is computed with the prefix, :func:`verified` has to have seen the model once.

    Args:
        adapted: how many blocks, counted from the last, are adapted.
        grad_checkpoint: compute blocks again in the backward pass; needs the cut.
    """
    try:
        chain = Chain(module, adapted, grad_checkpoint=grad_checkpoint)
        # A graph that is never evaluated: it tells whether the blocks can be called like this.
        inputs = chain.prefix(probe_ids()) if chain.boundary else probe_ids()
        chain.head(chain.rows(inputs, mx.arange(1)))
    except NotAChain as error:
        return uncut(module, str(error), grad_checkpoint=grad_checkpoint)
    except Exception:  # blocks that are called, or built, otherwise than most raise anything
        return uncut(module, NOT_A_CHAIN, grad_checkpoint=grad_checkpoint)
    _trim(chain)
    return _cut(chain)


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
    return model if agrees else uncut_of(model, NOT_A_CHAIN)


def uncut_of(model: LanguageModel, because: str) -> LanguageModel:
    """Return a cut model as it is uncut."""
    again = model.chain is not None and model.chain.grad_checkpoint
    return uncut(model.module, because, grad_checkpoint=again)


def uncut(module: nn.Module, because: str, *, grad_checkpoint: bool = False) -> LanguageModel:
    """Return a model that computes all its blocks every time; the head may still be apart.

    Raises:
        ModelError: the architecture cannot be computed, or not be trained.
    """
    ids = probe_ids()
    expected = _logits(module, ids)
    try:
        chain = Chain(module, len(block_lists(module)[0]), grad_checkpoint=grad_checkpoint)
        model = _cut(chain, because)
        apart = _close(model.head(model.rows(ids, mx.arange(ids.size))), flat(expected))
    except Exception:  # blocks that are called otherwise
        apart = False
    return model if apart else whole(module, because)


def whole(module: Any, because: str | None) -> LanguageModel:
    """Return a model that computes everything everywhere, as mlx-lm does."""
    rows = lambda ids, positions: flat(module(ids))[positions]  # noqa: E731
    return LanguageModel(module, None, rows, lambda logits: logits, because)


def untrimmed(model: LanguageModel) -> LanguageModel:
    """Return a model whose last block is computed everywhere."""
    if model.chain is None:
        return model
    chain = copy.copy(model.chain)
    chain.last = None
    return _cut(chain, model.whole_because)


def probe_inputs(model: LanguageModel) -> mx.array:
    """Return what ``model.rows`` takes: of a cut model made up states, without what is below."""
    ids = probe_ids()
    if model.chain is None or model.prefix is None:
        return ids
    # A graph that is never evaluated tells their shape and type.
    return model.chain.with_ids(_wave(model.prefix(ids)), ids)


def _cut(chain: Chain, because: str | None = None) -> LanguageModel:
    if chain.boundary == 0:
        because = because or NOTHING_FROZEN
        return LanguageModel(chain.module, None, chain.rows, chain.head, because, chain)
    return LanguageModel(chain.module, chain.prefix, chain.rows, chain.head, chain=chain)


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


def _trim(chain: Chain) -> None:
    """Compute the last block at target positions alone, where that gives the same result."""
    positions = mx.arange(3, probe_ids().size, 5)
    try:
        trimmed, expected = (
            chain.last_alone(last, _wave, positions)
            for last in (trimmed_last_block, whole_last_block)
        )
        if _close(trimmed, expected):
            chain.last = trimmed_last_block
    except Exception:  # parts with other names, or that are called otherwise
        chain.last = None


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
