"""LoRA layers: dropout that draws from seed and step alone, and a layer that is fast on a CPU.

mlx-lm's dropout draws from a global state, which a block that is computed again in the backward
pass would find changed. Here the random numbers of a step are an argument of what is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from jobs.backend.mlx import LoRALinear, mx, nn

# Random numbers of 16 bits decide what is dropped: probabilities are rounded to so many parts.
PARTS = 1 << 16


class DropoutNoise:
    """The random numbers of one micro-batch, for all dropout layers at once: here a key for each.

    Args:
        probability: of dropping an input feature.

    Attributes:
        factor: by which the features that are kept are scaled up.
        given: what :meth:`draw` returned, and ``factor``, while a step is computed; None when
            measuring. An array rather than a number: MLX writes numbers into the kernels that it
            compiles, and would compile them anew for each probability that a sweep tries.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability
        self.factor = 1 / (1 - probability)
        self.given: tuple[mx.array, mx.array] | None = None
        self.reserved = 0

    @contextmanager
    def using(self, numbers: mx.array, factor: mx.array) -> Iterator[None]:
        """Let the layers drop out as ``numbers`` say while the block runs."""
        self.given = numbers, factor
        try:
            yield
        finally:
            self.given = None

    def reserve(self, features: int) -> int:
        """Make room for one more layer of so many input features; return its place."""
        self.reserved += 1
        return self.reserved - 1

    def draw(self, tokens: int, *seeds: int) -> npt.NDArray[Any]:
        """Return the numbers for ``tokens`` tokens; a function of its arguments alone."""
        return np.random.SeedSequence(seeds).generate_state(2)

    def dropout(self, x: mx.array, place: int) -> mx.array:
        """Return the input of the layer at ``place`` without what is dropped, scaled up."""
        if self.given is None or not self.probability:
            return x
        numbers, factor = self.given
        return mx.where(self._kept(numbers, x.shape, place), x * factor.astype(x.dtype), 0.0)

    def _kept(self, given: mx.array, shape: tuple[int, ...], place: int) -> mx.array:
        key = mx.random.split(given, self.reserved)[place]
        return mx.random.bernoulli(1 - self.probability, shape, key=key)


class HostNoise(DropoutNoise):
    """The same drawn by NumPy, bool [T * features of all layers] for T tokens.

    MLX draws a random number in 8 ns on a CPU, and a step wants millions: 15% of its time. NumPy's
    SFC64 draws sixteen bits in half a nanosecond.
    """

    def __init__(self, probability: float) -> None:
        self._dropped = min(round(probability * PARTS), PARTS - 1)
        super().__init__(self._dropped / PARTS)

    def reserve(self, features: int) -> int:
        """Make room for one more layer; its place is where its features begin."""
        self.reserved += features
        return self.reserved - features

    def draw(self, tokens: int, *seeds: int) -> npt.NDArray[Any]:
        """Return which features of which tokens are kept."""
        bits = np.random.SFC64(np.random.SeedSequence(seeds))
        size = tokens * self.reserved if self._dropped else 0
        numbers = np.asarray(bits.random_raw(-(-size // 4)), dtype=np.uint64).view(np.uint16)
        kept: npt.NDArray[np.bool_] = numbers[:size] >= self._dropped
        return kept

    def _kept(self, given: mx.array, shape: tuple[int, ...], place: int) -> mx.array:
        tokens, size = given.size // self.reserved, math.prod(shape)
        kept = given[tokens * place : tokens * (place + shape[-1])]
        if size > kept.size:  # experts see each token several times
            kept = mx.tile(kept, -(-size // kept.size))
        return kept[:size].reshape(shape)


class NoiseDropout(nn.Module):
    """What stands for the dropout of mlx-lm's LoRA layer; its numbers are a step's."""

    def __init__(self, noise: DropoutNoise, features: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # mlx's own annotation lacks a return
        self._noise, self._place = noise, noise.reserve(features)

    def __call__(self, x: mx.array) -> mx.array:
        """Return ``x`` with some of it dropped, while a step is computed."""
        return self._noise.dropout(x, self._place)


class CpuLoRALinear(LoRALinear):
    """y = W x + (scale * dropout(x) A) B, with dropout from :class:`DropoutNoise`.

    Attributes:
        fast: of the class, for the whole process: False computes as mlx-lm's layer does.
    """

    fast: ClassVar[bool] = True

    @classmethod
    def of(cls, layer: nn.Linear, rank: int, scale: float, noise: DropoutNoise) -> CpuLoRALinear:
        """Adapt ``layer``; the matrices start as mlx-lm's do."""
        outputs, inputs = layer.weight.shape
        adapted = cls(inputs, outputs, rank, scale=scale)
        adapted.linear = layer
        adapted.dropout = NoiseDropout(noise, inputs)  # type: ignore[assignment]  # called alike
        return adapted

    def __call__(self, x: mx.array) -> mx.array:
        """Return the layer's output, [..., out], for x of [..., in]."""
        if not CpuLoRALinear.fast:
            plain: mx.array = super().__call__(x)  # type: ignore[no-untyped-call]  # mlx-lm's own
            return plain
        # A checkpoint: what dropout leaves of x is made again for the gradient of A, cheaply,
        # rather than kept for each layer until then.
        narrow = mx.checkpoint(self._narrow)(x, self.lora_a)
        # Scaled on the narrow side: rank numbers a token, not all features.
        y: mx.array = self.linear(x) + (narrow * self.scale) @ self.lora_b
        return y

    def _narrow(self, x: mx.array, lora_a: mx.array) -> mx.array:
        narrow: mx.array = self.dropout(x) @ lora_a
        return narrow
