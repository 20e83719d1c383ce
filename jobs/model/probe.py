"""Whether the shortcuts of training compute what the plain way does, in both directions.

The last block trimmed, the head apart, its loss by slices, our own functions, our own LoRA layer:
each rests on how an architecture computes. So a loss and its gradients are computed with them and
without, on a few made up tokens, and what makes a difference is left out. Nothing is drawn at
random, and of a cut model nothing below its first adapted block is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from jobs.backend import convolution
from jobs.backend import cpu_ops as cpu
from jobs.backend.convolution import ShiftedConvolution
from jobs.backend.mlx import DoRALinear, LoRALinear, mx, named, nn, tree_unflatten
from jobs.model.adapter_fit import Arrays
from jobs.model.crossing import probe_ids
from jobs.model.dora import NarrowDoRALinear
from jobs.model.gated_delta import CHUNKED
from jobs.model.lora import CpuLoRALinear
from jobs.model.losses import Result, same, token_losses
from jobs.model.slice_size import FLOAT32
from jobs.model.split import LanguageModel, probe_inputs, untrimmed, whole

# By how much the matrices are moved: B is zero at the start, and A has no gradient then.
MOVED = 0.02

TRIMMED, HEAD = "the last block at the targets alone", "the head at the targets alone"
FUNCTIONS, LAYER = "faster functions for a CPU", "a faster adapted layer"
CHUNKS = "gated delta layers by chunks"
SLICES = "the loss by slices of its targets"

Losses = Callable[[LanguageModel, mx.array, mx.array, mx.array], mx.array]


def settled(model: LanguageModel) -> tuple[LanguageModel, tuple[str, ...]]:
    """Return ``model`` without the shortcuts that give another result, and the names of those.

    Raises:
        Exception: whatever the library raises, where the plain way cannot be computed or has no
            gradient.
    """
    used = _used(model)
    # Of quantized weights mlx-lm's layer multiplies with what it has rounded to 16 bits before.
    half = any(
        isinstance(layer, NarrowDoRALinear) and layer.half for layer in model.module.modules()
    )
    with _moved(model.module):
        plain = _left(model, used, without=used)
        inputs = probe_inputs(plain)
        expected = _result(plain, inputs, _plain_losses)
        for without in ((), *((name,) for name in used)):
            chosen = _left(model, used, without)
            if _agrees(chosen, inputs, expected, half=half):
                break
        else:
            chosen, without = _left(model, used, without=used), used
        if chosen.slice_bytes is None or _agrees(
            _in_slices(chosen, inputs), inputs, expected, half=half
        ):
            return chosen, without
        return replace(chosen, slice_bytes=None), (*without, SLICES)


def cut_agrees(model: LanguageModel) -> bool:
    """Tell whether the gradients of a cut model are those of the whole. Reads all weights."""
    if model.prefix is None:
        return True
    with _moved(model.module):
        ids = probe_ids()
        expected = _result(whole(model.module, ""), ids, token_losses)
        return _agrees(model, model.prefix(ids), expected)


def bypassed_layers(module: nn.Module) -> list[str]:
    """Return the names of the adapted layers for which alone the model cannot be computed."""
    layers = {
        path: layer
        for path, layer in module.named_modules()
        if isinstance(layer, LoRALinear | DoRALinear)
    }
    names = sorted({path.rpartition(".")[2] for path in layers})

    def fails_with(name: str) -> bool:
        chosen = {
            path: layer if path.rpartition(".")[2] == name else layer.linear
            for path, layer in layers.items()
        }
        module.update_modules(tree_unflatten(list(chosen.items())))
        try:
            mx.eval(module(probe_ids()))
        except Exception:  # whatever a block raises that looks for the layer it knows
            return True
        return False

    try:
        return [] if fails_with("") else [name for name in names if fails_with(name)]
    finally:
        module.update_modules(tree_unflatten(list(layers.items())))


def _used(model: LanguageModel) -> tuple[str, ...]:
    """Return the names of the shortcuts that ``model`` takes."""
    taken = {
        TRIMMED: model.chain is not None and model.chain.last is not None,
        FUNCTIONS: bool(cpu.FAST.used(model.module)) or convolution.used(model.module),
        CHUNKS: bool(CHUNKED.used(model.module)),
        LAYER: any(
            isinstance(layer, CpuLoRALinear | NarrowDoRALinear) for layer in model.module.modules()
        ),
        HEAD: model.prefix is None and model.chain is not None,
    }
    return tuple(name for name, is_taken in taken.items() if is_taken)


def _left(model: LanguageModel, used: tuple[str, ...], without: tuple[str, ...]) -> LanguageModel:
    """Return ``model`` with what is used of the shortcuts but some; the process is set to it."""
    for name, ours in ((FUNCTIONS, cpu.FAST), (CHUNKS, CHUNKED)):
        if name in used:
            (ours.put_back if name in without else ours.put_in)(model.module)
    ShiftedConvolution.fast = FUNCTIONS not in without
    CpuLoRALinear.fast = NarrowDoRALinear.fast = LAYER not in without
    if TRIMMED in without:
        return untrimmed(model)
    if HEAD in without:
        return whole(model.module, model.whole_because)
    return model


def _in_slices(model: LanguageModel, inputs: mx.array) -> LanguageModel:
    """Return ``model`` with the few targets of a probe in several slices."""
    logits = model.head(model.rows(inputs, _positions()))
    return replace(model, slice_bytes=FLOAT32 * logits.size // 3, least_rows=1)


def _positions() -> mx.array:
    return mx.arange(2, probe_ids().size, 3)


def _agrees(
    model: LanguageModel, inputs: mx.array, expected: Result, *, half: bool = False
) -> bool:
    try:
        return same(*_result(model, inputs, token_losses), *expected, half=half)
    except Exception:  # whatever the blocks and MLX raise
        return False


def _result(model: LanguageModel, inputs: mx.array, losses: Losses) -> Result:
    positions = _positions()
    targets = (positions * 7) % probe_ids().size

    def loss_of(adapter: Arrays) -> mx.array:
        model.module.update(tree_unflatten(list(adapter.items())))
        return mx.sum(losses(model, inputs, positions, targets))

    adapter = named(model.module.trainable_parameters())
    loss, gradients = mx.value_and_grad(loss_of)(adapter)
    # What was traced must not stay in the module.
    model.module.update(tree_unflatten(list(adapter.items())))
    mx.eval(loss, gradients)
    return loss, gradients


def _plain_losses(
    model: LanguageModel, inputs: mx.array, positions: mx.array, targets: mx.array
) -> mx.array:
    logits = model.head(model.rows(inputs, positions)).astype(mx.float32)
    return nn.losses.cross_entropy(logits, targets, reduction="none")


@contextmanager
def _moved(module: nn.Module) -> Iterator[None]:
    """Move the adapter away from its start, by the same everywhere; afterwards it is as it was."""
    before = named(module.trainable_parameters())
    moved = {name: array + _wave(array) for name, array in before.items()}
    module.update(tree_unflatten(list(moved.items())))
    try:
        yield
    finally:
        module.update(tree_unflatten(list(before.items())))


def _wave(array: mx.array) -> mx.array:
    return MOVED * mx.sin(mx.arange(array.size)).reshape(array.shape).astype(array.dtype)
