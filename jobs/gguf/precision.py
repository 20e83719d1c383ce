"""In how many bits the weights of a GGUF stand."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize

from jobs.errors import ModelError

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
Array = np.ndarray[Any, np.dtype[Any]]
# The matrices of the vocabulary: an error there is in every token, so they keep eight bits.
VOCABULARY = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Precision:
    """A precision that an export can have.

    Attributes:
        matrices: how matrices are stored.
        file_type: what the GGUF says of itself.
    """

    matrices: GGMLQuantizationType
    file_type: LlamaFileType

    def of(self, name: str, shape: tuple[int, ...]) -> GGMLQuantizationType:
        """Return how one tensor is stored: vectors in float32, and what has no whole blocks."""
        if len(shape) < 2:
            return F32
        few_bits = bits_each(self.matrices) < bits_each(GGMLQuantizationType.Q8_0)
        chosen = self.matrices
        if few_bits and name in VOCABULARY:
            chosen = GGMLQuantizationType.Q8_0
        block, _ = GGML_QUANT_SIZES[chosen]
        return chosen if shape[-1] % block == 0 else F16


def bits_each(kind: GGMLQuantizationType) -> float:
    """Return the bits that a number takes, its share of the scales included."""
    numbers, size = GGML_QUANT_SIZES[kind]
    return 8 * size / numbers


def stored_bytes(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    """Return what a tensor takes."""
    numbers, size = GGML_QUANT_SIZES[kind]
    return prod(shape) // numbers * size


def stored(name: str, array: Array, kind: GGMLQuantizationType) -> Array:
    """Return a float32 tensor as it is stored: floats, or bytes.

    Raises:
        ModelError: it holds numbers that the precision does not reach.
    """
    with np.errstate(over="ignore"):
        found = quantize(np.ascontiguousarray(array), kind)
    if kind is F16 and not np.isfinite(found).all():
        raise ModelError(
            f"{name} holds numbers beyond 65,504, which float16 does not reach.",
            "Write it with --gguf bf16.",
        )
    return found


PRECISIONS = {
    "f32": Precision(F32, LlamaFileType.ALL_F32),
    "f16": Precision(F16, LlamaFileType.MOSTLY_F16),
    "bf16": Precision(GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": Precision(GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q5_1": Precision(GGMLQuantizationType.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "q5_0": Precision(GGMLQuantizationType.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_1": Precision(GGMLQuantizationType.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "q4_0": Precision(GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
