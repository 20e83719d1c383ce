"""Quantized layers made into plain ones, all numbers of one type.

mlx-lm's own ``dequantize_model`` names no type, and MLX then gives bfloat16 for weights in mxfp4,
nvfp4 and mxfp8. It also passes over the scale that nvfp4 weights of experts have for each expert.
"""

from __future__ import annotations

from typing import Any, cast

from jobs.backend.mlx import (
    MultiLinear,
    QuantizedMultiLinear,
    QuantizedSwitchLinear,
    SwitchLinear,
    mx,
    nn,
    tree_unflatten,
)

QUANTIZED = (nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear, QuantizedMultiLinear)


def is_quantized(layer: nn.Module) -> bool:
    """Tell whether a layer holds its weight in groups that share a scale."""
    return "scales" in layer


def dequantize_model(module: nn.Module, dtype: mx.Dtype) -> None:
    """Replace each quantized layer of MLX or mlx-lm by a plain one, its arrays in ``dtype``.

    Nothing is computed yet. Layers of other kinds stay as they are.
    """
    found = [(path, m) for path, m in module.named_modules() if isinstance(m, QUANTIZED)]
    module.update_modules(tree_unflatten([(path, dequantized(m, dtype)) for path, m in found]))


def dequantized(layer: Any, dtype: mx.Dtype) -> nn.Module:
    """Return a quantized layer as a plain one, its arrays in ``dtype``."""
    weight = _weight(layer, dtype)
    plain = _plain(layer, weight.shape)
    plain.weight = weight
    if "bias" in layer:
        plain.bias = layer.bias.astype(dtype)
    return cast(nn.Module, plain)


def _weight(layer: Any, dtype: mx.Dtype) -> mx.array:
    # Scales first: dequantizing in their float16 would round every weight once more. Those of some
    # modes are no numbers to compute with.
    scales, biases = layer.scales, layer.get("biases")
    if mx.issubdtype(scales.dtype, mx.floating):
        scales = scales.astype(dtype)
        biases = None if biases is None else biases.astype(dtype)
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode, "dtype": dtype}
    each = layer.get("global_scale")
    if each is None:
        return mx.dequantize(layer.weight, scales, biases, **how)
    experts = range(layer.weight.shape[0])
    return mx.stack(
        [mx.dequantize(layer.weight[e], scales[e], global_scale=each[e], **how) for e in experts]
    )


def _plain(layer: Any, shape: tuple[int, ...]) -> Any:
    """Return a plain layer of that shape, whose weight is to be replaced."""
    bias = "bias" in layer
    if isinstance(layer, nn.QuantizedEmbedding):
        return nn.Embedding(*shape)
    if isinstance(layer, QuantizedSwitchLinear):
        experts, outputs, inputs = shape
        return SwitchLinear(inputs, outputs, experts, bias=bias)
    if isinstance(layer, QuantizedMultiLinear):
        return MultiLinear(*shape[::-1])
    outputs, inputs = shape
    return nn.Linear(inputs, outputs, bias=bias)
