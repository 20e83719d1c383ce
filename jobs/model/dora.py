"""DoRA: LoRA that also learns how long each row of the weight is (arXiv 2402.09353).

With the directions V = W + scale * (A B)^T, [out, in], a layer computes::

    y = m / |V| * (W x + scale * dropout(x) A B) + bias

where m, [out], starts as the lengths of the rows of W, so that a new adapter changes nothing. |V|,
the lengths of the rows of V, is a constant for the gradient (section 4.3 of the paper), and dropout
has no part in it. All of that is as mlx-lm's ``DoRALinear`` computes it, whose adapters these are.

Making V takes a matrix of the layer's size for each step, and mlx-lm dequantizes W besides. But ::

    |V|^2 = |W|^2 + 2 scale * rows(W A, B^T) + scale^2 * rows(B^T (A^T A), B^T)

with rows(X, Y) the sums of X * Y over each row: W A is what the layer makes of the few columns of
A, as of so many tokens more, and |W|^2 never changes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jobs.backend.dequantize import dequantized, is_quantized
from jobs.backend.mlx import DoRALinear, mx, nn
from jobs.model.lora import DropoutNoise, NoiseDropout


class NarrowDoRALinear(DoRALinear):
    """mlx-lm's DoRA layer, without a matrix of the layer's size in each step.

    Attributes:
        fast: of the class, for the whole process: False computes as mlx-lm's layer does.
    """

    fast: ClassVar[bool] = True

    @classmethod
    def of(
        cls, layer: nn.Linear | nn.QuantizedLinear, rank: int, scale: float, noise: DropoutNoise
    ) -> NarrowDoRALinear:
        """Adapt ``layer``; the arrays start as mlx-lm's do, and no weight is read yet."""
        outputs, inputs = layer.weight.shape
        if isinstance(layer, nn.QuantizedLinear):
            inputs = inputs * 32 // layer.bits
        adapted = cls(inputs, outputs, rank, scale=scale)
        # Past `set_linear`, which would take the lengths in the precision of the scales.
        adapted.linear = layer
        adapted._squares = mx.sum(mx.square(_weight(layer)), axis=1)
        adapted.m = mx.sqrt(adapted._squares)
        adapted.dropout = NoiseDropout(noise, inputs)  # type: ignore[assignment]  # called alike
        return adapted

    @property
    def half(self) -> bool:
        """Whether its weight is one of 16 bits to compute with."""
        layer: Any = self.linear
        held: mx.array = layer.scales if is_quantized(layer) else layer.weight
        return held.dtype != mx.float32

    def __call__(self, x: mx.array) -> mx.array:
        """Return the layer's output, [..., out], for x of [..., in]."""
        if not NarrowDoRALinear.fast:
            plain: mx.array = super().__call__(x)  # type: ignore[no-untyped-call]  # mlx-lm's own
            return plain
        # As in CpuLoRALinear: dropped out anew for A's gradient, and scaled where it is narrow.
        narrow = mx.checkpoint(self._narrow)(x, self.lora_a)
        added = (narrow * self.scale) @ self.lora_b
        y = _without_bias(self.linear, x) + added.astype(x.dtype)
        y = (self.m / self._lengths()).astype(x.dtype) * y
        return y + self.linear.bias if "bias" in self.linear else y

    def _narrow(self, x: mx.array, lora_a: mx.array) -> mx.array:
        narrow: mx.array = self.dropout(x) @ lora_a
        return narrow

    def _lengths(self) -> mx.array:
        """Return |V|, [out], through which no gradient flows."""
        a, b = mx.stop_gradient(self.lora_a), mx.stop_gradient(self.lora_b)
        crossed = mx.sum(_without_bias(self.linear, a.T) * b, axis=0)
        own = mx.sum(((a.T @ a) @ b) * b, axis=0)
        return mx.sqrt(self._squares + 2 * self.scale * crossed + self.scale**2 * own)


def _weight(layer: Any) -> mx.array:
    """Return the weight of a layer, float32, [out, in]."""
    plain: Any = dequantized(layer, mx.float32) if is_quantized(layer) else layer
    weight: mx.array = plain.weight.astype(mx.float32)
    return weight


def _without_bias(layer: Any, x: mx.array) -> mx.array:
    """Return W x, [..., out], for x of [..., in]."""
    if not is_quantized(layer):
        y: mx.array = x @ layer.weight.T
        return y
    return mx.quantized_matmul(
        x,
        layer.weight,
        scales=layer.scales,
        biases=layer.get("biases"),
        transpose=True,
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,
    )
