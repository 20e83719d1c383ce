"""Depthwise convolutions as sums of shifted products: MLX's own take ten times as long on a CPU.

The layers before a gated delta rule, a state space and LFM2's gates see each feature by itself, a
few tokens back. MLX lays out the tokens of every window first.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from jobs.backend.mlx import mx, nn


class ShiftedConvolution(nn.Conv1d):
    """``nn.Conv1d`` of each feature by itself, without padding; its weight is frozen.

    Attributes:
        fast: of the class, for the whole process: False computes as MLX's layer does.
    """

    fast: ClassVar[bool] = True

    def __call__(self, x: mx.array) -> mx.array:
        """Return [B, T - K + 1, C] for x of [B, T, C] and K weights a feature."""
        if not (ShiftedConvolution.fast and x.dtype == mx.float32):
            plain: mx.array = super().__call__(x)  # type: ignore[no-untyped-call]  # MLX's own
            return plain
        y = shifted_sums(x, self.weight[..., 0].T)
        return y + self.bias if "bias" in self else y


def put_in(model: nn.Module) -> None:
    """Let a model compute such convolutions as sums."""
    for layer in model.modules():
        if type(layer) is nn.Conv1d and _is_depthwise(layer):
            layer.__class__ = ShiftedConvolution


def used(model: nn.Module) -> bool:
    """Tell whether a model has some."""
    return any(isinstance(layer, ShiftedConvolution) for layer in model.modules())


def _is_depthwise(layer: Any) -> bool:
    features, _, each = layer.weight.shape
    plain = (layer.stride, layer.padding, layer.dilation) == (1, 0, 1)
    return plain and each == 1 and layer.groups == features


def shifted_sums(x: mx.array, weights: mx.array) -> mx.array:
    """Return y_t = sum of w_j x_(t+j) for each feature; there is no gradient for the weights.

    Args:
        x: shape [B, T, C].
        weights: shape [K, C].

    Returns:
        Shape [B, T - K + 1, C].
    """
    width = len(weights)

    def sums(x: mx.array, weights: list[mx.array]) -> mx.array:
        length = x.shape[1] - width + 1
        parts = [x[:, n : n + length] * weight for n, weight in enumerate(weights)]
        return sum(parts[1:], parts[0])

    @mx.custom_function
    def forward(x: mx.array) -> mx.array:
        return sums(x, list(weights))

    @forward.vjp
    def backward(_: mx.array, cotangent: mx.array, __: mx.array) -> mx.array:
        # Each x_t is in K sums: those of the tokens before it, by the weights in reverse.
        around = mx.pad(cotangent, [(0, 0), (width - 1, width - 1), (0, 0)])
        return sums(around, list(weights[::-1]))

    return cast(mx.array, forward(x))
