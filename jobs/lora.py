"""The LoRA layer as a CPU computes it fast; elsewhere mlx-lm's own is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.mlx import LoRALinear, mx, nn

# Random numbers of 16 bits decide what is dropped: probabilities are rounded to so many parts.
PARTS = 1 << 16


@dataclass
class DropoutNoise:
    """What dropout keeps in one micro-batch, for all layers at once.

    MLX draws a random number in 8 ns on a CPU, and a step wants millions: 15% of its time. NumPy's
    SFC64 draws sixteen bits in half a nanosecond.

    Attributes:
        dropped: of 65,536 parts.
        width: input features of all layers together; each layer owns a range of them.
        kept: while a step is computed, bool [T * width] for T tokens; None when measuring.
    """

    dropped: int
    width: int = 0
    kept: mx.array | None = None

    @contextmanager
    def given(self, kept: mx.array) -> Iterator[None]:
        """Let the layers drop all but ``kept`` while the block runs."""
        self.kept = kept
        try:
            yield
        finally:
            self.kept = None

    def draw(self, tokens: int, *seeds: int) -> npt.NDArray[np.bool_]:
        """Return what is kept of ``tokens`` tokens; a function of its arguments alone."""
        bits = np.random.SFC64(np.random.SeedSequence(seeds))
        size = tokens * self.width if self.dropped else 0
        numbers = np.asarray(bits.random_raw(-(-size // 4)), dtype=np.uint64).view(np.uint16)
        kept: npt.NDArray[np.bool_] = numbers[:size] >= self.dropped
        return kept

    def own_range(self, features: int) -> int:
        """Reserve the numbers of one more layer; return where they start."""
        start, self.width = self.width, self.width + features
        return start

    def dropout(self, x: mx.array, start: int) -> mx.array:
        """Return what is kept of a layer's input, scaled up; the layer's range is at ``start``."""
        if self.kept is None or not self.dropped:
            return x
        first = self.kept.size // self.width * start
        kept = self.kept[first : first + x.size].reshape(x.shape)
        return mx.where(kept, x * (PARTS / (PARTS - self.dropped)), 0.0)


class CpuLoRALinear(LoRALinear):
    """y = W x + (scale * dropout(x) A) B, with dropout from :class:`DropoutNoise`."""

    @classmethod
    def of(
        cls, layer: nn.Linear, rank: int, dropout: float, scale: float, noise: DropoutNoise
    ) -> CpuLoRALinear:
        """Adapt ``layer``; the matrices start as mlx-lm's do."""
        adapted = cls(layer.weight.shape[1], layer.weight.shape[0], rank, dropout, scale)
        adapted.linear = layer
        adapted._noise = noise
        adapted._start = noise.own_range(layer.weight.shape[1])
        return adapted

    def __call__(self, x: mx.array) -> mx.array:
        """Return the layer's output, [..., out], for x of [..., in]."""
        # A checkpoint: what dropout leaves of x is made again for the gradient of A, cheaply,
        # rather than kept for each layer until then.
        narrow = mx.checkpoint(self._narrow)(x, self.lora_a)
        # Scaled on the narrow side: rank numbers a token, not all features.
        y: mx.array = self.linear(x) + (narrow * self.scale) @ self.lora_b
        return y

    def _narrow(self, x: mx.array, lora_a: mx.array) -> mx.array:
        narrow: mx.array = self._noise.dropout(x, self._start) @ lora_a
        return narrow
